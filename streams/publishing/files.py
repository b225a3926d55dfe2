"""Publishes the observations in files: tables, spectra and maps; checks and counts them."""

from __future__ import annotations

import logging
import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from mmbroker.processors.ingest.headers import Given, HeaderError, Origin
from mmbroker.processors.ingest.images import content_of, is_fits, opened
from mmbroker.processors.ingest.mapping import (
    Mapping,
    MappingError,
    NoMappingError,
    find_mapping,
    mapping_beside,
)
from mmbroker.processors.ingest.maps import read_map
from mmbroker.processors.ingest.spectra import read_spectrum
from mmbroker.processors.ingest.table_files import is_table_extension, not_a_file
from mmbroker.processors.ingest.tables import read_table
from mmbroker.processors.validation import problems
from mmbroker.schemas.events import Observation
from mmbroker.streams.kafka.registry import make_codec
from mmbroker.streams.local_stack import load_settings
from mmbroker.streams.publishing.publisher import Publisher
from mmbroker.streams.settings import Settings, SettingsError
from mmbroker.streams.terminal import Terminal
from mmbroker.streams.topics import observation_key

log = logging.getLogger(__name__)

_VALUE = re.compile(r"'[^']*'|(?<== )[^\s,;']+(?: \.\.\. \S+)?")
"""A value in the text of a problem: quoted, or after an equals sign, or a range ``a ... b``."""
_NO_TABLE = (
    "it is no table: the id of a spectrum or map follows from its content, and does not tell which "
    "one it corrects"
)


@dataclass(frozen=True, slots=True)
class Problem:
    """A reason why something cannot be published.

    Attributes:
        file: the file; None for a simulation.
        row: row of the table, counted from 1; None for a file with one observation.
        observation_id: id of the observation; None if the row has none.
        message: what is wrong, with field and value.
    """

    file: Path | None
    row: int | None
    observation_id: str | None
    message: str

    def __str__(self) -> str:
        row = None if self.row is None else f"row {self.row}"
        place = ", ".join(str(part) for part in (self.file, row, self.observation_id) if part)
        return f"{place}: {self.message}"

    @property
    def kind(self) -> str:
        """What is wrong, without the values: the same for all problems of a kind."""
        return _VALUE.sub("…", self.message)


@dataclass(slots=True)
class Summary:
    """What became of the observations in files.

    Attributes:
        check: whether everything was only checked, and nothing sent.
        sent: number of observations that were sent; with ``check``, that would have been sent.
        by_instrument: number of these by instrument.
        problems: what was not sent, with file, row and field.
        unchanged: with ``correct``, number of observations that have not changed and were not sent.
        origins: what was read of each file, and from where.
        seconds: time that it took, in s.
    """

    check: bool = False
    sent: int = 0
    by_instrument: Counter[str] = field(default_factory=Counter)
    problems: list[Problem] = field(default_factory=list)
    unchanged: int = 0
    origins: dict[Path, list[Origin]] = field(default_factory=dict)
    seconds: float = 0.0

    def told(self, most: int | None = None) -> Iterator[str]:
        """The problems as lines of text.

        Args:
            most: give at most this many lines for one kind of problem, and then only the number of
                the rest; None gives all.
        """
        kinds = Counter[str]()
        for problem in self.problems:
            kinds[problem.kind] += 1
            if most is None or kinds[problem.kind] <= most:
                yield str(problem)
        for kind, count in kinds.items():
            if most is not None and count > most:
                yield f"{count - most:,} more: {kind}"

    def table(self) -> Table:
        """The numbers as a table for the terminal."""
        table = Table("Instrument", title="valid" if self.check else "sent")
        table.add_column("Observations", justify="right")
        for instrument, count in self.by_instrument.most_common():
            table.add_row(Text(instrument), f"{count:,}")
        table.add_section()
        table.add_row("all", f"{self.sent:,}")
        if self.unchanged:
            table.add_row("unchanged, not sent", f"{self.unchanged:,}")
        if self.problems:
            table.add_row("problems", f"{len(self.problems):,}")
        table.caption = f"{self.seconds:.1f} s"
        return table

    def explained(self) -> Iterator[Table]:
        """For each file a table of what was read, and from where."""
        for file, origins in self.origins.items():
            table = Table(title=Text(str(file)), title_justify="left")
            for name in ("What", "Value", "From"):
                table.add_column(name, overflow="fold")
            for origin in origins:
                table.add_row(*map(Text, origin))
            yield table


