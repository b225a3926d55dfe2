"""The live ranked table of scored galaxies."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from rich.console import Console
from rich.live import Live
from rich.table import Table

from schemas.events import ScoredGalaxy

from .settings import Settings
from .subscribe import Read, read

REFRESH_PER_S = 2.0


class Standings:
    """The newest score of every galaxy."""

    def __init__(self) -> None:
        self._galaxies: dict[str, ScoredGalaxy] = {}
        self._lock = threading.Lock()

    def take(self, message: Read) -> None:
        """Take in a scored galaxy; an older version than the one known changes nothing."""
        galaxy = message.galaxy
        if galaxy is None:
            return
        with self._lock:
            known = self._galaxies.get(galaxy.galaxy_id)
            if known is None or galaxy.version >= known.version:
                self._galaxies[galaxy.galaxy_id] = galaxy

    def best(self, count: int) -> list[ScoredGalaxy]:
        """The galaxies of highest probability, best first."""
        with self._lock:
            galaxies = list(self._galaxies.values())
        return sorted(galaxies, key=lambda each: (-each.probability, each.galaxy_id))[:count]

    def __len__(self) -> int:
        return len(self._galaxies)


def render(standings: Standings, count: int) -> Table:
    """The standings as a table."""
    table = Table(
        title=f"{len(standings):,} galaxies by the probability that their redshift is right",
        caption="P: |dz| <= 0.05 (1+z), calibrated.  * contains simulated data  ? ambiguous",
    )
    columns = ("rank", "galaxy", "RA deg", "Dec deg", "z", "68 %", "lines", "critic", "HyperScore")
    for name in (*columns, "P"):
        table.add_column(name, justify="left" if name in ("galaxy", "lines") else "right")
    for rank, galaxy in enumerate(standings.best(count), start=1):
        table.add_row(*_row(rank, galaxy))
    return table


def _row(rank: int, galaxy: ScoredGalaxy) -> list[str]:
    marks = ("*" if galaxy.simulated else "") + ("?" if galaxy.ambiguous else "")
    interval = galaxy.redshift.interval_68
    modes = galaxy.redshift.identifications
    genuine = galaxy.critic.genuine_probability
    return [
        str(rank),
        galaxy.galaxy_id + marks,
        f"{galaxy.right_ascension_deg:.4f}",
        f"{galaxy.declination_deg:+.4f}",
        f"{galaxy.redshift.best:.3f}",
        f"{interval.lower:.2f}-{interval.upper:.2f}",
        " ".join(modes[0].lines) if modes else "",
        "absent" if genuine is None else f"{genuine:.2f}",
        f"{galaxy.hyperscore:.1f}",
        f"{galaxy.probability:.3f}",
    ]


def collect(settings: Settings) -> Standings:
    """The standings as of now."""
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
        count: how many rows.
        stop: asked between refreshes.
    """
    standings = Standings()
    ended = threading.Event()
    messages = read(settings, "scored", stop=ended.is_set)
    reader = threading.Thread(target=_follow, args=(standings, messages), daemon=True)
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
    return standings


def _follow(standings: Standings, messages: Iterable[Read]) -> None:
    for message in messages:
        standings.take(message)
