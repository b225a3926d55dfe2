from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest

from mmbroker.models.packaged.templates import load_templates
from mmbroker.processors.fingerprint.merge import build, empty
from mmbroker.processors.fingerprint.vector import vectors
from mmbroker.processors.redshift import ConventionalRedshift, refined
from mmbroker.processors.redshift.grids import COARSE
from mmbroker.processors.redshift.refined import (
    FEATURES,
    Fallback,
    Inputs,
    Known,
    RefinedRedshift,
)
from mmbroker.processors.redshift.refined_networks import COMPONENTS, WITH_PUBLISHED, NumpyNetworks
from mmbroker.processors.redshift.templates import FittedTemplates, TemplateFit
from mmbroker.processors.redshift.tuned import packaged
from mmbroker.schemas.events import (
    BandStatistics,
    Fingerprint,
    Observation,
    PublishedRedshift,
    Spectrum,
)
from mmbroker.schemas.records import to_record

MICRON_HZ = 299_792.458e9
STEP = COARSE[1] - COARSE[0]
WAVELENGTHS_UM = (2.15, 3.6, 4.5, 5.8, 8.0, 24.0, 250.0)


@pytest.fixture(scope="module")
def conventional() -> ConventionalRedshift:
    return ConventionalRedshift(template_fit=load_templates())


def galaxy(*redshifts: float, flux_jy: float = 2e-5) -> Fingerprint:
    """A galaxy with near-infrared photometry and published redshifts."""
    bands = [
        BandStatistics(f"{um} um", MICRON_HZ / um, 1e12, 1e12 * flux_jy, count=1)
        for um in WAVELENGTHS_UM
    ]
    published = [
        PublishedRedshift(f"method {number}", 0.0, f"{number}", one, one - 0.05, one + 0.05)
        for number, one in enumerate(redshifts)
    ]
    return replace(empty("g"), bands=bands, photometric_redshifts=published)


def weights(conventional: ConventionalRedshift, members: int = 2) -> dict[str, np.ndarray]:
    """Networks of which the colours say z = 1, and the gate takes the colours alone."""
    intervals = np.flatnonzero(
        (refined.inputs_of([galaxy()], conventional).mask[0] > 0) & refined.NEAR_INFRARED
    )
    given, width = len(intervals), 3

    def layer(name: str, inputs: int, outputs: int, bias: np.ndarray) -> dict[str, np.ndarray]:
        return {
            f"{name}.weight": np.zeros((members, outputs, inputs), np.float32),
            f"{name}.bias": np.tile(bias.astype(np.float32), (members, 1)),
        }

    # One Gaussian of share 1 at ln 2, width exp(-3).
    at_one = np.array([0.0, (np.log(2) - 0.7) / 0.4, -1.0])
    gate = np.where(np.array(COMPONENTS) == "colours", 0.0, -50.0)
    ones = np.ones(len(intervals), np.float32)
    return {
        "conventional": np.array(conventional.identity),
        "intervals": intervals,
        "mean": 0 * ones,
        "scatter": ones,
        "lowest": -100 * ones,
        "highest": 100 * ones,
        "fewest": np.array(4),
        "largest_disagreement": np.array(0.1),
        "sharpness": np.array(1.0),
        "features.mean": np.zeros(FEATURES, np.float32),
        "features.scatter": np.ones(FEATURES, np.float32),
        **layer("colours.0", given, width, np.zeros(width)),
        **layer("colours.1", width, width, np.zeros(width)),
        **layer("colours.2", width, 3, at_one),
        **layer("gate.0", FEATURES, width, np.zeros(width)),
        **layer("gate.1", width, len(COMPONENTS), gate),
    }


def inputs(conventional: ConventionalRedshift, *galaxies: Fingerprint) -> Inputs:
    return refined.inputs_of(galaxies, conventional)


def test_components_are_densities_and_those_of_nothing_published_are_absent(
    conventional: ConventionalRedshift,
) -> None:
    given = inputs(conventional, galaxy(1.0, 1.02), galaxy())
    colours = np.full((2, len(COARSE)), 1 / len(COARSE))
    found = refined.log_components(given, colours)
    total = np.exp(found).sum(axis=2) * STEP
    assert total[0] == pytest.approx(np.ones(len(COMPONENTS)))
    assert total[1] == pytest.approx([0.0] * 6 + [1.0] * 6)


