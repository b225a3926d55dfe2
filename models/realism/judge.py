"""Judges simulated catalogues against the real tables, and writes numbers, figures and a page."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmbroker.models.pages.render import write
from mmbroker.models.real_data.split import TEST, TRAIN, VALIDATION, split_of
from mmbroker.models.realism import figures
from mmbroker.models.realism.comparison import Comparison
from mmbroker.models.realism.former import former_table
from mmbroker.models.realism.survey_statistics import READERS, RealTable, real_table
from mmbroker.models.realism.two_sample import (
    VIEWS,
    Interval,
    Sample,
    classify,
    colour,
    correlations,
    distances,
    sample,
)
from mmbroker.models.realism.verdict import with_verdict
from mmbroker.models.redshift.judged import simulated_redshifts
from mmbroker.models.simulation import catalogue_surveys
from mmbroker.models.simulation.catalogue_surveys import Catalogue, Survey
from mmbroker.models.simulation.line_emission import EXCITATION_DEX
from mmbroker.models.simulation.line_profiles import SHAPE_SHARES
from mmbroker.models.simulation.observations import BLOCK_GALAXIES
from mmbroker.models.simulation.population import (
    FIELD,
    KIND_SHARES,
    KINDS,
    LENSED,
    WAVELENGTH_UM,
    Population,
    simulate_population,
)
from mmbroker.processors.features.lines import SHAPES
from mmbroker.schemas.events import Floats

SEED = 2026
SMALLEST_TO_HALVE = 40
"""The fewest real sources that are judged of which halves can be compared."""

MOST_WITHOUT_REDSHIFT = 0.05
"""The largest share of a table's sources without redshift.

