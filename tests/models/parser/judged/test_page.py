"""The report on the parser, in miniature."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("onnxruntime")

from mmbroker.models.pages.render import REPORTS
from mmbroker.models.parser.judged.judge import OPENINGS, PARSER, Sizes, report
from mmbroker.models.parser.judged.verdict import with_verdict
from mmbroker.models.simulation.spectral_noise import REGIMES
from mmbroker.schemas.wording import times

# Not the seeds of the test part, which is opened by the report alone.
SMALL = Sizes(90, 90, 0, 30, 100, 30, test_seed=901, redshift_seed=902, maps_seed=903)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a report without the tables."""
    folder = tmp_path_factory.mktemp("report")
    report(None, folder, SMALL)
    return folder


def test_without_the_tables_the_report_has_the_simulated_part_and_says_so(written: Path) -> None:
    page = (written / "parser.md").read_text()
    assert "Everything that is counted here is simulated" in page
    assert "are missing here" in page
    assert not (written / "parser_real.png").exists()
    numbers = json.loads((written / "parser.json").read_text())
    assert set(numbers["lines"]) == {"all", *REGIMES}
    everything = numbers["lines"]["all"]
    assert everything["parser"]["completeness_4_8"] > 0.3
    for name in page.split("(parser_")[1:]:
        figure = written / f"parser_{name.split(')')[0]}"
        assert 0 < figure.stat().st_size < 150_000


def test_the_page_counts_every_opening_of_the_test_part(written: Path) -> None:
    page = (written / "parser.md").read_text()
    assert f"opened {times(sum(OPENINGS.values()))} in all" in page
    for version, count in OPENINGS.items():
        assert f"{times(count)} for {version}" in page
    numbers = json.loads((written / "parser.json").read_text())
    assert f"version {numbers['version']}" in OPENINGS


def test_purity_measurements_and_continuum_are_told_of_each_method(written: Path) -> None:
    numbers = json.loads((written / "parser.json").read_text())
    methods = set(numbers["lines"]["all"])
    assert set(numbers["purity_by_ratio"]) == set(numbers["measurements"]) == methods
    for bins in numbers["purity_by_ratio"].values():
        assert sum(each["detections"] for each in bins.values()) > 0
    for name, bins in numbers["measurements"].items():
        for each in bins.values():
            assert (name == PARSER) == ("parser_on_these" not in each)
    assert set(numbers["continuum"]) == {"all", *REGIMES}
    segments = [each["segments"] for each in numbers["continuum"].values()]
    assert segments[0] == sum(segments[1:]) > 0


def test_the_same_seeds_give_the_same_numbers(written: Path, tmp_path: Path) -> None:
    report(None, tmp_path, SMALL)
    assert (tmp_path / "parser.json").read_text() == (written / "parser.json").read_text()


def test_the_report_says_what_follows_from_its_figures() -> None:
    numbers = json.loads((REPORTS / "parser.json").read_text())
    assert with_verdict(numbers) == numbers
    numbers["lines"]["receiver"]["matched filter"]["at_this_purity"][1] = -0.01
    found = with_verdict(numbers)["conditions"]
    assert not found["completeness_receiver"]
    assert found["completeness_ideal"]
