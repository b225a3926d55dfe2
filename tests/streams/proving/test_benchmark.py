"""The benchmark's report says what was measured, and what of it must not be."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from rich.console import Console

from mmbroker.models.simulation.catalogue_surveys import CONTINUUM_BANDS
from mmbroker.processors.sky import Position
from mmbroker.schemas.codec import Codec
from mmbroker.schemas.events import Observation
from mmbroker.streams.names import STAGE_NAMES
from mmbroker.streams.proving import benchmark
from mmbroker.streams.proving.benchmark import _Bench
from mmbroker.streams.proving.report import (
    QUICK,
    Report,
    Sending,
    Sizes,
    plot,
    render,
    what_is_wrong,
)
from mmbroker.streams.settings import Settings

PUBLISHED = (
    "floor_rate",
    "floor_0",
    "floor_10k",
    "floor_100k",
    "rate_0",
    "rate_10k",
    "rate_100k",
    "latency_p50_ms",
    "latency_p99_ms",
    "burst_p99_s",
    "update_cost_ratio",
)
"""Keys that others read from the JSON."""

STEADY, BURST = "100 observations/s", "burst of 10,000 in 39 s"
INSTANCES = ("kafka", "triton", "build-fingerprints-0", "build-fingerprints-1")


def good_report() -> Report:
    """As a full run would write it if all went well."""
    untrue: dict[str, Any] = {"lost": [], "doubled": [], "not_quarantined": 0, "outcomes": {}}
    away = {name: {"seconds": 1.3, "stayed_ready": []} for name in ("kafka", "triton", "store")}
    return Report(
        figures=dict.fromkeys(PUBLISHED, 1.1) | {"rate_100k": 1_000.0, "burst_p99_s": 5.0},
        stages=dict.fromkeys(STAGE_NAMES, 2_000.0),
        cpu_ms_per_observation={"kafka": 0.1, "triton": 0.02, "score-galaxies": 0.9},
        parts_ms_per_observation={"score-galaxies: redshift": 0.7},
        models_ms_per_observation={"critic": 0.012},
        memory_mb={name: 100.0 + number for number, name in enumerate(INSTANCES)},
        update_ms={"1": 0.35, "1000": 0.39},
        reliability={
            "scoring_rate_1": 1_672.0,
            "scoring_rate_2": 2_876.0,
            "kills": {"kafka": 2, "score-galaxies": 3},
            "slowest_recovery_s": 5.2,
            "away": away,
            "lost": 0,
            "doubled": 0,
            "untrue": untrue,
            "backlog": {
                "megabytes": 602.7,
                "memory_peak_mb": dict(zip(STAGE_NAMES, (228.0, 270.0, 90.0), strict=True)),
            },
        },
        latencies_ms={STEADY: [100.0, 120.0, 200.0], BURST: [150.0, 160.0, 300.0]},
        sending={
            STEADY: Sending(6_000, 60.02, 60.0, 5_900),
            BURST: Sending(10_000, 39.03, 39.0, 9_100),
        },
        machine={"cores": 2},
    )


def quick_report() -> Report:
    """As a quick run writes it, which kills nothing."""
    report = good_report()
    kept = ("scoring_rate_1", "scoring_rate_2")
    report.reliability = {name: report.reliability[name] for name in kept}
    return report


REPORTS = pytest.mark.parametrize("report", [good_report(), quick_report()], ids=["full", "quick"])


@REPORTS
def test_the_published_keys_are_at_the_top_of_the_json(report: Report) -> None:
    content = json.loads(json.dumps(report.as_json(), allow_nan=False))
    assert {name: content[name] for name in PUBLISHED} == report.figures


def test_latencies_are_written_as_percentiles_beside_how_the_observations_went_out() -> None:
    content = json.loads(json.dumps(good_report().as_json()))
    assert content["latency_percentiles_ms"].keys() == content["sending"].keys() == {STEADY, BURST}
    assert content["latency_percentiles_ms"][STEADY]["50"] == 120.0
    assert content["sending"][STEADY] == {
        "observations": 6_000,
        "seconds": 60.02,
        "seconds_wanted": 60.0,
        "alerts_timed": 5_900,
    }
    assert "latencies_ms" not in content


@pytest.mark.parametrize("sizes", [Sizes(), QUICK], ids=["full", "quick"])
def test_a_quick_run_measures_the_same_figures(sizes: Sizes) -> None:
    assert sizes.existing == (0, 10_000, 100_000)
    assert sizes.events > 0
    assert sizes.steady_s > 0
    assert sizes.updates > 0
    count, seconds = sizes.burst
    assert count / seconds == pytest.approx(10_000 / 39)


@REPORTS
def test_the_table_has_every_figure_and_the_memory_of_each_process(report: Report) -> None:
    written = io.StringIO()
    Console(file=written, width=120).print(render(report))
    for name in INSTANCES:
        assert f"memory of {name}, at most" in written.getvalue()
    assert "time in score-galaxies: redshift" in written.getvalue()
    for said in ("floor", "0 galaxies", "10,000 galaxies", "100,000 galaxies", "p50", "p99"):
        assert said in written.getvalue()


@REPORTS
def test_the_plot_is_a_png(report: Report, tmp_path: Path) -> None:
    plot(report, tmp_path / "report.png")
    assert (tmp_path / "report.png").read_bytes().startswith(b"\x89PNG\r\n")


@REPORTS
def test_nothing_is_wrong_with_a_good_run(report: Report) -> None:
    assert what_is_wrong(report) == ""


def wrong_with(**reliability: Any) -> str:
    report = good_report()
    report.reliability |= reliability
    return what_is_wrong(report)


def test_what_was_lost_is_named() -> None:
    said = wrong_with(untrue={"lost": ["simulation-8-0000001-0"], "doubled": []})
    assert said == "untrue: {'lost': ['simulation-8-0000001-0']}"


@pytest.mark.parametrize(
    ("figure", "value", "said"),
    [
        ("rate_100k", 987.2, "rate_100k is 987.2, not at least 1,000"),
        ("latency_p50_ms", 151.0, "latency_p50_ms is 151, not at most 150"),
        ("latency_p99_ms", 1_203.0, "latency_p99_ms is 1,203, not at most 500"),
        ("burst_p99_s", 5.2, "burst_p99_s is 5.2, not at most 5"),
    ],
)
def test_a_target_that_is_missed_is_named(figure: str, value: float, said: str) -> None:
    report = good_report()
    report.figures[figure] = value
    assert what_is_wrong(report) == said
    written = io.StringIO()
    Console(file=written, width=120).print(render(report))
    assert said.partition("not ")[2] in written.getvalue()


def test_a_slow_recovery_is_named() -> None:
    assert wrong_with(slowest_recovery_s=10.4) == "back at work after 10.4 s, not within 10 s"


def test_a_stage_that_stayed_ready_is_named() -> None:
    away = {"kafka": {"stayed_ready": []}, "triton": {"stayed_ready": ["score-galaxies"]}}
    assert wrong_with(away=away) == "without triton ready all the same: ['score-galaxies']"


def test_a_stage_that_takes_much_memory_with_a_backlog_is_named() -> None:
    peak = {"build-fingerprints": 350.0, "score-galaxies": 351.0}
    said = wrong_with(backlog={"memory_peak_mb": peak})
    assert said == "score-galaxies took 351 MB with a backlog, not within 350 MB"


def test_a_second_scoring_process_that_brings_little_is_named() -> None:
    said = wrong_with(scoring_rate_1=2_000.0, scoring_rate_2=2_100.0)
    assert said == "two scoring processes are 1.05 times as fast as one, not 1.1"


def test_two_scoring_processes_need_not_be_faster_on_one_core() -> None:
    report = good_report()
    report.machine["cores"] = 1
    report.reliability["scoring_rate_2"] = report.reliability["scoring_rate_1"]
    assert what_is_wrong(report) == ""


def test_sending_too_slowly_is_named() -> None:
    report = good_report()
    report.sending[STEADY] = dataclasses.replace(report.sending[STEADY], seconds=66.0)
    said = f"{STEADY}: 6,000 observations sent in 66.0 s, not within 60 s"
    assert what_is_wrong(report) == said


@pytest.mark.parametrize(
    ("seconds", "wanted", "late"),
    [(62.9, 60.0, False), (63.1, 60.0, True), (10.7, 9.75, False), (10.8, 9.75, True)],
)
def test_sending_may_take_a_twentieth_or_a_second_longer(
    seconds: float, wanted: float, late: bool
) -> None:
    assert Sending(1_000, seconds, wanted, 900).late == late


def test_one_fault_does_not_hide_another() -> None:
    said = wrong_with(untrue={"doubled": ["a"]}, slowest_recovery_s=11.0, scoring_rate_2=1_000.0)
    assert [each.split()[0] for each in said.split("; ")] == ["untrue:", "back", "two"]


@pytest.fixture
def scoring() -> Iterator[list[int]]:
    """Process ids of two commands like those of a scoring stage."""
    wait = [sys.executable, "-c", "import time; time.sleep(60)", "score-galaxies", "--instance"]
    running = [subprocess.Popen([*wait, f"bench7-score-galaxies-{number}"]) for number in (0, 1)]
    yield [each.pid for each in running]
    for each in running:
        each.kill()
        each.wait()


def bench(directory: Path) -> _Bench:
    """The measurements, with this process in the place of the servers."""
    server = SimpleNamespace(pid=os.getpid())
    stack: Any = SimpleNamespace(kafka=server, triton=server)
    return _Bench(directory, stack, QUICK, Report(), Console(quiet=True))


def test_each_process_of_a_stage_has_its_own_peak(
    scoring: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = bench(tmp_path)._processes(os.getpid())
    of_stage = [each for each in found if each.component == "score-galaxies"]
    memory = benchmark._Memory(each for each in of_stage if each.process.pid in scoring)
    for taken in ((200.0, 300.0), (220.0, 280.0)):
        now = dict(zip(scoring, taken, strict=True))
        monkeypatch.setattr(benchmark, "memory_mb", lambda process, now=now: now[process.pid])
        memory.look()
    assert memory.peak_mb == {"score-galaxies-0": 220.0, "score-galaxies-1": 300.0}


def test_a_process_that_ended_keeps_its_peak(
    scoring: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    process = benchmark._Process("score-galaxies", "score-galaxies-0", psutil.Process(scoring[0]))
    memory = benchmark._Memory([process])
    memory.look()
    before = dict(memory.peak_mb)

    def ended(process: psutil.Process) -> float:
        raise psutil.NoSuchProcess(process.pid)

    monkeypatch.setattr(benchmark, "memory_mb", ended)
    memory.look()
    assert memory.peak_mb == before
    assert before["score-galaxies-0"] > 0


@pytest.fixture
def observations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Observation]:
    """Those of a run, with galaxies in the store at one place."""
    monkeypatch.chdir(tmp_path)
    codec = Codec()
    sent = bench(tmp_path)._events(Settings(), 1_500, [Position(5.0, 5.0, 0.1)], seed=4)
    decoded = [codec.decode(each.value) for each in sent]
    assert all(isinstance(each, Observation) for each in decoded)
    return [each for each in decoded if isinstance(each, Observation)]


def kind(observation: Observation) -> str:
    if observation.spectrum is not None:
        return "spectrum"
    if observation.continuum_map is not None:
        return "map"
    if observation.photometry is not None:
        bands = {each.band for each in observation.photometry.measurements}
        return "continuum" if bands <= set(CONTINUUM_BANDS) else "catalogue"
    return "catalogue"


def test_the_observations_are_a_mix_of_kinds_most_of_them_of_existing_galaxies(
    observations: list[Observation],
) -> None:
    assert len(observations) == 1_500
    shares = {name: n / 1_500 for name, n in Counter(map(kind, observations)).items()}
    wanted = {"catalogue": 0.60, "continuum": 0.20, "spectrum": 0.15, "map": 0.05}
    assert shares == pytest.approx(wanted, abs=0.03)
    channels = {len(each.spectrum.frequency_hz) for each in observations if each.spectrum}
    assert channels == {960, 1_000}  # tunings and scans
    moved = sum(each.right_ascension_deg == 5.0 for each in observations)
    unmovable = shares["map"]
    assert moved / 1_500 == pytest.approx(0.8 * (1 - unmovable), abs=0.03)
