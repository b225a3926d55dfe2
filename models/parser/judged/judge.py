"""Judges the parser, its lines, shapes, redshifts and morphologies, and writes the report."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmbroker.models.measures import resampling
from mmbroker.models.packaged.networks import WEIGHTS
from mmbroker.models.pages.render import write
from mmbroker.models.parser.exported import (
    ExportedMapParser,
    ExportedSpectrumParser,
    packaged_calibration,
    packaged_map_calibration,
)
from mmbroker.models.parser.judged import figures
from mmbroker.models.parser.judged.continuum_segments import continuum_figures, judge_continuum
from mmbroker.models.parser.judged.conventional_lines import (
    FILTERS,
    specutils_finders,
    specutils_measured,
)
from mmbroker.models.parser.judged.line_detections import (
    TEST_SEED,
    TEST_SPECTRA,
    VALIDATION_SEED,
    VALIDATION_SPECTRA,
    Finder,
    Integers,
    Judged,
    counts_by_spectrum,
    judge,
    line_pulls,
    neural_finder,
    purity_and_completeness,
    threshold_at_purity,
)
from mmbroker.models.parser.judged.line_purity import measured_ratio, purity_by_ratio
from mmbroker.models.parser.judged.map_detections import (
    TEST_MAPS,
    TEST_MAPS_SEED,
    JudgedMaps,
    confusion,
    judge_maps,
)
from mmbroker.models.parser.judged.redshift import (
    VARIANTS,
    RedshiftScores,
    identification_scores,
    redshift_scores,
)
from mmbroker.models.parser.judged.verdict import with_verdict
from mmbroker.models.parser.measures import PURITY, VERSIONS, central_half_width
from mmbroker.models.simulation.spectral_noise import REGIMES
from mmbroker.processors.features.lines import SHAPES
from mmbroker.processors.features.maps import MORPHOLOGIES
from mmbroker.processors.relations import SPEED_OF_LIGHT_KM_S
from mmbroker.schemas.events import Floats

PARSER = "parser"
BINS = ((3.0, 4.0), (4.0, 5.0), (5.0, 6.0), (6.0, 7.0), (7.0, 8.0), (8.0, 12.0), (12.0, 25.0))
RANGE = (4.0, 8.0)
MEASURED = ((4.0, 8.0), (8.0, 25.0))
PURITY_BINS = {
    "below 3": (0.0, 3.0),
    **{f"{low}-{low + 1}": (float(low), low + 1.0) for low in range(3, 8)},
    "8-12": (8.0, 12.0),
    "above 12": (12.0, math.inf),
}
PULLS = ("frequency", "width", "flux")
REDSHIFT_SEED, REDSHIFT_SPECTRA = 23, 1_500
SPECUTILS_VALIDATION = 600
CONTINUUM_SPECTRA = 1_500

OPENINGS = {"version 1": 1, "version 2": 4}
"""How often the test part was opened for each version; raise it with each look for new figures.

Version 2 opened it for its report, and once more for figures that were added to the page: errors of
what specutils measures, purity by signal-to-noise ratio, continuum; a third time after errors of
the continuum had been made larger, on other simulated spectra; and once more after the comb, with
which redshifts are compared, had been made more cautious. Nothing was chosen on it.
Rebuilding the same figures from the same weights is no opening.
"""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is simulated, and with which seeds; tests simulate less.

    Attributes:
        validation: validation spectra.
        test: test spectra.
        specutils_validation: validation spectra for the finders of ``specutils``.
        redshift: spectra from which redshifts are estimated.
        maps: test maps.
        continuum: spectra whose continuum is judged.
        test_seed: the seed of the test spectra.
        redshift_seed: the seed of the spectra for redshifts.
        maps_seed: the seed of the test maps.
    """

    validation: int = VALIDATION_SPECTRA
    test: int = TEST_SPECTRA
    specutils_validation: int = SPECUTILS_VALIDATION
    redshift: int = REDSHIFT_SPECTRA
    maps: int = TEST_MAPS
    continuum: int = CONTINUUM_SPECTRA
    test_seed: int = TEST_SEED
    redshift_seed: int = REDSHIFT_SEED
    maps_seed: int = TEST_MAPS_SEED