def test_a_mixture_is_made_of_the_components_that_there_are(
    conventional: ConventionalRedshift,
) -> None:
    given = inputs(conventional, galaxy(1.0, 1.02), galaxy())
    colours = np.full((2, len(COARSE)), 1 / len(COARSE))
    shares = np.random.default_rng(0).dirichlet(np.ones(len(COMPONENTS)), 2)
    shares[given.count == 0, WITH_PUBLISHED] = 0.0
    components = np.exp(refined.log_components(given, colours))
    expected = np.einsum("nk,nkz->nz", shares, components)
    assert refined.mixture(given, colours, shares) == pytest.approx(expected, rel=1e-12)


def test_features_tell_agreement_from_disagreement(conventional: ConventionalRedshift) -> None:
    given = inputs(conventional, galaxy(1.0), galaxy(3.0), galaxy())
    colours = np.exp(-0.5 * np.square((COARSE - np.log(2)) / 0.05)) + 1e-9
    found = refined.features(given, np.tile(colours / colours.sum(), (3, 1)))
    assert found.shape == (3, FEATURES)
    assert np.isfinite(found).all()
    assert found[0, 0] > found[1, 0] + 3
    assert (found[2, :11] == 0).all()


def test_members_that_agree_do_not_disagree() -> None:
    one, other = np.eye(len(COARSE))[[100, 300]] + 1e-6
    one, other = one / one.sum(), other / other.sum()
    assert refined.disagreement(np.stack([[one], [one]])) == pytest.approx(0.0, abs=1e-9)
    assert refined.disagreement(np.stack([[one], [other]])) == pytest.approx(np.log(2), rel=0.01)


def test_the_mixture_is_what_the_gate_makes_of_it(conventional: ConventionalRedshift) -> None:
    model = RefinedRedshift(weights(conventional), conventional)
    (posterior,) = model.estimate([galaxy(3.0)])
    assert posterior.best == pytest.approx(1.0, abs=0.02)
    assert posterior.interval_68.lower < 1.0 < posterior.interval_68.upper
    assert posterior.inputs[-1] == refined.REFINED


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"fewest": np.array(9)}, Fallback.FEW_BANDS),
        ({"highest": np.zeros(6, np.float32)}, Fallback.UNLIKE),
        ({"largest_disagreement": np.array(-1.0)}, Fallback.DISAGREE),
    ],
)
def test_what_the_networks_cannot_know_stays_conventional_and_says_so(
    conventional: ConventionalRedshift, change: dict[str, np.ndarray], reason: Fallback
) -> None:
    model = RefinedRedshift({**weights(conventional), **change}, conventional)
    (expected,) = ConventionalRedshift().estimate([galaxy(3.0)])
    (posterior,) = model.estimate([galaxy(3.0)])
    assert posterior.best == pytest.approx(expected.best, rel=1e-9)
    assert posterior.inputs == [*expected.inputs, reason]


def test_scored_galaxies_say_in_words_why_a_redshift_is_conventional() -> None:
    assert [each.published for each in Fallback] == [
        "conventional: a spectrum counts for more",
        "conventional: fluxes unlike those of the training",
        "conventional: the networks disagree",
        "conventional: too few near-infrared bands",
    ]


class Silent(NumpyNetworks):
    """Networks that nobody may ask."""

    def colours(self, fluxes: np.ndarray) -> np.ndarray:
        raise AssertionError(f"{len(fluxes)} galaxies are asked for")


def test_networks_are_not_asked_for_galaxies_that_they_cannot_know(
    conventional: ConventionalRedshift,
) -> None:
    model = RefinedRedshift(weights(conventional), conventional)
    model = model.with_networks(Silent(weights(conventional)))
    frequency = np.linspace(92e9, 96e9, 100)
    spectrum = Spectrum(frequency, "BARYCENTRIC", 0 * frequency, 0 * frequency + 1e-3)
    observed = Observation("s", "ALMA", 150.0, 2.0, 0.2, 59000.0, spectrum=spectrum)
    with_spectrum = replace(build("g", [observed]), bands=galaxy().bands)
    few = replace(galaxy(1.0), bands=galaxy().bands[:3])
    assert model.refine([]) == []
    assert model.refine([with_spectrum, few, empty("")]) == [
        Fallback.SPECTRUM,
        Fallback.FEW_BANDS,
        Fallback.FEW_BANDS,
    ]


