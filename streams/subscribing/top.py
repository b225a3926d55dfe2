"""Shows the ranked table of scored galaxies, once or live."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, JustifyMethod, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from mmbroker.schemas.events import Interval, ScoredGalaxy
from mmbroker.streams.errors import InfrastructureError
from mmbroker.streams.settings import Settings
from mmbroker.streams.subscribing.read import Read, read

REFRESH_PER_S = 2.0
WIDE = 110
"""A terminal with this many columns has room for positions."""


class Standings:
    """The newest score of every galaxy.

    A galaxy without a redshift in force has no place in the table, but its version is kept.
    """

    def __init__(self) -> None:
        self._galaxies: dict[str, ScoredGalaxy] = {}
        self._lock = threading.Lock()

    def take(self, message: Read) -> None:
        """Take in a message; a version older than the known one changes nothing."""
        galaxy = message.galaxy
        if galaxy is None:
            return
        with self._lock:
            known = self._galaxies.get(galaxy.galaxy_id)
            if known is None or galaxy.version >= known.version:
                self._galaxies[galaxy.galaxy_id] = galaxy

    def best(self, count: int) -> list[ScoredGalaxy]:
        """The galaxies with the highest probability, best first; then by HyperScore."""
        return sorted(self._placed(), key=_place)[:count]

    def __len__(self) -> int:
        return len(self._placed())

    def _placed(self) -> list[ScoredGalaxy]:
        with self._lock:
            galaxies = list(self._galaxies.values())
        return [
            galaxy
            for galaxy in galaxies
            if galaxy.probability is not None and galaxy.provenance.observation_count
        ]

    @property
    def without_redshift(self) -> int:
        """How many galaxies were observed, but have no redshift in force."""
        with self._lock:
            return sum(
                galaxy.probability is None and galaxy.provenance.observation_count > 0
                for galaxy in self._galaxies.values()
            )


def _place(galaxy: ScoredGalaxy) -> tuple[float, float, str]:
    return -(galaxy.probability or 0.0), -galaxy.hyperscore, galaxy.galaxy_id


def render(standings: Standings, count: int) -> RenderableType:
    """The standings as a table, with one line per galaxy, as wide as the terminal.

    Without any galaxy it is a line that says so.

    Args:
        standings: the standings.
        count: number of galaxies to show.
    """
    return _Ranking(standings, count)


@dataclass(frozen=True)
class _Ranking:
    standings: Standings
    count: int

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> Iterator[RenderableType]:
        without = self.standings.without_redshift
        unranked = f"{without:,} without a redshift yet" if without else ""
        if not len(self.standings):
            yield f"no galaxy is ranked yet{f', {unranked}' if unranked else ''}"
            return
        wide = options.max_width >= WIDE
        table = Table(
            title=f"{len(self.standings):,} galaxies by the probability that their redshift is "
            f"right{f'; {unranked}' if unranked else ''}",
            caption="P: calibrated probability of |Δz| ≤ 0.05 (1 + z)\n"
            "* contains simulated data   ? ambiguous position",
            box=SIMPLE_HEAD,
            padding=(0, 1, 0, 0) if wide else 0,
            show_edge=False,
        )
        shown = [column for column in COLUMNS if wide or not column.only_wide]
        for column in shown:
            table.add_column(column.title, justify=column.justify, no_wrap=column.title != "lines")
        for rank, galaxy in enumerate(self.standings.best(self.count), start=1):
            cells = zip(COLUMNS, _row(rank, galaxy), strict=True)
            table.add_row(
                *(
                    Text(cell, no_wrap=True, overflow="ellipsis")
                    for column, cell in cells
                    if column in shown
                )
            )
        yield table


class _Column(NamedTuple):
    title: str
    justify: JustifyMethod = "right"
    only_wide: bool = False


COLUMNS = (
    _Column("rank"),
    _Column("galaxy", "left"),
    _Column("", "left"),
    _Column("RA deg", only_wide=True),
    _Column("Dec deg", only_wide=True),
    _Column("z"),
    _Column("68 %"),
    _Column("lines", "left"),
    _Column("critic"),
    _Column("HyperScore"),
    _Column("P"),
)
"""The table's columns. The column ``lines`` may be shortened, the others keep their width."""

_NARROW = 0.05
"""Redshift intervals narrower than this come from lines, and are almost symmetric."""


def _row(rank: int, galaxy: ScoredGalaxy) -> list[str]:
    """The cells of a galaxy, one for each of ``COLUMNS``."""
    redshift, probability = galaxy.redshift, galaxy.probability
    assert redshift is not None
    assert probability is not None
    modes = redshift.identifications
    genuine = galaxy.critic.genuine_probability
    return [
        str(rank),
        galaxy.galaxy_id,
        ("*" if galaxy.simulated else " ") + ("?" if galaxy.ambiguous else " "),
        f"{galaxy.right_ascension_deg:.4f}",
        f"{galaxy.declination_deg:+.4f}",
        f"{redshift.best:.3f}",
        _between(redshift.interval_68),
        " ".join(modes[0].lines) if modes else "",
        "absent" if genuine is None else f"{genuine:.2f}",
        f"{galaxy.hyperscore:.2f}",
        f"{probability:.3f}",
    ]


def _between(interval: Interval) -> str:
    """An interval as text: both ends with two decimals, or ± half the width if it is narrow."""
    width = interval.upper - interval.lower
    if width >= _NARROW:
        return f"{interval.lower:.2f}-{interval.upper:.2f}"
    return f"±{width / 2:.3f}"


def collect(settings: Settings) -> Standings:
    """The standings as they are now.

    Raises:
        InfrastructureError: Kafka or the topic cannot be reached.
    """
    standings = Standings()
    for message in read(settings, "scored", until_end=True):
        standings.take(message)
    return standings


def watch(
    settings: Settings, console: Console, count: int, stop: Callable[[], bool] = lambda: False
) -> Standings:
    """Show the standings as they change, until Ctrl-C or until ``stop`` says so.

    Args:
        settings: the settings.
        console: where to show them.
        count: number of rows.
        stop: is called between refreshes, and says whether to stop.

    Returns:
        The standings at the end.

    Raises:
        InfrastructureError: Kafka or the topic cannot be reached.
    """
    standings = Standings()
    ended = threading.Event()
    messages = read(settings, "scored", stop=ended.is_set)
    failed: list[InfrastructureError] = []
    reader = threading.Thread(target=_follow, args=(standings, messages, failed), daemon=True)
    reader.start()
    with Live(render(standings, count), console=console, auto_refresh=False) as live:
        try:
            while reader.is_alive() and not stop():
                live.update(render(standings, count), refresh=True)
                ended.wait(1 / REFRESH_PER_S)
        except KeyboardInterrupt:
            pass
        finally:
            ended.set()
            reader.join()
        live.update(render(standings, count), refresh=True)
    if not console.is_terminal:
        console.line()  # Live ends with a new line only on a terminal
    if failed:
        raise failed[0]
    return standings


def _follow(
    standings: Standings, messages: Iterable[Read], failed: list[InfrastructureError]
) -> None:
    try:
        for message in messages:
            standings.take(message)
    except InfrastructureError as error:
        failed.append(error)