def report(tables: Path | None, output: Path, sizes: Sizes | None = None) -> None:
    """Write ``parser.md``, ``parser.json`` and ``parser_*.png``.

    Args:
        tables: the folder of the published tables; without it the real stacked spectra are left
            out.
        output: the folder to write to.
        sizes: how much is simulated.
    """
    sizes = sizes or Sizes()
    output.mkdir(parents=True, exist_ok=True)
    network, calibration = ExportedSpectrumParser(), packaged_calibration()
    finders: dict[str, Finder] = {PARSER: neural_finder(network, calibration), **FILTERS}
    thresholds, others = _thresholds(finders, sizes)
    measures = {name: specutils_measured for name in others if name in thresholds["all"]}
    judged = judge({**finders, **others}, sizes.test, sizes.test_seed, measures)
    scores = redshift_scores(network, calibration, sizes.redshift, sizes.redshift_seed)
    map_network, map_calibration = ExportedMapParser(), packaged_map_calibration()
    maps = judge_maps(map_network, map_calibration, sizes.maps, sizes.maps_seed)
    numbers: dict[str, Any] = {
        "simulated": True,
        "sha256": {
            name: hashlib.sha256((WEIGHTS / name).read_bytes()).hexdigest()
            for name in ("parser.onnx", "map_parser.onnx")
        },
        "version": VERSIONS["parser"],
        "test_openings": OPENINGS,
        "spectra": {
            "validation": sizes.validation,
            "test": sizes.test,
            "continuum": sizes.continuum,
        },
        "purity": PURITY,
        "bins": BINS,
        "lines": _completeness(judged, thresholds),
        "purity_by_ratio": _purities(judged, thresholds["all"]),
        "measurements": _measurements(judged, thresholds["all"]),
        "shapes": _shapes(judged, thresholds["all"][PARSER]),
        "continuum": continuum_figures(judge_continuum(network, sizes.continuum, sizes.test_seed)),
        "redshift": _redshifts(scores),
        "identifications": identification_scores(
            network, calibration, sizes.redshift, sizes.redshift_seed
        ),
        "maps": _maps(maps),
    }
    figures.completeness(judged, thresholds, BINS, output / "parser_completeness.png")
    figures.purity(numbers["purity_by_ratio"], output / "parser_purity.png")
    figures.confusions(numbers, output / "parser_confusion.png")
    figures.pulls(judged, thresholds["all"][PARSER], output / "parser_pulls.png")
    figures.examples(network, calibration, output / "parser_examples.png")
    numbers["real"] = tables is not None and figures.real_spectra(
        network, calibration, tables, output / "parser_real.png"
    )
    write("parser", with_verdict(numbers), output)


def _thresholds(
    finders: dict[str, Finder], sizes: Sizes
) -> tuple[dict[str, dict[str, float]], dict[str, Finder]]:
    """Find thresholds for the wanted purity, by regime and method, on validation spectra.

    Returns:
        The thresholds, and the chosen finders of ``specutils``.
    """
    judged = judge(finders, sizes.validation, VALIDATION_SEED)
    thresholds = {
        group: {name: threshold_at_purity(judged.found[name], PURITY, spectra) for name in finders}
        for group, spectra in _groups(judged).items()
    }
    candidates = specutils_finders() if sizes.specutils_validation else {}
    chosen: dict[str, Finder] = {}
    if candidates:
        judged = judge(candidates, sizes.specutils_validation, VALIDATION_SEED)
        for group, spectra in _groups(judged).items():
            for method in ("threshold", "derivative"):
                best, most = "", -1.0
                for name in candidates:
                    if method not in name:
                        continue
                    purity, complete = purity_and_completeness(judged, name, 0.0, *RANGE, spectra)
                    if purity >= PURITY and complete > most:
                        best, most = name, complete
                if best:
                    chosen[best] = candidates[best]
                    thresholds[group][best] = 0.0
    return thresholds, chosen


def _groups(judged: Judged) -> dict[str, Integers]:
    groups = {"all": np.arange(len(judged.regime))}
    for number, name in enumerate(REGIMES):
        groups[name] = np.flatnonzero(judged.regime == number)
    return groups


