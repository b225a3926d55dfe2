"""Fit on galaxies of known redshift what template fitting leaves free: ``templates.npz``.

From the packaged library and its mixtures the templates are chosen that galaxies of the training
parts of GOODS-N and zCOSMOS are like, with how common they are (expectation maximisation); then the
prior of redshift by magnitude, and the exponents with which the fit joins other evidence. Needs
numpy alone.

    export MMBROKER_DATA=folder/of/tables
    python -m mmbroker.models.redshift.templates.train --output models/weights
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from mmbroker.models.packaged.cards import about
from mmbroker.models.packaged.templates import save_templates
from mmbroker.models.real_data.catalogues import RealGalaxy, goods_north, zcosmos
from mmbroker.models.real_data.folder import add_data_option
from mmbroker.models.real_data.split import TRAIN, split_of
from mmbroker.models.redshift import measures
from mmbroker.models.redshift.templates.library import Library, load_library
from mmbroker.processors.fingerprint.merge import build
from mmbroker.processors.redshift import ConventionalRedshift
from mmbroker.processors.redshift.grids import COARSE, Array
from mmbroker.processors.redshift.templates import (
    GRID,
    BandFluxes,
    TemplateFit,
    Templates,
    log_prior,
    photometry,
)
from mmbroker.schemas import __version__
from mmbroker.schemas.events import Fingerprint

Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to fit; the values were compared out of fold within the training part of GOODS-N.

    Attributes:
        error: fraction of the flux by which templates fail, at ``ERROR_KNOTS_UM``.
        temper: exponent of the likelihood: errors of neighbouring bands are not independent.
        floor: share of galaxies that are like no template.
        from_goods: templates kept for GOODS-N.
        from_zcosmos: templates kept for zCOSMOS.
        zcosmos_share: weight of zCOSMOS in how common templates are.
        zcosmos_galaxies: most galaxies of zCOSMOS to fit.
        fewest_bands: of a galaxy to fit.
        folds: within the training part, for the exponents.
        steps: of expectation maximisation.
    """

    error: tuple[float, ...] = (0.3, 0.2, 0.1, 0.03, 0.08, 0.25, 0.4)
    temper: float = 0.5
    floor: float = 0.02
    from_goods: int = 24
    from_zcosmos: int = 12
    zcosmos_share: float = 0.3
    zcosmos_galaxies: int = 1500
    fewest_bands: int = 4
    folds: int = 5
    steps: int = 100


_FLATTENED = 0.05
"""Share of templates' frequencies that is spread evenly: rare is not impossible."""

_HOT_DUST_SLOPES = (1.0, 1.6)
"""Of two power laws of wavelength, cut off below 1 um, that stand for active nuclei. Assumed."""

_EXPONENTS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """Galaxies of known redshift."""

    fingerprints: list[Fingerprint]
    redshift: Array
    fold: Indices

    def select(self, chosen: NDArray[np.bool_]) -> Known:
        """The chosen galaxies."""
        kept = [one for one, keep in zip(self.fingerprints, chosen, strict=True) if keep]
        return Known(kept, self.redshift[chosen], self.fold[chosen])

    @property
    def point(self) -> Indices:
        """Index into the templates' grid."""
        step = GRID[1] - GRID[0]
        place = np.rint((np.log1p(self.redshift) - GRID[0]) / step).astype(int)
        return np.asarray(np.clip(place, 0, len(GRID) - 1))


def known_of(galaxies: Sequence[RealGalaxy], part: int, recipe: Recipe, library: Library) -> Known:
    """Galaxies of one part of the split with enough bands and a spectroscopic redshift."""
    chosen = [
        one
        for one in galaxies
        if one.spectroscopic_redshift is not None and split_of(one.name) == part
    ]
    fingerprints = [build(one.name, one.observations) for one in chosen]
    enough = photometry(fingerprints, library.wavelength_um).count >= recipe.fewest_bands
    redshift = np.array([one.spectroscopic_redshift for one in chosen], float)
    fold = np.random.default_rng(0).permutation(len(chosen)) % recipe.folds
    return Known(fingerprints, redshift, fold).select(enough)