def test_posteriors_come_in_the_order_of_the_galaxies(
    conventional: ConventionalRedshift,
) -> None:
    model = RefinedRedshift(weights(conventional), conventional)
    many = [galaxy(3.0), replace(galaxy(3.0), bands=[]), galaxy(3.0)]
    assert [each.inputs[-1] for each in model.estimate(many)] == [
        refined.REFINED,
        Fallback.FEW_BANDS,
        refined.REFINED,
    ]


def test_the_result_does_not_depend_on_the_batch(conventional: ConventionalRedshift) -> None:
    model = RefinedRedshift(weights(conventional), conventional)
    many = [galaxy(1.0), galaxy(), galaxy(2.0, 2.1, flux_jy=1e-4)]
    together = model.estimate(many)
    for one, posterior in zip(many, together, strict=True):
        (alone,) = model.estimate([one])
        assert alone.best == pytest.approx(posterior.best, rel=1e-6)
        assert alone.inputs == posterior.inputs


def test_what_is_known_already_is_not_found_out_again(
    conventional: ConventionalRedshift, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = RefinedRedshift(weights(conventional), conventional)
    many = [galaxy(3.0), replace(galaxy(), bands=[]), galaxy(2.0, 2.1, flux_jy=1e-4), galaxy()]
    known = Known(vectors(many), ConventionalRedshift().evidence(many))
    expected = model.refine(many)
    for again in ("evidence", "log_continuum"):
        monkeypatch.delattr(ConventionalRedshift, again)
    found = model.refine(many, known)
    assert [isinstance(one, str) for one in found] == [False, True, False, False]
    for one, other in zip(found, expected, strict=True):
        assert one == other if isinstance(one, str) else to_record(one) == to_record(other)


@pytest.mark.parametrize("find", [True, False])
def test_templates_are_fitted_once_and_where_it_is_measured(
    conventional: ConventionalRedshift, monkeypatch: pytest.MonkeyPatch, find: bool
) -> None:
    seen: list[str] = []

    @contextmanager
    def fitting() -> Iterator[None]:
        seen.append("in")
        yield
        seen.append("out")

    def fitted(fit: TemplateFit, fingerprints: Sequence[Fingerprint]) -> FittedTemplates:
        seen.append(f"{len(fingerprints)} fitted")
        return real(fit, fingerprints)

    model, many = (
        RefinedRedshift(weights(conventional), conventional),
        [galaxy(3.0), empty(""), galaxy()],
    )
    known = None if find else Known(vectors(many), ConventionalRedshift().evidence(many))
    real = TemplateFit.fitted
    monkeypatch.setattr(TemplateFit, "fitted", fitted)
    model.refine(many, known, fitting)
    assert seen == ["in", "2 fitted", "out"]


def test_evidence_found_with_other_constants_is_refused(conventional: ConventionalRedshift) -> None:
    other = ConventionalRedshift(replace(packaged(), dust_error=0.5))
    model, many = RefinedRedshift(weights(conventional), conventional), [galaxy()]
    with pytest.raises(ValueError, match="other tuned constants"):
        model.refine(many, Known(vectors(many), other.evidence(many)))


def test_weights_of_another_conventional_redshift_are_refused(
    conventional: ConventionalRedshift,
) -> None:
    other = {**weights(conventional), "conventional": np.array("0123")}
    with pytest.raises(ValueError, match="trained with constants 0123"):
        RefinedRedshift(other, conventional)


def test_a_sharper_mixture_has_narrower_intervals(conventional: ConventionalRedshift) -> None:
    broad, narrow = (
        RefinedRedshift({**weights(conventional), "sharpness": np.array(one)}, conventional)
        for one in (1.0, 4.0)
    )
    widths = []
    for model in (broad, narrow):
        (posterior,) = model.estimate([galaxy(3.0)])
        widths.append(posterior.interval_68.upper - posterior.interval_68.lower)
    assert widths[1] == pytest.approx(widths[0] / 2, rel=0.1)


def test_without_templates_there_is_no_refined_redshift() -> None:
    with pytest.raises(ValueError, match="fits templates"):
        refined.inputs_of([galaxy()], ConventionalRedshift())