def _completeness(
    judged: Judged, thresholds: dict[str, dict[str, float]]
) -> dict[str, dict[str, Any]]:
    """The threshold, purity, completeness by S/N and paired differences, by group and method.

    The second difference is at the same purity as the method has on the test part.
    """
    result: dict[str, dict[str, Any]] = {}
    for group, spectra in _groups(judged).items():
        result[group] = {}
        for name, threshold in thresholds[group].items():
            purity, complete = purity_and_completeness(judged, name, threshold, *RANGE, spectra)
            entry: dict[str, Any] = {
                "threshold": threshold,
                "purity": purity,
                "completeness_4_8": complete,
                "completeness": [
                    purity_and_completeness(judged, name, threshold, *each, spectra)[1]
                    for each in BINS
                ],
            }
            if name != PARSER:
                entry["parser_minus_this"] = _paired(
                    judged, thresholds[group][PARSER], name, threshold, spectra
                )
                same = threshold_at_purity(judged.found[PARSER], purity, spectra)
                entry["at_this_purity"] = _paired(judged, same, name, threshold, spectra)
            result[group][name] = entry
    return result


def _paired(
    judged: Judged, parser_threshold: float, name: str, threshold: float, spectra: Integers
) -> list[float]:
    """The completeness of the parser minus that of another, and its 95 % bootstrap interval."""
    mine = counts_by_spectrum(judged, PARSER, parser_threshold, *RANGE)[:, spectra]
    other = counts_by_spectrum(judged, name, threshold, *RANGE)[:, spectra]
    lines, difference = mine[2], mine[3] - other[3]

    def share(difference: Integers, lines: Integers) -> Floats:
        return np.asarray(difference.sum(axis=-1) / np.maximum(lines.sum(axis=-1), 1))

    ends = resampling.bootstrap(share, difference, lines, seed=1)
    return [float(share(difference, lines)), *ends]


def _purities(judged: Judged, thresholds: dict[str, float]) -> dict[str, Any]:
    """The purity by the signal-to-noise ratio that each method measured, in all regimes."""
    result: dict[str, Any] = {}
    for name, threshold in thresholds.items():
        ratio = measured_ratio(judged.found[name], by_score=name != PARSER)
        entries = purity_by_ratio(judged, name, threshold, ratio, list(PURITY_BINS.values()))
        result[name] = dict(zip(PURITY_BINS, entries, strict=True))
    return result


def _measurements(judged: Judged, thresholds: dict[str, float]) -> dict[str, Any]:
    """The errors and pulls of lines that both the parser and the other method find, by S/N."""
    result: dict[str, Any] = {}
    ratio = judged.truth.signal_to_noise
    mine = _errors(judged, PARSER, thresholds[PARSER])
    for name in thresholds:
        errors = _errors(judged, name, thresholds[name])
        common = mine["found"] & errors["found"]
        measured = np.isfinite(errors["width"]) & np.isfinite(errors["flux"])
        result[name] = {}
        for low, high in MEASURED:
            inside = common & (ratio >= low) & (ratio < high)
            lines = inside & measured
            if lines.sum() < 10:
                continue
            entry = {"lines": int(lines.sum()), **_scatters(errors, lines)}
            entry["pulls"] = {key: _pull(errors[f"{key} pull"][lines]) for key in PULLS}
            if name != PARSER:
                entry["unmeasured"] = int((inside & ~measured).sum())
                entry["parser_on_these"] = _scatters(mine, lines)
            result[name][f"{low:.0f}-{high:.0f}"] = entry
    return result


def _errors(judged: Judged, name: str, threshold: float) -> dict[str, Any]:
    """The errors of a method for each true line, shape (T,), NaN where it did not find the line.

    Returns:
        Whether a line is ``found``; ``velocity`` in km/s without sign; ``width`` and ``flux`` as ln
        of measured over true; and the pulls.
    """
    found, truth = judged.found[name], judged.truth
    true = found.matched >= 0
    above = found.score[true] >= threshold
    which = found.matched[true]
    with np.errstate(divide="ignore"):
        values = {
            "velocity": SPEED_OF_LIGHT_KM_S
            * np.abs(np.log(found.frequency_hz[true] / truth.frequency_hz[which])),
            "width": np.log(found.width_km_s[true] / truth.width_km_s[which]),
            "flux": np.log(found.flux_jy_km_s[true] / truth.flux_jy_km_s[which]),
        }
    values |= {f"{key} pull": each for key, each in line_pulls(found, truth).items()}
    errors: dict[str, Any] = {"found": np.zeros(len(truth.spectrum), bool)}
    errors["found"][which[above]] = True
    for key, each in values.items():
        errors[key] = np.full(len(truth.spectrum), np.nan)
        errors[key][which[above]] = each[above]
    return errors