def candidates(library: Library) -> Library:
    """The library's templates, two power laws of hot dust, and mixtures of what galaxies mix."""
    rest = library.wavelength_um[:, None] / np.exp(GRID)
    hot = [(rest / 1.6) ** slope * np.exp(-(rest**-2.0) + 1.6**-2.0) for slope in _HOT_DUST_SLOPES]
    flux = np.concatenate([library.flux, np.stack(hot, axis=2)], axis=2)
    names = [*library.names, *(f"hot dust {slope}" for slope in _HOT_DUST_SLOPES)]
    cosmos = [k for k, name in enumerate(names) if name.startswith("COSMOS")]
    eazy = [k for k, name in enumerate(names) if name.startswith("EAZY")]
    dusty = [k for k in eazy if names[k] in ("EAZY 06", "EAZY 09", "EAZY 11")]
    nuclei = range(len(library.names), len(names))
    mixed = [
        *((a, b, part) for a in eazy for b in eazy if a < b for part in (0.1, 0.3, 0.6, 0.85)),
        *((a, b, part) for a in cosmos[::2] for b in dusty for part in (0.05, 0.2, 0.5)),
        *(
            (a, b, part)
            for a in [*cosmos[::3], *eazy]
            for b in nuclei
            for part in (0.15, 0.4, 0.75)
        ),
    ]
    mixtures = [(1 - part) * flux[:, :, a] + part * flux[:, :, b] for a, b, part in mixed]
    return replace(
        library,
        names=(*names, *(f"{names[a]} + {part} {names[b]}" for a, b, part in mixed)),
        flux=np.concatenate([flux, np.stack(mixtures, axis=2)], axis=2),
    )


def unfitted(library: Library, recipe: Recipe) -> Templates:
    """All templates of a library, equally common, without prior."""
    count = len(library.names)
    return Templates(
        library.names,
        library.wavelength_um,
        library.flux.astype(np.float32),
        np.full(count, 1 / count),
        np.array(recipe.error),
        recipe.temper,
        (1.0, 0.0, 0.0),
        recipe.floor,
        1.0,
        1.0,
    )


@dataclass(frozen=True, slots=True, eq=False)
class Likelihoods:
    """Likelihoods of every template for galaxies at their true redshift."""

    known: Known
    at_truth: Array
    """The ln of the likelihoods without temper, shape (N, T)."""

    magnitude: Array
    """Shape (N,)."""

    @classmethod
    def of(cls, known: Known, templates: Templates) -> Likelihoods:
        """The likelihoods of some galaxies."""
        fit = TemplateFit(replace(templates, temper=1.0))
        measured = photometry(known.fingerprints, templates.wavelength_um)
        at_truth = fit.log_likelihood_at(measured, known.point)
        return cls(known, at_truth, fit.magnitude(measured))

    def select(self, chosen: NDArray[np.bool_]) -> Likelihoods:
        """The chosen galaxies."""
        return Likelihoods(self.known.select(chosen), self.at_truth[chosen], self.magnitude[chosen])


def fit(
    templates: Templates, goods: Likelihoods, zcosmos: Likelihoods, recipe: Recipe
) -> Templates:
    """Choose templates and fit how common they are, and the prior."""
    of_goods = frequencies(goods.at_truth, recipe.steps)
    of_zcosmos = frequencies(zcosmos.at_truth, recipe.steps)
    kept = np.union1d(
        np.argsort(-of_goods)[: recipe.from_goods], np.argsort(-of_zcosmos)[: recipe.from_zcosmos]
    )
    share = (1 - recipe.zcosmos_share) * of_goods + recipe.zcosmos_share * of_zcosmos
    share = share[kept] / share[kept].sum()
    some = slice(0, len(goods.magnitude))
    return replace(
        templates,
        names=tuple(templates.names[k] for k in kept),
        flux=np.ascontiguousarray(templates.flux[:, :, kept]),
        share=(1 - _FLATTENED) * share + _FLATTENED / len(kept),
        prior=fit_prior(
            np.concatenate([goods.magnitude, zcosmos.magnitude[some]]),
            np.concatenate([goods.known.redshift, zcosmos.known.redshift[some]]),
        ),
    )


def frequencies(log_likelihood: Array, steps: int) -> Array:
    """How common each template is, by expectation maximisation, shape (T,)."""
    likelihood = np.exp(log_likelihood - log_likelihood.max(axis=1, keepdims=True))
    shares = np.full(likelihood.shape[1], 1 / likelihood.shape[1])
    for _ in range(steps):
        part = likelihood * shares
        shares = (part / part.sum(axis=1, keepdims=True)).mean(axis=0)
    return shares


def fit_prior(magnitude: Array, redshift: Array) -> tuple[float, float, float]:
    """The prior of redshift by magnitude that maximises the likelihood of known ones."""
    known = np.isfinite(magnitude)
    cell = _cell(redshift[known])
    rows = np.arange(known.sum())

    def loss(parameters: Array) -> float:
        log_exponent, log_typical, growth = parameters
        prior = log_prior((float(np.exp(log_exponent)), log_typical, growth), magnitude[known])
        return -float(prior[rows, cell].mean())

    found = minimize(loss, [0.4, -0.2, 0.15], method="Nelder-Mead").x
    return float(np.exp(found[0])), float(found[1]), float(found[2])


def _cell(redshift: Array) -> Indices:
    step = COARSE[1] - COARSE[0]
    place = np.rint((np.log1p(redshift) - COARSE[0]) / step).astype(int)
    return np.asarray(np.clip(place, 0, len(COARSE) - 1))


