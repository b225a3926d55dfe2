"""Fits on galaxies of known redshift what template fitting leaves free: ``templates.npz``.

First it chooses templates, from the packaged library and mixtures of them: those that galaxies of
the training parts of GOODS-N and zCOSMOS are like. Expectation maximisation says how common each
is. Then it fits the prior of redshift by magnitude, and the exponents with which the fit joins
other evidence. Needs no torch.

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
        error: the fraction of the flux by which templates fail, at ``ERROR_KNOTS_UM``.
        temper: the exponent of the likelihood: errors of neighbouring bands are not independent.
        floor: the share of galaxies that are like no template.
        from_goods: the number of templates that are kept for GOODS-N.
        from_zcosmos: the number of templates that are kept for zCOSMOS.
        zcosmos_share: the weight of zCOSMOS in how common templates are.
        zcosmos_galaxies: the most galaxies of zCOSMOS to fit.
        fewest_bands: the fewest bands of a galaxy to fit.
        folds: the number of folds within the training part, for the exponents.
        steps: the number of steps of expectation maximisation.
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
"""The share of the templates' frequencies that is spread evenly, since rare is not impossible."""

_HOT_DUST_SLOPES = (1.0, 1.6)
"""Exponents of two power laws of wavelength, cut off below 1 um, for active nuclei; assumed."""

_EXPONENTS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """N galaxies of known redshift.

    Attributes:
        fingerprints: their fingerprints.
        redshift: the spectroscopic redshifts, float64, shape (N,).
        fold: the fold of each galaxy, int64, shape (N,).
    """

    fingerprints: list[Fingerprint]
    redshift: Array
    fold: Indices

    def select(self, chosen: NDArray[np.bool_]) -> Known:
        """The chosen galaxies.

        Args:
            chosen: whether each galaxy is chosen, bool, shape (N,).
        """
        kept = [one for one, keep in zip(self.fingerprints, chosen, strict=True) if keep]
        return Known(kept, self.redshift[chosen], self.fold[chosen])

    @property
    def point(self) -> Indices:
        """The index of each redshift in the templates' grid, int64, shape (N,)."""
        step = GRID[1] - GRID[0]
        place = np.rint((np.log1p(self.redshift) - GRID[0]) / step).astype(int)
        return np.asarray(np.clip(place, 0, len(GRID) - 1))


def known_of(galaxies: Sequence[RealGalaxy], part: int, recipe: Recipe, library: Library) -> Known:
    """Choose the galaxies of one part of the split with enough bands and a spectroscopic redshift.

    Args:
        galaxies: the galaxies of a table.
        part: the part of the split.
        recipe: says how many bands are enough, and the number of folds.
        library: the library whose bands count.
    """
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
    """Add two power laws of hot dust to a library, and mixtures of two templates.

    Mixtures are of pairs that are found together in galaxies.

    Args:
        library: the library.
    """
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
    """Make templates of all in a library, equally common, before anything is fitted.

    Args:
        library: the library.
        recipe: says the errors, the temper and the floor.
    """
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
    """The likelihoods of T templates for N galaxies at their true redshift.

    Attributes:
        known: the galaxies.
        at_truth: the ln of the likelihoods without temper, float64, shape (N, T).
        magnitude: the magnitude that the prior reads; NaN if it was not measured; shape (N,).
    """

    known: Known
    at_truth: Array
    magnitude: Array

    @classmethod
    def of(cls, known: Known, templates: Templates) -> Likelihoods:
        """Compute the likelihoods of some galaxies.

        Args:
            known: the galaxies.
            templates: the templates; their temper does not count.
        """
        fit = TemplateFit(replace(templates, temper=1.0))
        measured = photometry(known.fingerprints, templates.wavelength_um)
        at_truth = fit.log_likelihood_at(measured, known.point)
        return cls(known, at_truth, fit.magnitude(measured))

    def select(self, chosen: NDArray[np.bool_]) -> Likelihoods:
        """The chosen galaxies.

        Args:
            chosen: whether each galaxy is chosen, bool, shape (N,).
        """
        return Likelihoods(self.known.select(chosen), self.at_truth[chosen], self.magnitude[chosen])