Above it the classifier is shown no redshifts: one that is missing would tell real from simulated.
"""

Integers = NDArray[np.int64]
Chosen = Callable[[Population, Integers], NDArray[np.bool_]]

_KIND_AND_LIMITS: dict[str, tuple[int, Chosen, int]] = {
    "GOODS-N": (FIELD, catalogue_surveys.in_prior_list, 3),
    "COSMOS": (FIELD, catalogue_surveys.in_far_infrared_sample, 30),
    "SPT": (LENSED, catalogue_surveys.in_lensed_sample, 15),
}
"""The galaxies with which a table is compared, and the number of blocks of the population."""

COLOURS = (
    ("K", "IRAC1"),
    ("IRAC1", "IRAC2"),
    ("IRAC3", "IRAC4"),
    ("IRAC4", "MIPS-24"),
    ("MIPS-24", "PACS-100"),
    ("PACS-100", "SPIRE-250"),
    ("SPIRE-250", "SPIRE-350"),
    ("MIPS-24", "VLA-1.4GHz"),
)
REDSHIFT_BINS = (0.1, 0.4, 0.7, 1.0, 1.5, 2.2, 3.2)


def report(tables: Path | None, output: Path, part: int = TEST) -> None:
    """Write ``simulator.md`` with its figures and numbers.

    Args:
        tables: the folder of the published tables; None to write only what needs no table.
        output: the folder to write to.
        part: the part of the tables that is judged; for SPT validation and test are judged
            together.
    """
    output.mkdir(parents=True, exist_ok=True)
    population = simulate_population(BLOCK_GALAXIES, SEED)
    figures.population(population, WAVELENGTH_UM, output)
    numbers: dict[str, Any] = {
        "seed": SEED,
        "population": _summary(population),
        "assumed": assumed(),
    }
    if tables is not None:
        compared = [_compare(survey, reader, tables, part) for survey, reader in READERS]
        numbers["tables"] = {each.survey.table: judge(each) for each in compared}
        numbers["published_redshifts"] = simulated_redshifts.compare(tables, part, SEED)
        figures.two_samples(numbers["tables"], output)
        figures.distributions(compared, output)
        figures.correlations(compared[0], output)
        figures.colours(compared[0], COLOURS, output)
    write("simulator", with_verdict(json.loads(json.dumps(numbers, default=_plain))), output)


def assumed() -> dict[str, Any]:
    """The shares and the scatter that the simulator assumes, and that no paper states."""
    return {
        "kinds": dict(zip(KINDS, KIND_SHARES, strict=True)),
        "excitation_dex": EXCITATION_DEX,
        "shapes": dict(zip(SHAPES, SHAPE_SHARES, strict=True)),
    }


def simulated_table(survey: Survey, seed: int = SEED) -> tuple[Catalogue, Floats]:
    """Simulate a catalogue of the galaxies that a real table would have.

    Args:
        survey: the survey of the table.
        seed: the seed of the simulation.

    Returns:
        The catalogue of N galaxies, and their true redshifts, float64, shape (N,).
    """
    kind, chosen, blocks = _KIND_AND_LIMITS[survey.table]
    catalogues, redshifts = [], []
    for block in range(blocks):
        population = simulate_population(BLOCK_GALAXIES, seed, block)
        galaxies = np.flatnonzero(population.kind == kind)
        galaxies = galaxies[chosen(population, galaxies)]
        random = np.random.default_rng([seed, block])
        catalogues.append(catalogue_surveys.observe(survey, population, galaxies, random))
        redshifts.append(population.redshift[galaxies])
    fields = ("flux_jy", "error_jy", "seen")
    joined = [np.concatenate([getattr(each, field) for each in catalogues]) for field in fields]
    return Catalogue(*joined), np.concatenate(redshifts)


def judge(compared: Comparison) -> dict[str, Any]:
    """Judge one real table beside its simulation by all measures.

    Args:
        compared: the table and its simulation.
    """
    first, second = compared.simulated.halves()
    areas, telling = {}, {}
    for view in VIEWS:
        training, judged = (compared.training, first), (compared.judged, second)
        areas[view], order = classify(view, training, judged)
        telling[view] = [_feature(view, index, compared.survey) for index in order[:5].tolist()]
    nothing = {view: _real_halves(view, compared) for view in VIEWS}
    former = {view: judged_former(view, compared) for view in VIEWS}
    apart = distances(compared.judged, compared.simulated)
    both = [each.seen.mean(axis=0) for each in (compared.judged, compared.simulated)]
    return {
        "parts": compared.parts,
        "real": len(compared.judged),
        "simulated": len(compared.simulated),
        "area": areas,
        "telling": telling,
        "area of real halves": nothing,
        "area of the former simulator": former,
        "distance": {
            name: dict(zip(compared.survey.bands, values, strict=True))
            for name, values in apart.items()
        },
        "training part": _levels(compared),
        "share of sources with the band": {
            band: [float(shares[band_index]) for shares in both]
            for band_index, band in enumerate(compared.survey.bands)
        },
        "correlation": {
            name: _correlation_difference(one, other, compared.survey.bands)
            for name, one, other in (
                ("flux densities", compared.judged.scaled, compared.simulated.scaled),
                ("errors", compared.judged.log_error, compared.simulated.log_error),
                ("mask", compared.judged.seen, compared.simulated.seen),
            )
        },
        "colours": _colours(compared),
    }


def _levels(compared: Comparison) -> dict[str, Any]:
    """Describe the flux densities of the training part, on which the simulator was set.

    For each band, these are the percentiles of real and simulated ones in units of the depth, and
    their Kolmogorov-Smirnov distance. If the judged part is off, they tell in which direction, and
    whether that was known.
    """
    apart = distances(compared.training, compared.simulated)["flux density"]
    found: dict[str, Any] = {"real": len(compared.training), "bands": {}}
    for place, (band, distance) in enumerate(zip(compared.survey.bands, apart, strict=True)):
        if distance is not None:
            found["bands"][band] = {
                "distance": distance.value,
                **{
                    name: np.sinh(np.nanpercentile(each.scaled[:, place], [16, 50, 84])).tolist()
                    for name, each in (
                        ("real", compared.training),
                        ("simulated", compared.simulated),
                    )
                },
            }
    return found


def _compare(
    survey: Survey, reader: Callable[[Path], list[Any]], tables: Path, part: int
) -> Comparison:
    table = real_table(survey, reader(tables))
    parts = np.array([split_of(name) for name in table.names])
    wanted = (VALIDATION, TEST) if survey.table == "SPT" else (part,)
    training = parts == TRAIN
    depth = np.nanpercentile(table.catalogue.error_jy[training], 25, axis=0)
    (catalogue, redshift), (former, former_redshift) = simulated_table(survey), former_table(survey)
    if np.isnan(table.redshift).mean() > MOST_WITHOUT_REDSHIFT:
        table.redshift[:] = redshift[:] = former_redshift[:] = 0.0
    names = ("training", "validation", "test")
    return Comparison(
        survey=survey,
        judged=_real(table, np.flatnonzero(np.isin(parts, wanted)), depth),
        training=_real(table, np.flatnonzero(training), depth),
        simulated=sample(catalogue, redshift, depth),
        former=sample(former, former_redshift, depth),
        parts=" and ".join(names[each] for each in wanted),
    )


def _real(table: RealTable, rows: Integers, depth: Floats) -> Sample:
    return sample(table.catalogue, table.redshift, depth).rows(rows)


def _real_halves(view: str, compared: Comparison) -> Interval | None:
    """Judge halves of the real table, which the classifier should not tell apart.

    It is None for tables that are too small to be halved.
    """
    if len(compared.judged) < SMALLEST_TO_HALVE:
        return None
    random = np.random.default_rng(SEED)

    def halves(real: Sample) -> tuple[Sample, Sample]:
        order = random.permutation(len(real))
        return real.rows(order[::2]), real.rows(order[1::2])

    return classify(view, halves(compared.training), halves(compared.judged))[0]


def judged_former(view: str, compared: Comparison) -> Interval:
    """Judge the first simulator, in the bands that it had.

    Args:
        view: one of VIEWS.
        compared: the table and its simulations.
    """
    bands = np.flatnonzero(compared.former.seen.any(axis=0))
    first, second = compared.former.bands(bands).halves()
    training, judged = (each.bands(bands) for each in (compared.training, compared.judged))
    return classify(view, (training, first), (judged, second))[0]


def _feature(view: str, index: int, survey: Survey) -> str:
    kinds = {
        "flux densities": ("flux density",),
        "errors": ("error",),
        "mask": ("mask",),
        "all": ("flux density", "error", "mask", "redshift"),
    }[view]
    kind = kinds[index // len(survey.bands)]
    return kind if kind == "redshift" else f"{survey.bands[index % len(survey.bands)]} {kind}"


def _correlation_difference(one: Floats, other: Floats, bands: tuple[str, ...]) -> dict[str, Any]:
    difference = correlations(one) - correlations(other)
    pairs = np.tril(np.isfinite(difference), -1)
    if not pairs.any():
        return {"pairs": 0}
    largest = np.where(pairs, np.abs(difference), -1.0)
    row, column = np.unravel_index(largest.argmax(), largest.shape)
    return {
        "pairs": int(pairs.sum()),
        "root mean square": float(np.sqrt(np.mean(difference[pairs] ** 2))),
        "largest": float(difference[row, column]),
        "largest between": [bands[column], bands[row]],
    }


def _colours(compared: Comparison) -> list[dict[str, Any]]:
    """Compare colours in bins of redshift, in dex; those that differ most come first."""
    bands = compared.survey.bands
    rows = []
    for blue, red in COLOURS:
        if blue not in bands or red not in bands:
            continue
        for low, high in itertools.pairwise(REDSHIFT_BINS):
            values = []
            for each in (compared.judged, compared.simulated):
                ratio = colour(each, bands.index(blue), bands.index(red))
                inside = (each.log_stretch > np.log1p(low)) & (each.log_stretch <= np.log1p(high))
                values.append(ratio[inside & np.isfinite(ratio)])
            if min(map(len, values)) >= 10:
                (m1, w1), (m2, w2) = (_middle_and_width(each) for each in values)
                rows.append(
                    {
                        "colour": f"{red}/{blue}",
                        "redshift": [low, high],
                        "real sources": len(values[0]),
                        "median difference": m1 - m2,
                        "real half-width": w1,
                        "simulated half-width": w2,
                    }
                )
    return sorted(rows, key=lambda row: -abs(row["median difference"]))


def _middle_and_width(values: Floats) -> tuple[float, float]:
    low, middle, high = np.percentile(values, [16, 50, 84])
    return float(middle), float(high - low) / 2


def _summary(population: Population) -> dict[str, Any]:
    quantities = {
        "redshift": population.redshift,
        "log L_IR": population.log_luminosity,
        "log M*": population.log_stellar_mass,
        "dust peak in um": population.peak_wavelength_um,
        "line width in km/s": population.line_width_km_s,
        "CO excitation": population.excitation,
        "half-light radius of dust in kpc": population.dust_radius_kpc,
        "radio extent in kpc": population.radio_extent_kpc,
        "radio extent in arcsec": population.radio_extent_kpc
        * population.arcsec_per_kpc(np.arange(len(population))),
    }
    return {
        "galaxies": len(population),
        "percentiles 16, 50, 84": {
            name: np.percentile(values, [16, 50, 84]).round(2).tolist()
            for name, values in quantities.items()
        },
        "share with radio excess": float((population.radio_excess_dex > 0).mean()),
        "share with torus": float((population.torus_share > 0).mean()),
    }


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {key: round(number, 6) for key, number in dataclasses.asdict(value).items()}
    raise TypeError(f"{type(value).__name__} is no JSON")