def out_of_fold(
    templates: Templates, goods: Likelihoods, zcosmos: Likelihoods, recipe: Recipe
) -> tuple[Array, Array]:
    """Likelihood and posterior (ln, COARSE) of galaxies of GOODS-N that a fit did not see."""
    shape = (len(goods.known.redshift), len(COARSE))
    likelihood, posterior = np.empty(shape), np.empty(shape)
    for fold in range(recipe.folds):
        out = goods.known.fold == fold
        fitted = TemplateFit(fit(templates, goods.select(~out), zcosmos, recipe))
        measured = measured_of(goods.known.select(out), fitted)
        likelihood[out] = fitted.log_likelihood(measured)
        posterior[out] = fitted.log_posterior(measured)
    return likelihood, posterior


def measured_of(known: Known, fitted: TemplateFit) -> BandFluxes:
    """The photometry that a fit uses."""
    return photometry(known.fingerprints, fitted.templates.wavelength_um)


def best_exponent(log_rest: Array, log_likelihood: Array, redshift: Array) -> float:
    """The exponent of a likelihood beside other evidence that makes the CRPS least."""

    def score(exponent: float) -> float:
        found = log_rest + exponent * log_likelihood
        probability = np.exp(found - np.logaddexp.reduce(found, axis=1)[:, None])
        return float(measures.crps(np.expm1(COARSE), probability, redshift).mean())

    return min(_EXPONENTS, key=score)


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """Galaxies that templates are fitted to.

    Attributes:
        candidates: all templates that there are to choose from, equally common.
        goods: of the training part of GOODS-N.
        zcosmos: of that of zCOSMOS.
    """

    candidates: Templates
    goods: Likelihoods
    zcosmos: Likelihoods

    @classmethod
    def read(cls, folder: Path, recipe: Recipe, library: Library | None = None) -> Examples:
        """Read the examples from the tables in a folder."""
        given = candidates(load_library() if library is None else library)
        templates = unfitted(given, recipe)
        goods = known_of(goods_north(folder), TRAIN, recipe, given)
        optical = known_of(zcosmos(folder), TRAIN, recipe, given)
        optical = optical.select(np.arange(len(optical.redshift)) < recipe.zcosmos_galaxies)
        return cls(templates, Likelihoods.of(goods, templates), Likelihoods.of(optical, templates))

    def without(self, names: Collection[str]) -> Examples:
        """The same without some galaxies of GOODS-N."""
        kept = [one.galaxy_id not in names for one in self.goods.known.fingerprints]
        return replace(self, goods=self.goods.select(np.array(kept, bool)))


def fit_with_exponents(examples: Examples, recipe: Recipe) -> Templates:
    """Fit all that template fitting leaves free."""
    known = examples.goods.known
    likelihood, _ = out_of_fold(examples.candidates, examples.goods, examples.zcosmos, recipe)
    conventional = ConventionalRedshift()
    with_published = np.array([bool(one.photometric_redshifts) for one in known.fingerprints])
    beside = best_exponent(
        conventional.log_posterior(known.fingerprints)[with_published],
        likelihood[with_published],
        known.redshift[with_published],
    )
    alone = best_exponent(
        conventional.log_continuum(known.fingerprints), likelihood, known.redshift
    )
    fitted = fit(examples.candidates, examples.goods, examples.zcosmos, recipe)
    return replace(fitted, beside_published=beside, alone=alone)


def train(
    folder: Path, recipe: Recipe, library: Library | None = None
) -> tuple[Templates, dict[str, Any]]:
    """The fitted templates, and what the card says of them."""
    examples = Examples.read(folder, recipe, library)
    fitted = fit_with_exponents(examples, recipe)
    exponents = {"beside_published": fitted.beside_published, "alone": fitted.alone}
    card = {
        "name": "templates",
        "code_version": __version__,
        "fitted_on": {
            "GOODS-N (Liu et al. 2018), training part": len(examples.goods.magnitude),
            "zCOSMOS (Lilly et al. 2007), training part": len(examples.zcosmos.magnitude),
        },
        "recipe": asdict(recipe),
        "candidates": len(examples.candidates.names),
        "templates": dict(zip(fitted.names, np.round(fitted.share, 4).tolist(), strict=True)),
        "prior": fitted.prior,
        "exponents": exponents,
        **about("templates"),
    }
    return fitted, card


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m mmbroker.models.redshift.templates.train", description=__doc__
    )
    add_data_option(parser)
    parser.add_argument("--output", type=Path, help="folder for templates.npz and its card")
    options = parser.parse_args(arguments)
    fitted, card = train(options.data, Recipe())
    print(json.dumps({key: card[key] for key in ("fitted_on", "prior", "exponents")}, indent=1))
    if options.output is not None:
        card = {"sha256": save_templates(fitted, options.output), **card}
        (options.output / "templates.json").write_text(json.dumps(card, indent=1) + "\n")


if __name__ == "__main__":
    main()
