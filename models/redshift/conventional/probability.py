"""Measures how good the stated probability is that a redshift is right, and writes its card.

The calibration in force is measured, not fitted: ``mmbroker evaluate calibrate`` fits it, on the
same tables, and writes it without a card. This module adds the card, and leaves the knots and the
id of the calibration as they are:

MMBROKER_DATA=folder/of/tables python -m mmbroker.models.redshift.conventional.probability
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from mmbroker.models.measures import resampling
from mmbroker.models.packaged.cards import about
from mmbroker.models.packaged.networks import WEIGHTS
from mmbroker.models.real_data.catalogues import (
    COSMOS,
    RealGalaxy,
    cosmos,
    goods_north,
    spt,
)
from mmbroker.models.real_data.folder import add_data_option
from mmbroker.models.redshift import measures
from mmbroker.models.redshift.conventional.tune import Sample
from mmbroker.models.redshift.conventional.tune_on_training import samples_of
from mmbroker.processors.redshift import ConventionalRedshift
from mmbroker.processors.scoring.calibration import Calibration, fit_logistic
from mmbroker.processors.scoring.score import REDSHIFT_TOLERANCE, mass_around_best
from mmbroker.schemas import __version__
from mmbroker.schemas.events import Floats

NAME = "redshift_calibration"
PATH = WEIGHTS / f"{NAME}.json"
TABLES = {
    "GOODS-N": "GOODS-N (Liu et al. 2018, redshifts of Skelton et al. 2014)",
    "COSMOS": "COSMOS far-infrared (Drew & Casey 2022)",
    "SPT": "SPT-SMG (Reuter et al. 2020)",
}
FOLDS = 5
EDGES = (0.0, 0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 1.0)
"""The edges of the bins of stated probabilities."""

_ON_CARD = ("right", "brier", "brier_out_of_fold", "brier_of_mass")


@dataclass(frozen=True, slots=True, eq=False)
class Cases:
    """N redshifts of real galaxies; a galaxy with published redshifts counts with and without them.

    Attributes:
        group: the index into ``groups``, shape (N,).
        galaxy: the name of each galaxy, shape (N,).
        mass: the posterior's probability within REDSHIFT_TOLERANCE of the best redshift, shape
            (N,).
        stated: the calibrated probability, shape (N,).
        held_out: the probability by calibrations that were fitted to other galaxies, shape (N,).
        right: whether the best redshift is right, shape (N,).
        groups: the names of the groups.
        secure: the names of galaxies in COSMOS whose spectroscopic redshift is secure.
    """

    group: NDArray[np.int64]
    galaxy: NDArray[np.str_]
    mass: Floats
    stated: Floats
    held_out: Floats
    right: NDArray[np.bool_]
    groups: tuple[str, ...]
    secure: tuple[str, ...]

    def select(self, chosen: NDArray[np.bool_]) -> Cases:
        """The chosen cases.

        Args:
            chosen: whether each case is chosen, shape (N,).
        """
        return Cases(
            self.group[chosen],
            self.galaxy[chosen],
            self.mass[chosen],
            self.stated[chosen],
            self.held_out[chosen],
            self.right[chosen],
            self.groups,
            self.secure,
        )


def cases(tables: Path, calibration: Calibration) -> Cases:
    """Estimate the conventional redshift in force of all galaxies with a spectroscopic redshift.

    Args:
        tables: the folder of the published tables.
        calibration: the calibration of the probability.
    """
    estimator = ConventionalRedshift()
    groups: dict[str, list[Sample]] = {}
    for name, galaxies in _read(tables).items():
        *published, alone = samples_of(name, galaxies, FOLDS)
        # Redshifts published for SPT are from the far infrared that the posterior rests on.
        if published and name == "GOODS-N":
            groups[f"{name}, with published redshifts"] = published
        groups[f"{name}, far infrared alone"] = [alone]
    parts: list[tuple[Any, ...]] = []
    for place, many in enumerate(groups.values()):
        for sample in many:
            names = np.array([one.galaxy_id for one in sample.fingerprints])
            posteriors = estimator.estimate(sample.fingerprints)
            best = np.array([one.best for one in posteriors])
            right = np.abs(measures.deviation(best, sample.truth)) <= REDSHIFT_TOLERANCE
            mass = np.array([mass_around_best(one) for one in posteriors])
            parts.append((np.full(len(best), place), names, mass, right, sample.fold))
    group, galaxy, mass, right, fold = (np.concatenate(each) for each in zip(*parts, strict=True))
    held_out = np.empty(len(mass))
    for number in range(FOLDS):
        out = fold == number
        held_out[out] = fit_logistic(mass[~out], right[~out]).apply(mass[out])
    stated = calibration.apply(mass)
    secure = [one.name for one in cosmos(tables) if one.spectroscopic_redshift]
    return Cases(group, galaxy, mass, stated, held_out, right, tuple(groups), tuple(secure))


def figures(found: Cases) -> dict[str, Any]:
    """Compute counts, Brier scores and shares that are right, by group and by bin of probability.

    95 % intervals are over resamples of galaxies.
    """
    each = {name: found.select(found.group == k) for k, name in enumerate(found.groups)}
    secure = {
        f"{name}, secure": one.select(np.isin(one.galaxy, found.secure))
        for name, one in each.items()
        if name.startswith("COSMOS")
    }
    both = {"all": found, **each, **secure}
    return {
        "groups": {name: _measured(one) for name, one in both.items()},
        "bins": [
            {"from": low, "to": high, **_bin(found, low, high)}
            for low, high in itertools.pairwise(EDGES)
        ],
    }


def card(calibration: Calibration, measured: dict[str, Any]) -> dict[str, Any]:
    """The card that stands beside the knots of the calibration in force."""
    groups = dict(measured["groups"])
    everything = groups.pop("all")
    return {
        "name": NAME,
        "calibration_id": calibration.calibration_id,
        "code_version": __version__,
        "fitted_on": ", ".join(TABLES.values()),
        "conventional": ConventionalRedshift().identity,
        "recipe": "mmbroker evaluate calibrate goodsn.ecsv cosmos_fir.ecsv spt_dndz_tab_a1.txt",
        "right_within": REDSHIFT_TOLERANCE,
        "counts": {name: one["n"] for name, one in {"all": everything, **groups}.items()},
        "galaxies": everything["galaxies"],
        "on_the_same_galaxies": {name: everything[name] for name in _ON_CARD},
        **about(NAME),
    }


def write(path: Path, measured: dict[str, Any]) -> None:
    """Write the card beside the knots of a calibration, which stay as they are.

    Args:
        path: the file of the calibration.
        measured: the figures, see ``figures``.
    """
    calibration = Calibration.from_json(path.read_text())
    knots = json.loads(calibration.to_json())
    path.write_text(json.dumps({**card(calibration, measured), **knots}, indent=1) + "\n")


def _read(tables: Path) -> dict[str, list[RealGalaxy]]:
    """Read the galaxies that the calibration was fitted to, by table; in COSMOS of any class."""
    redshift = Table.read(tables / COSMOS)["zpec"].tolist()
    anywhere = [
        replace(one, spectroscopic_redshift=float(value) if value > 0 else None)
        for one, value in zip(cosmos(tables), redshift, strict=True)
    ]
    return {"GOODS-N": goods_north(tables), "COSMOS": anywhere, "SPT": spt(tables)}


def _measured(found: Cases) -> dict[str, Any]:
    share = found.right.mean()
    values = {
        "right": found.right,
        "stated": found.stated,
        "brier": (found.stated - found.right) ** 2,
        "brier_out_of_fold": (found.held_out - found.right) ** 2,
        "brier_of_mass": (found.mass - found.right) ** 2,
        "brier_of_share": (share - found.right) ** 2,
        "stated_minus_right": found.stated - found.right,
        "brier_minus_mass": (found.held_out - found.right) ** 2 - (found.mass - found.right) ** 2,
    }
    return {
        "n": len(found.right),
        "galaxies": len(np.unique(found.galaxy)),
        **{name: _interval(np.asarray(each, float), found.galaxy) for name, each in values.items()},
    }


def _bin(found: Cases, low: float, high: float) -> dict[str, Any]:
    inside = found.select((found.stated >= low) & ((found.stated < high) | (high == EDGES[-1])))
    if not len(inside.right):
        return {"n": 0}
    return {
        "n": len(inside.right),
        "stated": round(float(inside.stated.mean()), 4),
        "right": _interval(inside.right.astype(float), inside.galaxy),
    }


def _interval(values: Floats, galaxy: NDArray[np.str_]) -> list[float]:
    """The mean, and its 95 % interval over resamples of galaxies."""
    ends = resampling.interval(resampling.means(values, galaxy))
    return [round(float(each), 4) for each in (values.mean(), *ends)]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m mmbroker.models.redshift.conventional.probability", description=__doc__
    )
    add_data_option(parser)
    parser.add_argument("--path", type=Path, default=PATH, help="the calibration")
    options = parser.parse_args(arguments)
    calibration = Calibration.from_json(options.path.read_text())
    write(options.path, figures(cases(options.data, calibration)))


if __name__ == "__main__":
    main()
