"""The report of the benchmark: what is measured, the targets, the table and the plot."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from mmbroker.streams.settings import Workers

END_TO_END_PROCESSES = Workers(build_fingerprints=2, score_galaxies=2)
"""Processes of each stage in the end-to-end measurements. Scoring takes the largest part of the
processor time, and building waits for parsers and disk. With one process of each, a core would be
idle at times."""

SETTING = (
    "simulated observations; end to end "
    f"{END_TO_END_PROCESSES.build_fingerprints} processes building, "
    f"{END_TO_END_PROCESSES.score_galaxies} scoring"
)

FLOORS = {"rate_0": "floor_0", "rate_10k": "floor_10k", "rate_100k": "floor_100k"}
"""The floor with which each end-to-end rate is compared."""

RECOVERY_LIMIT_S = 10.0
"""After a component is back, the stages that need it have to go on within this time. Otherwise the
benchmark fails."""

MOST_MEMORY_MB = 400.0
"""What the operator's page states for a process of a stage. The benchmark fails if large bad
messages take more."""

BACKLOG_LIMIT_MB = 350.0
"""No process of a stage may take more memory than this, however many events wait for it. Otherwise
the benchmark fails."""

SCORING_GAIN = 1.1
"""Two scoring processes have to be at least this many times as fast as one, if the machine has a
core for each. Otherwise the benchmark fails."""

LATE_SHARE, LATE_S = 0.05, 1.0
"""Sending may take longer than planned by this share of the time or by these seconds, whichever is
larger. Otherwise the benchmark fails, because the latencies would be those of a lower rate."""

CPU_RATIOS = {"rate_0": "cpu_ratio_0", "rate_10k": "cpu_ratio_10k", "rate_100k": "cpu_ratio_100k"}
"""Names of the ratios: processor time of an observation end to end, with the servers, divided by
that of an event in the raw loop just before and after. A ratio can be compared between machines."""

JUDGED = "cpu_ratio_100k"
"""The ratio that is judged on every machine."""

GROWTH = 1.1
"""The judged ratio may be at most this many times that of the reference. Otherwise the benchmark
fails."""

LEAST = {"rate_100k": 1_000.0}
MOST = {"latency_p50_ms": 150.0, "latency_p99_ms": 500.0, "burst_p99_s": 5.0}
"""Targets on two cores: these figures have to be at least, or at most, this large. Otherwise the
benchmark fails. They depend on the machine, so they are judged only if it is fast enough."""

FAST_ENOUGH = 10_000.0
"""The machine is fast enough if the raw loop, at the rate with the largest number of galaxies,
reaches this many events/s."""


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    Attributes:
        events: number of observations for each rate.
        existing: numbers of galaxies in the store, one for each end-to-end rate.
        steady_s: how long 100 observations/s are sent.
        burst: number of observations of the burst, and the seconds over which they are sent.
        updates: number of galaxies that are updated together, for each length of history.
        kills: number of observations that stream during the kills, number of kills, and the seconds
            for which Kafka, Triton and the store are each away once. With 0 observations the
            measurement is skipped.
        backlog: number of large spectra that wait for the stages, and the channels of each. With 0
            spectra the measurement is skipped.
        fuzz_s: how long each entry is fuzzed; with 0 it is not.
        strangers: whether it is measured what bad messages cost.
    """

    events: int = 20_000
    existing: tuple[int, ...] = (0, 10_000, 100_000)
    steady_s: float = 60.0
    burst: tuple[int, float] = (10_000, 39.0)
    updates: int = 60
    kills: tuple[int, int, float] = (20_000, 15, 60.0)
    backlog: tuple[int, int] = (30_000, 1_250)
    fuzz_s: float = 40.0
    strangers: bool = True


QUICK = Sizes(
    10_000, (0, 10_000, 100_000), 12.0, (2_500, 9.75), 30, (0, 0, 0.0), (0, 0), 0.0, False
)


@dataclass(frozen=True)
class Sending:
    """How the observations were sent whose latencies are measured.

    Attributes:
        observations: number of observations.
        seconds: time that sending took, in s.
        seconds_wanted: time that sending should have taken, in s.
        alerts_timed: number of alerts that came of them; several observations of one galaxy in a
            batch make one alert.
    """

    observations: int
    seconds: float
    seconds_wanted: float
    alerts_timed: int

    @property
    def late(self) -> bool:
        """Whether sending took so long that the rate was too low."""
        return self.seconds - self.seconds_wanted > max(LATE_SHARE * self.seconds_wanted, LATE_S)