def fit(
    templates: Templates, goods: Likelihoods, zcosmos: Likelihoods, recipe: Recipe
) -> Templates:
    """Choose templates, and fit the prior and how common they are.

    Args:
        templates: the templates to choose from.
        goods: their likelihoods for galaxies of GOODS-N.
        zcosmos: their likelihoods for galaxies of zCOSMOS.
        recipe: how to fit.
    """
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
    """Fit how common each template is, by expectation maximisation.

    Args:
        log_likelihood: the ln of the likelihoods, shape (N, T).
        steps: the number of steps.

    Returns:
        Shares that sum to 1, float64, shape (T,).
    """
    likelihood = np.exp(log_likelihood - log_likelihood.max(axis=1, keepdims=True))
    shares = np.full(likelihood.shape[1], 1 / likelihood.shape[1])
    for _ in range(steps):
        part = likelihood * shares
        shares = (part / part.sum(axis=1, keepdims=True)).mean(axis=0)
    return shares


def fit_prior(magnitude: Array, redshift: Array) -> tuple[float, float, float]:
    """Fit the prior of redshift by magnitude, by maximum likelihood.

    Args:
        magnitude: AB magnitudes; galaxies without a finite one do not count; shape (N,).
        redshift: the true redshifts, shape (N,).

    Returns:
        The parameters, see ``Templates.prior``.
    """
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
    """Fit without each fold of GOODS-N in turn, and apply the fit to the galaxies left out.

    Args:
        templates: the templates to choose from.
        goods: their likelihoods for N galaxies of GOODS-N.
        zcosmos: their likelihoods for galaxies of zCOSMOS, which are in every fit.
        recipe: how to fit.

    Returns:
        The ln of the likelihoods and of the posteriors, float64, shape (N, COARSE) each.
    """
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
    """The photometry that a fit uses.

    Args:
        known: the galaxies.
        fitted: the fit.
    """
    return photometry(known.fingerprints, fitted.templates.wavelength_um)


def best_exponent(log_rest: Array, log_likelihood: Array, redshift: Array) -> float:
    """Find the exponent of a likelihood, beside other evidence, with the lowest mean CRPS.

    Args:
        log_rest: the ln of the density from the other evidence, shape (N, COARSE).
        log_likelihood: the ln of the likelihood, shape (N, COARSE).
        redshift: the true redshifts, shape (N,).
    """

    def score(exponent: float) -> float:
        found = log_rest + exponent * log_likelihood
        probability = np.exp(found - np.logaddexp.reduce(found, axis=1)[:, None])
        return float(measures.crps(np.expm1(COARSE), probability, redshift).mean())

    return min(_EXPONENTS, key=score)


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """The galaxies that templates are fitted to.

    Attributes:
        candidates: the templates to choose from, equally common.
        goods: their likelihoods for the training part of GOODS-N.
        zcosmos: their likelihoods for the training part of zCOSMOS.
    """

    candidates: Templates
    goods: Likelihoods
    zcosmos: Likelihoods

    @classmethod
    def read(cls, folder: Path, recipe: Recipe, library: Library | None = None) -> Examples:
        """Read the examples from published tables.

        Args:
            folder: the folder of the tables.
            recipe: how to fit.
            library: the library of templates; the packaged one by default.
        """
        given = candidates(load_library() if library is None else library)
        templates = unfitted(given, recipe)
        goods = known_of(goods_north(folder), TRAIN, recipe, given)
        optical = known_of(zcosmos(folder), TRAIN, recipe, given)
        optical = optical.select(np.arange(len(optical.redshift)) < recipe.zcosmos_galaxies)
        return cls(templates, Likelihoods.of(goods, templates), Likelihoods.of(optical, templates))

    def without(self, names: Collection[str]) -> Examples:
        """The same examples without some galaxies of GOODS-N.

        Args:
            names: the names of those galaxies.
        """
        kept = [one.galaxy_id not in names for one in self.goods.known.fingerprints]
        return replace(self, goods=self.goods.select(np.array(kept, bool)))


def fit_with_exponents(examples: Examples, recipe: Recipe) -> Templates:
    """Fit all that template fitting leaves free, with the exponents.

    Args:
        examples: the galaxies.
        recipe: how to fit.
    """
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
    """Fit templates to published tables.

    Args:
        folder: the folder of the tables.
        recipe: how to fit.
        library: the library of templates; the packaged one by default.

    Returns:
        The fitted templates, and their card without the SHA-256.
    """
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
    """Run the command line."""
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
