"""Measures on the real tables how errors scatter and which bands a source has.

It reads only the training part of the tables, and writes ``weights/survey_statistics.json``: some
hundred numbers for a table, and none of its rows. Needs scikit-learn, which the simulator does not.

    python -m mmbroker.models.realism.survey_statistics folder/of/tables
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import norm, spearmanr
from sklearn.linear_model import LogisticRegression

from mmbroker.models.real_data.catalogues import RealGalaxy, cosmos, goods_north, spt
from mmbroker.models.real_data.split import TRAIN, split_of
from mmbroker.models.simulation.catalogue_surveys import (
    FAR_INFRARED_AND_OPTICAL,
    LENSED_SAMPLE,
    STATISTICS,
    SUPER_DEBLENDED,
    Booleans,
    Catalogue,
    Survey,
    mask_features,
)
from mmbroker.schemas.events import Floats

REGULARISATION = 0.3
"""The inverse penalty of the logistic regressions, whose features are of the order of 1."""

_QUANTILES = np.array([0.5, 2.5, 10, 25, 50, 75, 90, 97.5, 99.5])


@dataclass(frozen=True, slots=True, eq=False)
class RealTable:
    """N sources of a real table in the bands of a survey.

    Attributes:
        catalogue: the measurements, NaN where a band is missing.
        redshift: the spectroscopic redshift, else a published one, else NaN; float64, shape (N,).
        names: the names of the galaxies.
    """

    catalogue: Catalogue
    redshift: Floats
    names: list[str]


READERS = (
    (SUPER_DEBLENDED, goods_north),
    (FAR_INFRARED_AND_OPTICAL, cosmos),
    (LENSED_SAMPLE, spt),
)


def real_table(survey: Survey, galaxies: Sequence[RealGalaxy]) -> RealTable:
    """Convert the measurements of galaxies to arrays; upper limits count as missing.

    Args:
        survey: the survey whose bands count.
        galaxies: the galaxies.
    """
    shape = (len(galaxies), len(survey.bands))
    flux, error = np.full(shape, np.nan), np.full(shape, np.nan)
    redshift = np.full(len(galaxies), np.nan)
    column = {band: index for index, band in enumerate(survey.bands)}
    for row, galaxy in enumerate(galaxies):
        for observation in galaxy.observations:
            if observation.photometric_redshift and np.isnan(redshift[row]):
                redshift[row] = observation.photometric_redshift.redshift
            for band in observation.photometry.measurements if observation.photometry else ():
                if band.band in column and band.flux_density_jy is not None:
                    flux[row, column[band.band]] = band.flux_density_jy
                    error[row, column[band.band]] = band.flux_error_jy
        if galaxy.spectroscopic_redshift is not None:
            redshift[row] = galaxy.spectroscopic_redshift
    names = [galaxy.name for galaxy in galaxies]
    return RealTable(Catalogue(flux, error, np.isfinite(flux)), redshift, names)


def measure(table: RealTable) -> dict[str, Any]:
    """Measure the statistics of a table with which ``catalogue_surveys`` simulates it.

    Args:
        table: the table.
    """
    catalogue, seen = table.catalogue, table.catalogue.seen
    depth = np.nanpercentile(catalogue.error_jy, 25, axis=0)
    scaled = np.where(seen, np.arcsinh(catalogue.flux_jy / depth), 0.0)
    log_error = np.log10(catalogue.error_jy / depth)
    error, residual = [], np.full(seen.shape, np.nan)
    for band in range(seen.shape[1]):
        rows = seen[:, band]
        knots, quantiles = _error_quantiles(scaled[rows, band], log_error[rows, band])
        error.append([_rounded(knots), _rounded(quantiles)])
        median = np.interp(scaled[rows, band], knots, quantiles[:, len(_QUANTILES) // 2])
        residual[rows, band] = log_error[rows, band] - median
    order = [int(band) for band in np.argsort(-seen.mean(axis=0), kind="stable")]
    known = np.isfinite(table.redshift)
    log_stretch = np.log1p(np.where(known, table.redshift, np.nanmedian(table.redshift)))
    mask = [
        _regression(mask_features(log_stretch, scaled, seen, order[:place]), seen[:, band])
        for place, band in enumerate(order)
    ]
    return {
        "sources": len(seen),
        "depth_jy": _rounded(depth),
        "error": error,
        "normal_quantiles": _rounded(norm.ppf(_QUANTILES / 100)),
        "correlation": _rounded(_correlation(residual)),
        "order": order,
        "mask": [_rounded(one) for one in mask],
    }


def _error_quantiles(scaled: Floats, log_error: Floats) -> tuple[Floats, Floats]:
    """Measure the percentiles of the error in groups of sources of similar flux.

    Returns:
        The median scaled flux density of each group, ascending, shape (groups,), and the
        percentiles of the log10 of the error over the depth, shape (groups, percentiles).
    """
    groups = int(np.clip(len(scaled) // 25, 2, 10))
    parts = np.array_split(np.argsort(scaled), groups)
    knots = np.array([np.median(scaled[part]) for part in parts])
    quantiles = np.array([np.percentile(log_error[part], _QUANTILES) for part in parts])
    return knots, quantiles


def _regression(features: Floats, target: Booleans) -> Floats:
    """Fit a logistic regression; only its constant if nearly all targets are the same."""
    share = target.mean()
    if min(share, 1 - share) * len(target) < 3:
        constant = np.zeros(features.shape[1])
        constant[0] = np.log((target.sum() + 0.5) / ((~target).sum() + 0.5))
        return constant
    model = LogisticRegression(C=REGULARISATION, max_iter=2000)
    model.fit(features[:, 1:], target)
    return np.concatenate([model.intercept_, model.coef_[0]])


def _correlation(residual: Floats) -> Floats:
    """The rank correlation of the scatter where both bands are there, made positive definite."""
    bands = residual.shape[1]
    correlation = np.eye(bands)
    for one in range(bands):
        for other in range(one):
            both = np.isfinite(residual[:, one]) & np.isfinite(residual[:, other])
            if both.sum() > 30:
                rank = spearmanr(residual[both, one], residual[both, other]).statistic
                correlation[one, other] = correlation[other, one] = np.nan_to_num(rank)
    values, vectors = np.linalg.eigh(correlation)
    fixed = vectors * values.clip(0.02) @ vectors.T
    scale = np.sqrt(np.diag(fixed))
    return np.asarray(fixed / np.outer(scale, scale))


def _rounded(values: Floats) -> Any:
    return [
        _rounded(value) if np.ndim(value) else float(f"{value:.4g}") for value in np.asarray(values)
    ]


def main() -> None:
    """Run the command line: measure, and write the statistics."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("tables", type=Path)
    parser.add_argument("--output", type=Path, default=STATISTICS)
    options = parser.parse_args()
    tables = {}
    for survey, reader in READERS:
        galaxies = [one for one in reader(options.tables) if split_of(one.name) == TRAIN]
        tables[survey.table] = measure(real_table(survey, galaxies))
    content = {
        "measured_on": "training part of GOODS-N (Liu et al. 2018, ApJ 853 172), COSMOS (Drew & "
        "Casey 2022, ApJ 930 142) and SPT-SMG (Reuter et al. 2020, ApJ 902 78)",
        "tables": tables,
    }
    options.output.write_text(_one_line_each(content), encoding="utf-8")


def _one_line_each(content: dict[str, Any]) -> str:
    """Write JSON with one line for each statistic, so that changes can be read."""
    tables = (
        f' "{name}": {{\n'
        + ",\n".join(f'  "{key}": {json.dumps(value)}' for key, value in table.items())
        + "\n }"
        for name, table in content["tables"].items()
    )
    measured_on = json.dumps(content["measured_on"])
    return f'{{"measured_on": {measured_on},\n"tables": {{\n' + ",\n".join(tables) + "\n}}\n"


if __name__ == "__main__":
    main()