Item = tuple[Path | None, int | None, Observation | None, list[str]]
"""(file, row, observation, problems of reading it). Without an observation and without problems, it
has not changed and need not be sent."""


def publish_files(
    paths: Iterable[str | Path],
    mapping: Mapping | None = None,
    rate: float | None = None,
    check: bool = False,
    progress: bool = True,
    settings: Settings | None = None,
    given: Given | None = None,
    correct: bool = False,
) -> Summary:
    """Publish the observations in files: tables with a mapping, spectra, maps.

    An observation with a problem is not sent, and is listed in the result, as is a file that cannot
    be read; the others are sent.

    Args:
        paths: the files.
        mapping: what the columns of the tables mean; by default, the mapping that fits each table.
        rate: highest number of observations per second; None for no limit.
        check: validate everything and send nothing; Kafka is not needed.
        progress: show a progress bar on standard error.
        settings: the settings; by default those of ``load_settings``.
        given: values that take precedence over the headers of spectra and maps.
        correct: the tables were published before. Send only what is new or has changed; what has
            changed replaces what was published. This needs the store of the stages.

    Returns:
        What became of the observations.

    Raises:
        SettingsError: there is no store to compare with.
        PublishingError: Kafka cannot be reached, or did not take some of the observations.
        ValueError: the rate is not positive.
    """
    files = [Path(path) for path in paths]
    origins: dict[Path, list[Origin]] = {file: [] for file in files}
    items = _items(files, mapping, given or Given(), origins)
    if correct:
        settings = settings or load_settings()
        items = _corrections(items, settings)
    summary = _publish(items, rate, check, progress, settings)
    summary.origins = {file: read for file, read in origins.items() if read}
    return summary


def _items(
    files: list[Path], mapping: Mapping | None, given: Given, origins: dict[Path, list[Origin]]
) -> Iterator[Item]:
    """Everything in files; one that cannot be read is told, and the next is read."""
    for file in files:
        try:
            for row, observation, told in _observations(file, mapping, given, origins[file]):
                yield file, row, observation, told
        except (MappingError, HeaderError, OSError) as error:
            yield file, None, None, [str(error).removeprefix(f"{file}").lstrip(":, ")]
        except Exception as error:  # files of strangers raise errors of every kind
            log.debug("%s", file, exc_info=True)
            yield file, None, None, [f"cannot be read: {type(error).__name__}: {error}"]


def _corrections(items: Iterable[Item], settings: Settings) -> Iterator[Item]:
    """Replace changed observations by corrections, and unchanged ones by None.

    Raises:
        SettingsError: there is no store to compare with.
    """
    # Imported only here: a survey's own pipeline has no store and does not need the code.
    from mmbroker.streams.publishing.correct import NotCorrectableError, correction
    from mmbroker.streams.store import read_store, store_exists

    if not store_exists(settings):
        raise SettingsError(
            f"there is no store in {settings.store_directory}: corrections are made where the "
            "stages run, with their data_directory"
        )
    codec = make_codec(settings)
    with closing(read_store(settings)) as store:
        for file, row, observation, told in items:
            if observation is None:
                yield file, row, None, told
            elif row is None:
                yield file, row, None, [*told, _NO_TABLE]
            else:
                try:
                    with store.reading() as reading:
                        found = correction(observation, reading, codec)
                except NotCorrectableError as error:
                    yield file, row, None, [*told, str(error)]
                else:
                    yield file, row, found, told


def publish_simulated(
    galaxies: int,
    seed: int = 0,
    rate: float | None = None,
    check: bool = False,
    progress: bool = True,
    settings: Settings | None = None,
) -> Summary:
    """Publish observations of simulated galaxies; they are labelled as simulated.

    Args:
        galaxies: number of galaxies.
        seed: seed of the simulation; the same seed gives the same observations.
        rate: highest number of observations per second; None for no limit.
        check: validate everything and send nothing; Kafka is not needed.
        progress: show a progress bar on standard error.
        settings: the settings; by default those of ``load_settings``.

    Returns:
        What became of the observations.

    Raises:
        PublishingError: Kafka cannot be reached, or did not take some of the observations.
        ValueError: the rate or the number of galaxies is not positive.
    """
    from mmbroker.models.simulation.observations import (
        simulate,  # slow to import, and a survey's own pipeline does not need it
    )

    items: Iterator[Item] = (
        (None, None, observation, []) for observation in simulate(galaxies, seed)
    )
    return _publish(items, rate, check, progress, settings)


