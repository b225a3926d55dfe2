"""Judges the critic and its generator by the protocol, and writes numbers, figures and page."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmbroker.models.critic.examples import Examples, real_examples, simulated_examples
from mmbroker.models.critic.exported import ExportedNetworks
from mmbroker.models.critic.judged import verdict
from mmbroker.models.critic.judged.figures import draw
from mmbroker.models.critic.measures import Figure, figure, measure, not_genuine
from mmbroker.models.critic.sample_quality import (
    correlations,
    from_marginals,
    hot_deck,
    marginals,
    nearest_distance,
    spreads,
    trees,
    two_sample_scores,
    under_exchange,
)
from mmbroker.models.measures.discrimination import (
    area_under_curve,
    receiver_curve,
    resampled_areas,
)
from mmbroker.models.packaged.comparison import kept_to_compare
from mmbroker.models.packaged.networks import WEIGHTS
from mmbroker.models.pages.render import write
from mmbroker.models.real_data.split import TEST, TRAIN, VALIDATION
from mmbroker.processors.scoring.calibration import Calibration
from mmbroker.schemas.events import Floats

NAME = "critic"
PREVIOUS = "version_1"
"""The folder of the former critic and generator."""

SIMULATED_GALAXIES = 4_000
"""The number of galaxies simulated with another seed, which neither version has met."""

SEED = 2
Draws = Callable[[Examples, int], Examples]


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """Real or simulated galaxies: those of the training, and those that judge.

    Attributes:
        learnt: examples of the training split.
        unseen: examples of the split that judges.
    """

    learnt: Examples
    unseen: Examples

    @classmethod
    def of(cls, examples: Examples, split: int) -> Group:
        """Take the examples of the training split and of another.

        Args:
            examples: the examples of all splits.
            split: the split that judges.
        """
        return cls(examples.where(examples.split == TRAIN), examples.where(examples.split == split))


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """One version of the networks.

    Attributes:
        networks: the critic and the generator.
        calibrated: the calibration of the critic.
    """

    networks: ExportedNetworks
    calibrated: Calibration

    @classmethod
    def load(cls, folder: Path) -> Judged:
        """Load the networks and the calibration from a folder of weights.

        Raises:
            FileNotFoundError: a file is missing.
        """
        text = (folder / "critic_calibration.json").read_text()
        return cls(ExportedNetworks(folder), Calibration.from_json(text))


def report(tables: Path | None, output: Path) -> None:
    """Judge on the test split, and write critic.md, critic_*.png and critic.json.

    The version that Triton serves is chosen on the validation split.

    Args:
        tables: the folder of the published tables; without it simulated galaxies alone are judged.
        output: the folder to write to.

    Raises:
        FileNotFoundError: the former version is missing, as in an installed package.
    """
    output.mkdir(parents=True, exist_ok=True)
    previous = kept_to_compare(PREVIOUS)
    numbers = judge(tables, WEIGHTS, previous, TEST)
    history = json.loads((WEIGHTS / "critic_curves.json").read_text())
    draw(numbers, history, output)
    if "real" in numbers:
        validation = judge(tables, WEIGHTS, previous, VALIDATION)["real"]
        # How draws differ is looked for here, so that the test split need not be opened for it.
        validation["spreads"] = spreads(*validation["shown"])
        numbers["real_validation"] = validation
    for group in numbers.values():
        group.pop("curves")
        group.pop("shown")
    card = json.loads((WEIGHTS / "critic.json").read_text())
    write(NAME, with_verdict(numbers, card, history), output)


def with_verdict(
    numbers: dict[str, Any], card: dict[str, Any], history: Sequence[dict[str, float]]
) -> dict[str, Any]:
    """Add to the numbers whether they meet the conditions, and how the networks were trained.

    Args:
        numbers: the numbers of each group on the test split, and of real galaxies on the validation
            split.
        card: the card of the critic that is judged.
        history: the measurements of each epoch of training.
    """
    if "real" in numbers:
        numbers["real"]["conditions"] = verdict.conditions(numbers["real"])
    if "real_validation" in numbers:
        validation = numbers["real_validation"]
        validation["version_2_worse"] = verdict.version_2_worse(validation)
        validation["faint"] = verdict.faint_fluxes(validation["spreads"])
    return {
        "training": verdict.training(card, history),
        "test_openings": verdict.OPENINGS,
        "limits": verdict.LIMITS,
        **numbers,
    }


def judge(
    tables: Path | None,
    weights: Path,
    previous: Path,
    split: int,
    galaxies: int = SIMULATED_GALAXIES,
) -> dict[str, Any]:
    """Compute all numbers of the protocol, for simulated and, if there are tables, real galaxies.

    Args:
        tables: the folder of the published tables, if there are any.
        weights: the folder of the version to judge.
        previous: the folder of the version to compare with.
        split: the split that judges.
        galaxies: the number of simulated galaxies.
    """
    card = json.loads((weights / "critic.json").read_text())
    seed = card["recipe"]["seed"]
    ours, theirs = Judged.load(weights), Judged.load(previous)
    simulated = Group.of(simulated_examples(galaxies, seed + 1), split)
    numbers = {
        "simulated": {**_samples(ours, theirs, simulated), **_critic(ours, theirs, simulated)}
    }
    if tables is not None:
        real = Group.of(real_examples(tables, seed), split)
        beside = {"simulated": simulated.unseen}
        numbers["real"] = {**_samples(ours, theirs, real), **_critic(ours, theirs, real, beside)}
    return numbers


def _samples(ours: Judged, theirs: Judged, group: Group) -> dict[str, Any]:
    """The sample quality of the generators and of the baselines."""
    learnt, unseen = group.learnt.complete, group.unseen.complete
    # A baseline draws other samples for another seed, as a generator does.
    sources: dict[str, Draws] = {
        "version 2": ours.networks.generated,
        "version 1": theirs.networks.generated,
        "hot deck": lambda shown, seed: hot_deck(shown, learnt, np.random.default_rng(seed)),
        "marginals": lambda shown, seed: from_marginals(shown, learnt, np.random.default_rng(seed)),
    }
    found: dict[str, Any] = {}
    areas: dict[str, Floats] = {}
    pair = unseen.galaxy, unseen.galaxy
    for name, source in sources.items():
        known, drawn = source(learnt, SEED), source(unseen, SEED + 1)
        good, bad = two_sample_scores((learnt, known), (unseen, drawn))
        areas[name] = resampled_areas(good, bad, pair)
        found[name] = {
            "marginals": round(marginals(unseen, drawn), 4),
            "correlations": round(correlations(unseen, drawn), 4),
            "two_sample": figure(area_under_curve(good, bad), areas[name]),
            **_memorisation(learnt, known, unseen, drawn),
        }
        if name == "version 2":
            shown = drawn
            null = {
                measured.__name__: under_exchange(measured, unseen, drawn)
                for measured in (marginals, correlations)
            }
    for name in ("version 1", "hot deck"):
        value = found["version 2"]["two_sample"][0] - found[name]["two_sample"][0]
        found[name]["version_2_minus_this"] = figure(value, areas["version 2"] - areas[name])
    return {
        "galaxies": len(unseen),
        "learnt": {"galaxies": len(learnt), "examples": len(group.learnt)},
        "samples": found,
        "null": {name: figure(float(each.mean()), each) for name, each in null.items()},
        "shown": (unseen, shown),
    }


def _memorisation(
    learnt: Examples, known: Examples, unseen: Examples, drawn: Examples
) -> dict[str, Figure]:
    """Measure whether draws are nearer to the training galaxies than they should be.

    Returns:
        The chance that a draw for a training galaxy is nearer than a draw for an unseen galaxy, and
        that the latter is nearer than the unseen galaxy itself.
    """
    distances = {
        name: nearest_distance(examples, learnt)
        for name, examples in (("known", known), ("drawn", drawn), ("unseen", unseen))
    }
    galaxies = {"known": known.galaxy, "drawn": drawn.galaxy, "unseen": unseen.galaxy}

    def chance(near: str, far: str) -> Figure:
        comparable = {name: np.isfinite(distances[name]) for name in (near, far)}
        further, nearer = (distances[name][comparable[name]] for name in (far, near))
        names = galaxies[far][comparable[far]], galaxies[near][comparable[near]]
        return figure(area_under_curve(further, nearer), resampled_areas(further, nearer, names))

    return {"known_nearer": chance("known", "drawn"), "drawn_nearer": chance("drawn", "unseen")}


def _critic(
    ours: Judged, theirs: Judged, group: Group, beside: dict[str, Examples] | None = None
) -> dict[str, Any]:
    """Judge both critics on the same fingerprints, and trees trained on the same examples."""
    genuine = group.unseen
    others = not_genuine(ours.networks, genuine, SEED)
    others["generated by version 1"] = theirs.networks.generated(genuine, SEED)
    others |= beside or {}
    taught = not_genuine(ours.networks, group.learnt, SEED + 1)
    outputs = ours.networks.outputs
    good = outputs(genuine)
    compared = {}
    pair = genuine.galaxy, genuine.galaxy
    for kind in ("generated", "corrupted"):
        score = trees(group.learnt, taught[kind])
        best, worst = score(genuine), score(others[kind])
        baseline = resampled_areas(best, worst, pair)
        critic = outputs(others[kind])
        value, area = area_under_curve(good, critic), area_under_curve(best, worst)
        compared[kind] = {
            "area": figure(area, baseline),
            "critic_minus_trees": figure(
                value - area, resampled_areas(good, critic, pair) - baseline
            ),
        }
    curves = {name: receiver_curve(good, outputs(each)) for name, each in others.items()}
    return {
        "critic": {
            "version 2": measure(ours.networks, ours.calibrated, genuine, others),
            "version 1": measure(theirs.networks, theirs.calibrated, genuine, others),
        },
        "trees": compared,
        "curves": curves,
    }
