"""The parsers on a real Triton: observations in, feature trees out."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from mmbroker.deploy.local import LocalStack
from mmbroker.models.serving import parsers, triton
from mmbroker.models.serving.errors import ModelUnavailable
from mmbroker.models.serving.parsers import (
    LONGEST,
    OVERLAP,
    MapParserClient,
    ParserClient,
    SpectrumParserClient,
    padded,
    pieces_of,
)
from mmbroker.models.serving.repository import add_version
from mmbroker.models.simulation.observations import simulate
from mmbroker.models.simulation.spectra import simulate_spectra
from mmbroker.processors.features.inputs import spectrum_input
from mmbroker.processors.features.patches import PATCH, PATCH_INPUTS, Patches
from mmbroker.processors.relations import FWHM_PER_SIGMA, SPEED_OF_LIGHT_KM_S
from mmbroker.schemas.events import Observation, ParsedObservation, Spectrum
from mmbroker.schemas.records import to_record
from tests.networks import documented, withdrawn

NAME = "reader"


@pytest.fixture(scope="module")
def spectrum_parser(triton_url: str) -> Iterator[SpectrumParserClient]:
    with SpectrumParserClient(triton_url, "parser", deadline_s=20.0) as parser:
        yield parser


@pytest.fixture(scope="module")
def map_parser(triton_url: str) -> Iterator[MapParserClient]:
    with MapParserClient(triton_url, "map_parser", deadline_s=20.0) as parser:
        yield parser


@pytest.fixture(scope="module")
def spectra() -> list[Observation]:
    """Simulated spectra of many lengths."""
    found = []
    for seed in range(12):
        simulated = simulate_spectra(5, np.random.default_rng([7, seed]))
        found += [
            observed(Spectrum(frequency, "BARYCENTRIC", flux, error), f"{seed}-{row}")
            for row in range(5)
            for frequency, flux, error in [simulated.spectrum(row)]
        ]
    return found


@pytest.fixture(scope="module")
def maps() -> list[Observation]:
    return [each for each in simulate(600, seed=5) if each.continuum_map is not None]


def observed(spectrum: Spectrum, name: str = "s") -> Observation:
    return Observation(name, "ALMA", 150.0, 2.0, 0.2, 59000.0, spectrum=spectrum)


def with_line(
    frequency_hz: float = 98.7e9, flux_jy_km_s: float = 3.0, seed: int = 0
) -> Observation:
    """A spectrum with one bright Gaussian line 300 km/s wide."""
    frequency = np.linspace(92e9, 108e9, 1000)
    sigma = 300.0 / FWHM_PER_SIGMA
    velocity = SPEED_OF_LIGHT_KM_S * (1 - frequency / frequency_hz)
    profile = np.exp(-0.5 * (velocity / sigma) ** 2) / (sigma * np.sqrt(2 * np.pi))
    noise = 3e-4 * np.random.default_rng(seed).standard_normal(1000)
    flux = 2e-3 + flux_jy_km_s * profile + noise
    return observed(Spectrum(frequency, "BARYCENTRIC", flux, np.full(1000, 3e-4)))


def records(trees: Sequence[ParsedObservation | None]) -> list[object]:
    return [None if tree is None else to_record(tree) for tree in trees]


def test_a_bright_line_is_read_with_its_continuum(spectrum_parser: SpectrumParserClient) -> None:
    (tree,) = spectrum_parser.parse([with_line()], 1)
    assert tree is not None
    line = max(tree.lines, key=lambda each: each.flux_jy_km_s)
    assert line.frequency_hz == pytest.approx(98.7e9, rel=1e-4)
    assert line.flux_jy_km_s == pytest.approx(3.0, rel=0.15)
    assert line.width_km_s == pytest.approx(300.0, rel=0.15)
    assert line.probability > 0.99
    assert 0 < len(line.identifications) <= 4
    assert {"CO(3-2)", "CO(2-1)"} & {each.name for each in line.identifications}
    (segment,) = tree.continuum
    assert segment.flux_density_jy == pytest.approx(2e-3, rel=0.05)
    assert tree.morphology is None


@pytest.fixture(scope="module")
def scan() -> Observation:
    """A spectral scan that the network does not see at once, with a line every 8 GHz."""
    frequency = np.arange(84e9, 180e9, 5e6)
    flux = 3e-4 * np.random.default_rng(3).standard_normal(len(frequency))
    for centre in LINES_OF_SCAN:
        sigma = 300.0 / FWHM_PER_SIGMA
        velocity = SPEED_OF_LIGHT_KM_S * (1 - frequency / centre)
        flux += 3.0 * np.exp(-0.5 * (velocity / sigma) ** 2) / (sigma * np.sqrt(2 * np.pi))
    errors = np.full(len(frequency), 3e-4)
    return observed(Spectrum(frequency, "BARYCENTRIC", flux, errors), "scan")


LINES_OF_SCAN = np.arange(88e9, 178e9, 8e9)


def test_a_spectrum_of_any_length_is_read(
    spectrum_parser: SpectrumParserClient, scan: Observation
) -> None:
    laid_out = spectrum_input(scan)
    assert laid_out is not None
    assert len(laid_out) > 2 * LONGEST
    (tree,) = spectrum_parser.parse([scan], 1)
    assert tree is not None
    found = sorted(tree.lines, key=lambda each: -each.probability)[: len(LINES_OF_SCAN)]
    found.sort(key=lambda each: each.frequency_hz)
    assert [each.frequency_hz for each in found] == pytest.approx(LINES_OF_SCAN.tolist(), rel=1e-4)
    assert [each.flux_jy_km_s for each in found] == pytest.approx([3.0] * len(found), rel=0.2)
    assert len(tree.lines) <= 1.2 * len(LINES_OF_SCAN)


def test_a_line_on_the_cut_between_two_pieces_is_read_as_elsewhere(
    spectrum_parser: SpectrumParserClient, scan: Observation
) -> None:
    laid_out = spectrum_input(scan)
    assert laid_out is not None
    _, kept = pieces_of(laid_out)[0]
    cut = float(laid_out.frequency_hz[kept.stop])
    spectrum = scan.spectrum
    assert spectrum is not None
    velocity = SPEED_OF_LIGHT_KM_S * (1 - spectrum.frequency_hz / cut)
    sigma = 300.0 / FWHM_PER_SIGMA
    line = 3.0 * np.exp(-0.5 * (velocity / sigma) ** 2) / (sigma * np.sqrt(2 * np.pi))
    crossed = dataclasses.replace(spectrum, flux_density_jy=spectrum.flux_density_jy + line)
    (tree,) = spectrum_parser.parse([dataclasses.replace(scan, spectrum=crossed)], 1)
    assert tree is not None
    near = [each for each in tree.lines if abs(each.frequency_hz / cut - 1) < 2e-3]
    assert len(near) == 1
    assert near[0].flux_jy_km_s == pytest.approx(3.0, rel=0.2)
    assert near[0].probability > 0.99


@pytest.mark.parametrize("length", [1, 255, 256, 257, 480, 481, 1000, 2048])
def test_pieces_are_all_of_a_spectrum_once(length: int) -> None:
    channels = np.arange(length * PATCH, dtype=float)
    rows = np.zeros((length, PATCH_INPUTS), np.float32)
    whole = Patches(*[channels] * 6, channels.astype(int), channels[:, None], rows)  # type: ignore[arg-type]
    pieces = pieces_of(whole)
    assert max(len(piece) for piece, _ in pieces) <= LONGEST
    kept = np.concatenate([piece.frequency_hz[chosen] for piece, chosen in pieces])
    assert (kept == channels).all()
    for piece, chosen in pieces[1:]:
        assert chosen.start == OVERLAP * PATCH
        assert piece.frequency_hz[0] > 0


def test_a_tree_names_its_observation_and_its_model(spectrum_parser: SpectrumParserClient) -> None:
    (tree,) = spectrum_parser.parse([with_line()], 1)
    assert tree is not None
    sha256 = spectrum_parser.version(1).card["sha256"]
    assert (tree.observation_id, tree.time_mjd) == ("s", 59000.0)
    assert tree.model == f"parser 1 {sha256}"


def test_frequencies_are_barycentric(spectrum_parser: SpectrumParserClient) -> None:
    at_rest = with_line()
    assert at_rest.spectrum is not None
    moved = dataclasses.replace(at_rest.spectrum, frame="LSRK")
    one, other = spectrum_parser.parse([at_rest, dataclasses.replace(at_rest, spectrum=moved)], 1)
    assert one is not None
    assert other is not None
    ratio = other.lines[0].frequency_hz / one.lines[0].frequency_hz
    assert 1e-6 < abs(ratio - 1) < 20 / SPEED_OF_LIGHT_KM_S


def test_a_source_has_a_morphology_and_components(
    map_parser: MapParserClient, maps: list[Observation]
) -> None:
    trees = [tree for tree in map_parser.parse(maps, 1) if tree is not None]
    assert len(trees) > 3
    for tree in trees:
        assert tree.morphology is not None
        assert tree.lines == []
        assert sum(tree.morphology.probabilities) == pytest.approx(1, abs=1e-5)
        assert tree.model.startswith("map_parser 1 ")


# What stands beside an observation ----------------------------------------------------------------


def check_independence(parser: ParserClient, observations: list[Observation]) -> None:
    together = records(parser.parse(observations, 1))
    assert sum(each is not None for each in together) > 3
    alone = [records(parser.parse([each], 1))[0] for each in observations]
    assert alone == together
    backwards = records(parser.parse(observations[::-1], 1))
    assert backwards[::-1] == together
    for count in (2, 3, 7, 9):
        assert records(parser.parse(observations[:count], 1)) == together[:count]


def test_a_spectrum_is_read_alike_beside_whatever_others(
    spectrum_parser: SpectrumParserClient, spectra: list[Observation]
) -> None:
    check_independence(spectrum_parser, spectra)


def test_more_spectra_than_are_laid_out_together_are_read_alike(
    spectrum_parser: SpectrumParserClient,
    spectra: list[Observation],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    at_once = records(spectrum_parser.parse(spectra, 1))
    monkeypatch.setattr(parsers, "LAID_OUT_TOGETHER", 7)
    assert records(spectrum_parser.parse(spectra, 1)) == at_once


def test_a_map_is_read_alike_beside_whatever_others(
    map_parser: MapParserClient, maps: list[Observation]
) -> None:
    check_independence(map_parser, maps)


def test_a_spectrum_is_read_alike_while_others_ask(
    triton_url: str, spectrum_parser: SpectrumParserClient, spectra: list[Observation]
) -> None:
    expected = records(spectrum_parser.parse(spectra, 1))
    found: list[object] = []

    def ask() -> None:
        with SpectrumParserClient(triton_url, "parser", deadline_s=20.0) as parser:
            found.extend(records(parser.parse(spectra, 1)) == expected for _ in range(4))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert found == [True] * 16


def test_lengths_depend_on_the_spectrum_alone_and_grow_little() -> None:
    lengths = [padded(patches) for patches in range(1, 257)]
    assert lengths == sorted(lengths)
    assert min(lengths) == 8
    assert max(lengths) == 256
    assert len(set(lengths)) <= 16
    for patches, length in enumerate(lengths, 1):
        assert patches <= length <= max(1.25 * patches, patches + 7)


# What cannot be read ------------------------------------------------------------------------------


def test_what_is_no_spectrum_has_no_tree_and_asks_nobody() -> None:
    observations = [each for each in simulate(60, seed=6) if each.spectrum is None]
    with SpectrumParserClient("127.0.0.1:9", "parser", deadline_s=1.0) as nowhere:
        assert nowhere.parse(observations, 1) == [None] * len(observations)


def test_a_server_that_is_away_is_named() -> None:
    with (
        SpectrumParserClient("127.0.0.1:9", "parser", deadline_s=1.0, retries=0) as nowhere,
        pytest.raises(ModelUnavailable, match=r"127\.0\.0\.1:9"),
    ):
        nowhere.parse([with_line()], 1)


# Versions -----------------------------------------------------------------------------------------


@pytest.fixture
def versions(stack: LocalStack, tmp_path: Path) -> Iterator[SpectrumParserClient]:
    """A parser in two versions; the second reports nothing below a very high logit."""
    repository = stack.triton.model_repository
    add_version(repository, NAME, documented(tmp_path / "first", NAME))
    second = documented(tmp_path / "second", NAME, detection_logit=1000.0)
    assert add_version(repository, NAME, second) == 2
    triton.load(stack.triton_url, NAME)
    with SpectrumParserClient(stack.triton_url, NAME, deadline_s=20.0) as parser:
        yield parser
    withdrawn(stack, NAME)


def test_a_version_goes_with_its_own_calibration(versions: SpectrumParserClient) -> None:
    versions.require_usable(1)
    versions.require_usable(2)
    assert versions.version(1).sha256 == versions.version(2).sha256
    assert versions.version(1).calibration_id != versions.version(2).calibration_id
    (first,), (second,) = (versions.parse([with_line()], number) for number in (1, 2))
    assert first is not None
    assert second is not None
    assert first.lines
    assert second.lines == []
    assert second.model == versions.label(2)
    assert second.model.startswith(f"{NAME} 2 ")


def test_another_model_is_no_parser(triton_url: str, map_parser: MapParserClient) -> None:
    for kind, name in ((SpectrumParserClient, "map_parser"), (MapParserClient, "critic")):
        with kind(triton_url, name, deadline_s=20.0) as wrong:
            with pytest.raises(ModelUnavailable, match="is asked for"):
                wrong.require_usable(1)
            with pytest.raises(ModelUnavailable):
                wrong.parse([with_line(), *(each for each in simulate(100, 5))], 1)


def test_a_version_without_a_calibration_is_refused(stack: LocalStack, tmp_path: Path) -> None:
    folder = documented(tmp_path, NAME)
    card = folder / f"{NAME}.json"
    card.write_text(card.read_text().replace('"calibration"', '"formerly"'))
    add_version(stack.triton.model_repository, NAME, folder)
    triton.load(stack.triton_url, NAME)
    try:
        with (
            SpectrumParserClient(stack.triton_url, NAME, deadline_s=20.0) as parser,
            pytest.raises(ModelUnavailable, match="no calibration"),
        ):
            parser.require_usable(1)
    finally:
        withdrawn(stack, NAME)


class Unfinished(ParserClient):
    """A parser that does not say how it parses."""

    tensors = SpectrumParserClient.tensors


def test_a_parser_says_how_it_parses() -> None:
    with pytest.raises(TypeError, match=r"abstract methods? .*parse"):
        Unfinished("127.0.0.1:9", "parser")  # type: ignore[abstract]
