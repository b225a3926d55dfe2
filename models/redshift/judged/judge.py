"""Reports on the refined redshift against every baseline and the conditions of its protocol."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mmbroker.models.packaged.refined import load_refined
from mmbroker.models.packaged.templates import load_templates
from mmbroker.models.pages.render import write
from mmbroker.models.real_data.catalogues import goods_north
from mmbroker.models.real_data.split import TEST, VALIDATION
from mmbroker.models.redshift.baselines.baselines import PUBLISHED, is_published, load_baselines
from mmbroker.models.redshift.figures import REFINED, judged_part
from mmbroker.models.redshift.judged import (
    in_stream,
    simulated_estimates,
    simulated_spectra,
    targets,
    trials,
)
from mmbroker.models.redshift.judged.protocol import ERRORS, OPENINGS, best_estimators
from mmbroker.models.redshift.judged.scatter import scatter_figure
from mmbroker.models.redshift.sample import Estimate, sample_of
from mmbroker.processors.redshift import ConventionalRedshift
from mmbroker.processors.redshift.refined import RefinedRedshift

NAME = "redshift"
_PARTS = {"validation": VALIDATION, "test": TEST}
_COVERAGE = (0.65, 0.71)
_MINUS = f"{REFINED}_minus"


def report(tables: Path | None, output: Path) -> None:
    """Write redshift.md, its figures and its numbers.

    Args:
        tables: the folder of the published tables; without it the page has only simulated galaxies,
            and says that the tables are missing.
        output: the folder to write to.
    """
    output.mkdir(parents=True, exist_ok=True)
    conventional = ConventionalRedshift().with_templates(load_templates())
    model = load_refined(conventional)
    numbers: dict[str, Any] = {
        "in_force": in_stream.IN_FORCE,
        "test_openings": OPENINGS,
        "simulated": simulated_estimates.judged(conventional, model),
        "simulated_with_spectra": simulated_spectra.judged(),
    }
    if tables is not None:
        numbers |= _real(tables, conventional, model, output)
    write(NAME, numbers, output)


def _real(
    tables: Path, conventional: ConventionalRedshift, model: RefinedRedshift, output: Path
) -> dict[str, Any]:
    """Compute the numbers of real galaxies, and draw their figure."""
    everything = sample_of(goods_north(tables), conventional)
    baselines = load_baselines(conventional)
    samples = {name: everything.select(everything.split == part) for name, part in _PARTS.items()}
    parts = {
        name: judged_part(one, baselines, conventional, model) for name, one in samples.items()
    }
    test = samples["test"]
    test = test.select(np.isfinite(test.truth) & (test.inputs.count == 2))
    log_posterior, _ = model.log_posterior(test.inputs)
    scatter_figure(
        output / f"{NAME}_test.png",
        test.truth,
        {
            f"{PUBLISHED}(mean of the two)": Estimate.of_points(
                np.expm1(test.inputs.centre), test.truth
            ),
            "conventional with templates": Estimate.of_densities(
                test.inputs.log_conventional, test.truth
            ),
            "refined": Estimate.of_densities(log_posterior, test.truth),
        },
        "GOODS-N (real), test part",
    )
    return {
        "parts": parts,
        "best": best(parts),
        "conditions": {name: conditions(one["faint"]) for name, one in parts.items()},
        "targets": {name: targets.targets(one, baselines, model) for name, one in samples.items()},
        "cosmos": in_stream.cosmos_figures(tables, conventional),
        "trial_redshifts": trials.figures(everything, model),
    }


def best(parts: dict[str, dict[str, Any]]) -> dict[str, str]:
    """The names of the best published redshift on the test part, and of the best baseline."""
    faint = parts["test"]["faint"]
    return best_estimators(faint, [name for name in faint if name != REFINED])


def conditions(estimators: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Test the three conditions of the protocol.

    Args:
        estimators: the figures of the faint galaxies, by estimator.

    Returns:
        For each condition whether it is ``met``. ``improvement`` also has the name of the best
        published redshift (``against``), the ``difference`` of the MAE from it, and the same
        ``relative`` to its MAE. ``strongest`` also has the errors that are larger than with the
        best estimator (``worse``): ours, theirs, and that estimator's name (``of``).
    """
    ours = estimators[REFINED]
    published = {name: one for name, one in estimators.items() if is_published(name)}
    name, best = min(published.items(), key=lambda each: float(each[1]["mae"][0]))
    difference = best[_MINUS]["mae"]
    relative = difference[0] / best["mae"][0]
    worse = {}
    for key in ERRORS:
        rival, strongest = min(
            ((other, one[key][0]) for other, one in estimators.items() if other != REFINED),
            key=lambda each: float(each[1]),
        )
        if ours[key][0] > strongest:
            worse[key] = {"ours": ours[key][0], "theirs": strongest, "of": rival}
    return {
        "improvement": {
            "against": name,
            "relative": relative,
            "difference": difference,
            "met": bool(relative <= targets.IMPROVEMENT and difference[2] < 0),
        },
        "coverage": {"met": bool(_COVERAGE[0] <= ours["coverage68"][0] <= _COVERAGE[1])},
        "strongest": {"worse": worse, "met": not worse},
    }