def _scatters(errors: dict[str, Any], lines: NDArray[np.bool_]) -> dict[str, Any]:
    return {
        "median_velocity_error_km_s": float(np.median(errors["velocity"][lines])),
        "width_bias": float(np.median(errors["width"][lines])),
        "width_scatter": central_half_width(errors["width"][lines]),
        "flux_bias": float(np.median(errors["flux"][lines])),
        "flux_scatter": central_half_width(errors["flux"][lines]),
    }


def _pull(values: Floats) -> float:
    """The robust scatter of the pulls whose errors are known."""
    return central_half_width(values[np.isfinite(values)])


def _shapes(judged: Judged, threshold: float) -> dict[str, Any]:
    """The confusion of shapes at S/N above 10 and 20, true shapes in rows."""
    found, truth = judged.found[PARSER], judged.truth
    result: dict[str, Any] = {"names": list(SHAPES)}
    for least in (10.0, 20.0):
        chosen = (found.matched >= 0) & (found.score >= threshold)
        chosen[chosen] = truth.signal_to_noise[found.matched[chosen]] > least
        table = confusion(truth.shape[found.matched[chosen]], found.shape[chosen], len(SHAPES))
        result[f"above_{least:.0f}"] = table.tolist()
    return result


def _redshifts(scores: RedshiftScores) -> dict[str, Any]:
    """The share that is right, the mean ln probability at the truth, and both minus the comb's."""
    random = np.random.default_rng(2)
    result: dict[str, Any] = {}
    groups: dict[str, Integers] = {"all": np.arange(len(scores.regime))}
    groups |= {name: np.flatnonzero(scores.regime == k) for k, name in enumerate(REGIMES)}
    for group, rows in groups.items():
        result[group] = {"galaxies": len(rows)}
        drawn = rows[resampling.rows(len(rows), random)]
        for number, name in enumerate(VARIANTS):
            entry: dict[str, Any] = {}
            for key, values in (("right", scores.right), ("log", scores.log_density)):
                entry[key] = float(values[number, rows].mean())
                if number:
                    entry[f"{key}_minus_comb"] = _interval(values[number] - values[0], rows, drawn)
            result[group][name] = entry
    return result


def _interval(difference: Floats, rows: Integers, drawn: Integers) -> list[float]:
    return [float(difference[rows].mean()), *resampling.interval(difference[drawn].mean(axis=1))]


def _maps(judged: JudgedMaps) -> dict[str, Any]:
    bright = judged.signal_to_noise > 10
    said = judged.probabilities.argmax(axis=1)
    right = said[bright] == judged.morphology[bright]
    conventional = judged.conventional[bright] == judged.morphology[bright]
    difference = right.astype(float) - conventional
    ends = resampling.bootstrap(lambda drawn: drawn.mean(axis=-1), difference, seed=3)
    confidence = judged.probabilities.max(axis=1)
    reported = judged.component_matched
    return {
        "names": list(MORPHOLOGIES),
        "maps": int(bright.sum()),
        "confusion": confusion(judged.morphology[bright], said[bright]).tolist(),
        "conventional_confusion": confusion(
            judged.morphology[bright], judged.conventional[bright]
        ).tolist(),
        "right": float(right.mean()),
        "conventional_right": float(conventional.mean()),
        "right_minus_conventional": [float(difference.mean()), *ends],
        "right_below_10": float((said[~bright] == judged.morphology[~bright]).mean()),
        "confidence_minus_right": float(confidence.mean() - (said == judged.morphology).mean()),
        "component_purity": float(reported.mean()),
        "component_completeness": _by_ratio(judged, ((3, 5), (5, 10), (10, 30), (30, 200))),
        "component_flux_pull": central_half_width(judged.component_flux_pull[reported]),
    }


def _by_ratio(judged: JudgedMaps, bins: Sequence[tuple[float, float]]) -> dict[str, float]:
    ratio = judged.true_signal_to_noise
    return {
        f"{low:.0f}-{high:.0f}": float(judged.true_found[(ratio >= low) & (ratio < high)].mean())
        for low, high in bins
    }