def _publish(
    items: Iterable[Item],
    rate: float | None,
    check: bool,
    progress: bool,
    settings: Settings | None,
) -> Summary:
    pace = _Pace(rate)
    summary = Summary(check)
    with ExitStack() as stack:
        publisher = None if check else stack.enter_context(Publisher(settings))
        bar = stack.enter_context(_progress_bar(progress))
        task = bar.add_task("checking" if check else "publishing", total=None)
        start = time.monotonic()
        for file, row, observation, told in items:
            broken = told if observation is None else [*told, *problems(observation)]
            if observation is not None and not broken:
                broken = unusable(observation)
            name = None if observation is None else observation.observation_id
            summary.problems += (Problem(file, row, name, message) for message in broken)
            if observation is None or broken:
                summary.unchanged += not broken
                continue
            if publisher is not None:
                publisher.send_unchecked(observation, observation_key(observation))
            summary.sent += 1
            summary.by_instrument[observation.instrument] += 1
            bar.update(task, completed=summary.sent)
            if publisher is not None:
                pace.keep()
    summary.seconds = time.monotonic() - start
    return summary


def unusable(observation: Observation) -> list[str]:
    """Why build-fingerprints could not use a valid observation; empty if it could.

    It can use whatever has neither a spectrum nor a map.
    """
    if observation.spectrum is None and observation.continuum_map is None:
        return []
    # Imported only here: publishing need not wait for the code of the stages.
    from mmbroker.processors.fingerprint.contribution import contribution
    from mmbroker.processors.fingerprint.errors import UnusableError

    try:
        contribution(observation)
    except UnusableError as error:
        return [str(error)]
    return []


class _Pace:
    """Keeps to a rate; after a long delay it does not send faster to make up for it.

    Args:
        rate: observations per second; None for no limit.

    Raises:
        ValueError: the rate is not positive.
    """

    LARGEST_DELAY_S = 0.1
    SHORTEST_SLEEP_S = 0.005
    """The system would make a shorter sleep much longer than asked."""

    def __init__(self, rate: float | None) -> None:
        if rate is not None and not rate > 0:
            raise ValueError(f"rate = {rate} is not positive")
        self._interval = 0.0 if rate is None else 1.0 / rate
        self._due = 0.0

    def keep(self) -> None:
        """Wait until the next observation is due."""
        now = time.monotonic()
        self._due = max(self._due + self._interval, now - self.LARGEST_DELAY_S)
        if self._due - now > self.SHORTEST_SLEEP_S:
            time.sleep(self._due - now)


def publish_unchecked(
    path: str | Path, mapping: Mapping | None = None, settings: Settings | None = None
) -> int:
    """Send all observations of a table, valid or not, to show what quarantine does.

    Returns:
        The number of observations sent.
    """
    path = Path(path)
    sent = 0
    with Publisher(settings) as publisher:
        for row in read_table(path, mapping or find_mapping(path)):
            for observation in row.observations:
                publisher.send_unchecked(observation)
                sent += 1
    return sent


Rows = Iterator[tuple[int | None, Observation | None, list[str]]]
"""(row number, observation, problems) of everything in a file."""


def _observations(path: Path, mapping: Mapping | None, given: Given, origins: list[Origin]) -> Rows:
    if reason := not_a_file(path):
        raise MappingError(f"{path}: {reason}")
    if is_fits(path) and not _is_meant_as_table(path, mapping):
        content = content_of(path, given)
        if content != "table":
            read = read_map if content == "map" else read_spectrum
            yield None, read(path, given, origins), []
            return
    try:
        mapping = mapping or find_mapping(path)
    except NoMappingError as no_mapping:
        if not is_fits(path) and ".ecsv" not in map(str.lower, path.suffixes):
            raise
        try:
            yield None, read_spectrum(path, given, origins), []
        except HeaderError as no_spectrum:
            raise NoMappingError(f"{no_mapping}; as a spectrum: {no_spectrum}") from no_spectrum
        return
    for row in read_table(path, mapping, origins):
        if row.problems:
            yield row.number, None, row.problems
        for observation in row.observations:
            yield row.number, observation, []


def _is_meant_as_table(path: Path, mapping: Mapping | None) -> bool:
    """Whether the table in a FITS file is meant, even if there are images in it.

    A mapping says so that was given and names an extension, or that lies beside the file.
    """
    if not (mapping.table.hdu is not None if mapping else mapping_beside(path).is_file()):
        return False
    with opened(path) as extensions:
        return any(map(is_table_extension, extensions))


def _progress_bar(shown: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=Terminal(stderr=True),
        disable=not shown,
        transient=True,
    )