@dataclass
class Report:
    """What was measured; ``figures`` are the keys at the top of the JSON."""

    figures: dict[str, float] = field(default_factory=dict)
    stages: dict[str, float] = field(default_factory=dict)
    cpu_ms_per_observation: dict[str, float] = field(default_factory=dict)
    cpu_ms_per_raw_event: float = 0.0
    parts_ms_per_observation: dict[str, float] = field(default_factory=dict)
    models_ms_per_observation: dict[str, float] = field(default_factory=dict)
    memory_mb: dict[str, float] = field(default_factory=dict)
    update_ms: dict[str, float] = field(default_factory=dict)
    reliability: dict[str, Any] = field(default_factory=dict)
    latencies_ms: dict[str, list[float]] = field(default_factory=dict)
    sending: dict[str, Sending] = field(default_factory=dict)
    machine: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Everything as plain values; the latencies as percentiles."""
        content = dataclasses.asdict(self)
        latencies = content.pop("latencies_ms")
        content["latency_percentiles_ms"] = {
            name: {str(each): float(np.percentile(values, each)) for each in (5, 50, 95, 99, 100)}
            for name, values in latencies.items()
        }
        return {**content.pop("figures"), **content}


def reference() -> float:
    """The judged ratio of the reference run, ``deploy/benchmark.json``."""
    text = (resources.files("mmbroker.deploy") / "benchmark.json").read_text()
    return float(json.loads(text)[JUDGED])


def fast_enough(report: Report) -> bool:
    """Whether the machine is so fast that ``LEAST`` and ``MOST`` are judged."""
    return report.figures["floor_100k"] >= FAST_ENOUGH


def render(report: Report) -> Table:
    """The figures as a table."""
    figures = report.figures
    judged = "judged" if fast_enough(report) else "not judged: this machine is slower"
    table = Table(
        title=f"benchmark ({SETTING})",
        caption=f"rate and latencies are judged where the raw loop reaches {FAST_ENOUGH:,.0f}/s: "
        f"here {judged}",
    )
    table.add_column("what")
    table.add_column("figure", justify="right")
    table.add_column("of the floor", justify="right")
    table.add_column("target", justify="right")
    floor = figures["floor_rate"]
    table.add_row("raw loop (floor)", f"{floor:,.0f}/s", "1")
    for stage, rate in report.stages.items():
        table.add_row(f"{stage} alone", f"{rate:,.0f}/s", f"{rate / floor:.3f}")
    for name, said in (("rate_0", "0"), ("rate_10k", "10,000"), ("rate_100k", "100,000")):
        if name in figures:
            rate, floor = figures[name], figures[FLOORS[name]]
            table.add_row(f"raw loop at {said} galaxies", f"{floor:,.0f}/s", "1")
            share, target = f"{rate / floor:.3f}", _target(name)
            table.add_row(f"end to end, {said} galaxies", f"{rate:,.0f}/s", share, target)
            ratio = CPU_RATIOS[name]
            table.add_row("  its processor time", "", f"{figures[ratio]:.1f}", _target(ratio))
    for name, said, figure in (
        ("latency_p50_ms", "latency at 100/s, p50", "{:.0f} ms"),
        ("latency_p99_ms", "latency at 100/s, p99", "{:.0f} ms"),
        ("burst_p99_s", "burst, p99", "{:.2f} s"),
    ):
        table.add_row(said, figure.format(figures[name]), "", _target(name))
    for length, milliseconds in report.update_ms.items():
        table.add_row(f"update after {length} observations", f"{milliseconds:.2f} ms", "")
    for row in _reliability_rows(report.reliability):
        table.add_row(*row, "")
    for component, milliseconds in report.cpu_ms_per_observation.items():
        table.add_row(f"CPU of {component}", f"{milliseconds:.2f} ms/obs", "")
    for part, milliseconds in report.parts_ms_per_observation.items():
        table.add_row(f"time in {part}", f"{milliseconds:.3f} ms/obs", "")
    whole = sum(report.cpu_ms_per_observation.values())
    for model, milliseconds in report.models_ms_per_observation.items():
        share = f", {milliseconds / whole:.1%} of CPU" if whole else ""
        table.add_row(f"of triton's, model {model}", f"{milliseconds:.3f} ms/obs{share}", "")
    for instance, megabytes in report.memory_mb.items():
        table.add_row(f"memory of {instance}, at most", f"{megabytes:.0f} MB", "")
    return table


def _target(name: str) -> str:
    """The target of a figure, as text; empty if it has none."""
    if name == JUDGED:
        return f"at most {GROWTH * reference():.1f}"
    if name in LEAST:
        return f"at least {LEAST[name]:,g}"
    return f"at most {MOST[name]:,g}" if name in MOST else ""


def what_is_wrong(report: Report) -> str:
    """Why a run fails, as text; empty if it does not fail."""
    reliability = report.reliability
    untrue = {name: value for name, value in reliability.get("untrue", {}).items() if value}
    slowest = reliability.get("slowest_recovery_s", 0.0)
    said = [f"untrue: {untrue}"] if untrue else []
    figures = report.figures
    missed = [JUDGED] if figures[JUDGED] > GROWTH * reference() else []
    if fast_enough(report):
        missed += [name for name, least in LEAST.items() if figures[name] < least]
        missed += [name for name, most in MOST.items() if figures[name] > most]
    said += [f"{name} is {figures[name]:,.4g}, not {_target(name)}" for name in missed]
    if slowest > RECOVERY_LIMIT_S:
        said.append(f"back at work after {slowest:.1f} s, not within {RECOVERY_LIMIT_S:.0f} s")
    for component, away in reliability.get("away", {}).items():
        if away["stayed_ready"]:
            said.append(f"without {component} ready all the same: {away['stayed_ready']}")
    for stage, megabytes in reliability.get("backlog", {}).get("memory_peak_mb", {}).items():
        if megabytes > BACKLOG_LIMIT_MB:
            much = f"{megabytes:.0f} MB with a backlog, not within {BACKLOG_LIMIT_MB:.0f} MB"
            said.append(f"{stage} took {much}")
    said += strangers_wrong(reliability.get("strangers", {}))
    fuzzed = reliability.get("fuzz", {})
    said += [f"fuzz of {name}: {each['wrong']}" for name, each in fuzzed.items() if each["wrong"]]
    gain = reliability["scoring_rate_2"] / reliability["scoring_rate_1"]
    if gain < SCORING_GAIN and report.machine["cores"] >= 2:
        said.append(
            f"two scoring processes are {gain:.2f} times as fast as one, not {SCORING_GAIN:g}"
        )
    for name, sending in report.sending.items():
        if sending.late:
            times = f"{sending.seconds:.1f} s, not within {sending.seconds_wanted:g} s"
            said.append(f"{name}: {sending.observations:,} observations sent in {times}")
    return "; ".join(said)


def strangers_wrong(measured: Mapping[str, Any]) -> list[str]:
    """What does not hold of what bad messages may cost.

    Args:
        measured: what ``strangers`` of the benchmark found; may be empty.
    """
    costs = measured.get("costs", {}).items()
    said = [f"among bad messages, {name}: {each['wrong']}" for name, each in costs if each["wrong"]]
    for stage, megabytes in measured.get("memory_peak_mb", {}).items():
        if megabytes > MOST_MEMORY_MB:
            much = f"{megabytes:.0f} MB with large bad messages, not within {MOST_MEMORY_MB:.0f} MB"
            said.append(f"{stage} took {much}")
    return said


def _reliability_rows(measured: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, each in measured.get("fuzz", {}).items():
        held = f"slowest {each['slowest_ms']:.0f} ms, memory grew by {each['growth_mb']:.0f} MB"
        yield f"fuzz of {name}, {each['inputs']:,} inputs", each["wrong"] or held
    strange = measured.get("strangers", {})
    for name, each in strange.get("costs", {}).items():
        cost = f"{each['bad_us']:.0f} us each; good ones keep {each['share']:.2f} of their rate"
        yield f"bad messages, {name}", cost
    for stage, megabytes in strange.get("memory_peak_mb", {}).items():
        yield f"memory of {stage} with large bad messages", f"{megabytes:.0f} MB"
    for processes in (1, 2):
        rate = measured[f"scoring_rate_{processes}"]
        yield f"scoring, processes: {processes}", f"{rate:,.0f}/s"
    if "kills" in measured:
        wrong = f"{measured['lost']} lost, {measured['doubled']} doubled"
        yield f"{sum(measured['kills'].values())} kills", wrong
        untrue = sum(1 for value in measured["untrue"].values() if value)
        yield "accounts that are not true", str(untrue)
        yield "slowest recovery", f"{measured['slowest_recovery_s']:.1f} s"
        away = measured["away"]
        unready = sum(not each["stayed_ready"] for each in away.values())
        yield "unready while something was away", f"{unready} of {len(away)} times"
    for stage, megabytes in measured.get("backlog", {}).get("memory_peak_mb", {}).items():
        yield f"memory of {stage} with a backlog", f"{megabytes:.0f} MB"


def plot(report: Report, path: Path) -> None:
    """Plot the rates, the latencies and where the time goes, to a PNG file."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

    figure, (rates, latencies, time_spent) = pyplot.subplots(1, 3, figsize=(17, 6))
    shown = {
        "floor": report.figures["floor_rate"],
        **{name: report.figures[name] for name in FLOORS.values() if name in report.figures},
        **{f"{name}\nalone": rate for name, rate in report.stages.items()},
        **{name: value for name, value in report.figures.items() if name.startswith("rate_")},
    }
    rates.barh(list(shown), list(shown.values()))
    rates.invert_yaxis()
    rates.set(xlabel="events/s", title="rates")
    rates.axvline(1000, color="tab:red", linestyle="--", label="target end to end")
    rates.legend()
    for name, values in report.latencies_ms.items():
        ordered = np.sort(values)
        latencies.plot(ordered, np.linspace(0, 1, len(ordered)), label=name)
    latencies.set(xscale="log", xlabel="observation to alert, ms", ylabel="share", title="latency")
    latencies.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    latencies.xaxis.set_major_formatter(ScalarFormatter())
    latencies.xaxis.set_minor_formatter(NullFormatter())
    latencies.legend()
    spent = dict(sorted(report.parts_ms_per_observation.items(), key=lambda each: -each[1]))
    spent |= {f"model {name}": value for name, value in report.models_ms_per_observation.items()}
    time_spent.barh(list(spent), list(spent.values()))
    time_spent.invert_yaxis()
    time_spent.set(xlabel="ms per observation, waiting included", title="where the time goes")
    figure.suptitle(SETTING)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
