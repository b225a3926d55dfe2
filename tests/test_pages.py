"""What the Markdown pages say works: every command and program in them is run, links are right.

A block of code says its language. ``console``: what a user types, a command a line; ``python``: a
whole program; ``toml``: settings, or a mapping of columns; ``json``; ``text``: no code. Directly
above one that is not run stands why: ``<!-- not run: it takes half an hour -->``.
"""

from __future__ import annotations

import itertools
import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import pytest

from mmbroker.deploy.local import LocalStack
from mmbroker.models.packaged.comparison import kept_to_compare
from mmbroker.models.pages.render import TEMPLATES
from mmbroker.models.serving.repository import provide
from mmbroker.streams.proving.embedded import Settled
from mmbroker.streams.publishing.files import publish_files
from tests.command import run_command
from tests.conftest import Broker, broker_on, wait_until
from tests.markdown import Block, anchors, blocks, code_in_text, faults, links
from tests.processors.ingest.test_spectra_and_maps import map_file, spectrum_file
from tests.run_page import (
    REPOSITORY,
    Outcome,
    World,
    execute,
    run_page,
    tracked,
)

RECORDS = ("models/reports", "models/protocols")
"""Pages on what was done, and how: their commands are history."""

HISTORY = ("models/protocols", "CHANGELOG.md")
"""Pages that name files as they were called then."""

SAMPLE = REPOSITORY / "deploy" / "demo"
TABLES = [SAMPLE / f"{name}.ecsv" for name in ("goodsn", "spt", "lines")]
FORMER_CRITIC = kept_to_compare("version_1")
PAGES = {str(page.relative_to(REPOSITORY)): page for page in tracked("*.md")}
RUN = [name for name in PAGES if name != "CHANGELOG.md" and not name.startswith(RECORDS)]

NAMED = re.compile(r"(schemas|processors|models|streams|deploy|tests|\.github|\.ci)/[\w./-]+")
"""A file or a folder of ours."""

MODULE = re.compile(r"[a-z_]+\.py")
"""A module of ours, without its folder."""

NEEDS_NO_STAGES = re.compile(r"\bmmbroker (run|stage|rescore|rebuild)\b")
STARTS_A_STACK = re.compile(r"\bmmbroker (stack (up|down|.*--user)|demo)\b")
ASKS_A_STACK = re.compile(r"\bmmbroker (run|check|stack (down|status|logs|environment))\b")
WANTS_ALL_SETTLED = re.compile(r"\bmmbroker (ledger|check|verify|explain)\b")


# Worlds -------------------------------------------------------------------------------------------


@dataclass
class Brokers:
    """Servers, a broker that runs on them, and one whose stages are stopped.

    Blocks that start a local stack have one of their own, in the folder where they are run.
    """

    running: Broker
    stopped: World
    galaxy: str

    @contextmanager
    def world(self, block: Block, folder: Path) -> Iterator[World]:
        """The world for a block of code."""
        typed = block.content if block.language == "console" else ""
        with ExitStack() as ending:
            if STARTS_A_STACK.search(typed):
                ending.callback(execute, "mmbroker stack down", folder, {})
                yield World({}, {"STREAM": "confident"}, _start_what_is_asked())
            elif NEEDS_NO_STAGES.search(typed):
                yield self.stopped
            else:
                yield World(self.running.environment, self._stands_for(), self._prepare)

    def _stands_for(self) -> dict[str, str]:
        kafka = self.running.settings.kafka.bootstrap_servers
        (scraped,) = json.loads(
            next(
                iter((self.running.settings.data_directory / "metrics").glob("*.json"))
            ).read_text()
        )
        return {
            "GALAXY": self.galaxy,
            "HOST:PORT": kafka,
            "localhost:PORT": scraped["targets"][0],
            "STREAM": "confident",
        }

    def _prepare(self, command: str, folder: Path) -> None:
        provide_files(command, folder)
        provide_model(command, folder, self.running.environment)
        if WANTS_ALL_SETTLED.search(command):
            wait_until(Settled(self.running.settings), "not all is accounted for", 120)


def _start_what_is_asked() -> Callable[[str, Path], None]:
    """Before the first command that asks a stack, start one, unless the block has done so."""
    started = False

    def prepare(command: str, folder: Path) -> None:
        nonlocal started
        if ASKS_A_STACK.search(command) and not started:
            secured = " --secured" if "--user" in command else ""
            assert execute(f"mmbroker stack up{secured}", folder, {}) == ""
            started = True
        started |= "mmbroker stack up" in command

    return prepare


def provide_files(command: str, folder: Path) -> None:
    """Put the files where a command names them that the pages leave to their reader."""
    for name in re.findall(r"[\w./-]+\.(?:ecsv|fits|py)\b", command):
        file = folder / name
        if file.exists():
            continue
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix == ".fits":
            made = (map_file if "map" in name.lower() else spectrum_file)(folder)
            made.rename(file)
        elif (SAMPLE / file.name).exists():
            shutil.copyfile(SAMPLE / file.name, file)
        elif file.suffix == ".ecsv":
            for suffix in (".ecsv", ".toml"):  # copies: a command may write to them
                shutil.copyfile(SAMPLE / f"spt{suffix}", file.with_suffix(suffix))


def provide_model(command: str, folder: Path, environment: dict[str, str]) -> None:
    """Have a second version of the critic where a command adds it, and served where one is used."""
    if match := re.search(r"\bmodels add critic (\S+)", command):
        place = folder / match[1]
        if not (place / "critic.onnx").exists():
            if place.exists():  # what an earlier command of the block has called so
                place.rename(place.with_name(f"{place.name}.before"))
            place.symlink_to(FORMER_CRITIC)
    if re.search(r"\bmodels (use|remove) critic 2\b", command):
        listed = run_command(["models", "list", "--json"], environment)
        served = [
            each
            for each in json.loads(listed.stdout)
            if (each["model"], each["version"]) == ("critic", 2)
        ]
        if not served:
            added = run_command(["models", "add", "critic", str(FORMER_CRITIC)], environment)
            assert added.returncode == 0, added.stderr


@pytest.fixture(scope="module")
def brokers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Brokers]:
    """Servers of their own: what the pages do to models would surprise other tests."""
    data = tmp_path_factory.mktemp("data")
    provide(data / "models", "embedded")
    with LocalStack(data / "stack", model_repository=data / "models", quiet=True) as stack:
        elsewhere = tmp_path_factory.mktemp("stopped")
        with broker_on(stack, elsewhere, "stopped") as stopped:
            fill(stopped, TABLES[1:2])
        with broker_on(stack, data, "mm") as running:
            fill(running, TABLES)
            galaxy = running.read("confident")[0].galaxy
            assert galaxy is not None
            yield Brokers(running, _stopped(stopped), galaxy.galaxy_id)


def fill(broker: Broker, tables: list[Path]) -> None:
    summary = publish_files(tables, settings=broker.settings, progress=False)
    assert not summary.problems
    broker.settle(summary.sent)


def _stopped(broker: Broker) -> World:
    store, lost = broker.settings.store_directory, itertools.count()

    def prepare(command: str, folder: Path) -> None:
        provide_model(command, folder, broker.environment)
        if re.search(r"\bmmbroker rebuild\b(?!.*--replace)", command) and store.exists():
            store.rename(store.with_name(f"lost-{next(lost)}"))
        backup = re.search(r"\bmmbroker rebuild\b.*--backup (\S+)", command)
        if backup and not (folder / backup[1]).exists():
            assert execute(f"mmbroker backup {backup[1]}", folder, broker.environment) == ""

    return World(broker.environment, {"STREAM": "confident"}, prepare)


@pytest.fixture
def make_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    return lambda: tmp_path_factory.mktemp("reader")


# Pages of the repository --------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", RUN)
def test_what_a_page_shows_works(
    name: str, brokers: Brokers, make_folder: Callable[[], Path]
) -> None:
    outcome = run_page(PAGES[name], brokers.world, make_folder)
    assert not outcome.problems, "\n\n".join(outcome.problems)
    if outcome.missing:
        pytest.skip(f"{outcome.run} commands work; not tried: {'; '.join(outcome.missing)}")


@pytest.mark.parametrize("name", [name for name in PAGES if name.startswith(RECORDS)])
def test_blocks_of_a_record_say_what_they_are(name: str) -> None:
    assert [fault for block in blocks(PAGES[name].read_text()) for fault in faults(block)] == []


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name: str) -> None:
    assert broken_links(PAGES[name], REPOSITORY) == []


@pytest.mark.parametrize("name", [name for name in PAGES if not name.startswith(HISTORY)])
def test_files_and_tests_that_a_page_names_are_there(name: str) -> None:
    assert missing_files(PAGES[name].read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("template", sorted(TEMPLATES.glob("*.j2")), ids=lambda path: path.name)
def test_files_that_a_template_names_are_there(template: Path) -> None:
    assert missing_files(template.read_text(encoding="utf-8")) == []


def missing_files(page: str) -> list[str]:
    """What stands between backticks, begins with a folder of ours or is a module, and is not there.

    Names in capitals stand for others, as ``NAME.toml``.
    """
    missing = []
    modules = {path.name for path in tracked("*.py")}
    for code in code_in_text(page):
        path, _, test = code.text.partition("::")
        if MODULE.fullmatch(path) and path not in modules:
            missing.append(f"line {code.line}: there is no {path}")
        if not NAMED.fullmatch(path) or re.search(r"\b[A-Z]{4,}\b", path):
            continue
        file = REPOSITORY / path
        if not file.exists():
            missing.append(f"line {code.line}: there is no {path}")
        elif test and f"def {test}(" not in file.read_text():
            missing.append(f"line {code.line}: {path} has no {test}")
    return missing


def broken_links(page: Path, top: Path) -> list[str]:
    """The relative links of a page that lead nowhere, each with its line."""
    broken = []
    for link in links(page.read_text(encoding="utf-8")):
        path, _, anchor = unquote(link.target).partition("#")
        if re.match(r"[a-z][a-z0-9+.-]*:", path):
            continue
        base = top if path.startswith("/") else page.parent
        target = (base / path.lstrip("/")).resolve() if path else page
        if not target.is_relative_to(top) or not target.exists():
            broken.append(f"line {link.line}: there is no {path}")
        elif anchor and target.suffix == ".md" and anchor not in anchors(target.read_text()):
            broken.append(f"line {link.line}: {target.name} has no heading #{anchor}")
    return broken


# Pages of our own, which show that the test bites -------------------------------------------------

GOOD = """
# Good

```console
# a comment
source .venv/bin/activate
mmbroker explain GALAXY | grep -c HyperScore   # a pipeline
mmbroker verify GALAXY
mmbroker subscribe STREAM --from earliest --until-end --json | jq .galaxy.redshift.best
mmbroker subscribe confident   # goes on
mmbroker top --watch
mmbroker publish --check \\
  my/TABLE.ecsv my/SPECTRUM.fits my/MAP.fits deploy/demo/goodsn.ecsv
curl --fail --silent localhost:PORT/readyz
mmbroker stack status
export MORE=yes
test "$MORE" = yes
make bench QUICK=1
pip install confluent-kafka fastavro 'mmbroker[registry]'
```

```python
from mmbroker import subscribe

for read in subscribe("confident", start="earliest", until_end=True):
    assert read.event.galaxy.galaxy_id
```

```python
from hop.io import StartPosition, Stream

stream = Stream(auth=False, start_at=StartPosition.EARLIEST, until_eos=True)
with stream.open("kafka://HOST:PORT/mm.alerts.confident.v1", "r") as alerts:
    assert "GALAXY" in {alert.content["galaxy"]["galaxy_id"] for alert in alerts}
```
"""

BAD = """
```console
mmbroker explain nothing
mmbroker this-is-not-tried
```

```console
mmbroker subscribe confident --until-end --from earliest | false
```

```console
mmbroker subscribe nothing
```

```console
mmbroker run --no-such-option
```

```console
make nothing
```

```python
from mmbroker import subscribe

for read in subscribe("nothing"):
    pass
```
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_page_that_is_right_has_no_problem(
    brokers: Brokers, make_folder: Callable[[], Path], tmp_path: Path
) -> None:
    outcome = run_own(GOOD, brokers, make_folder, tmp_path)
    assert outcome == Outcome(run=12)


@pytest.mark.slow
def test_every_block_that_fails_is_told_with_its_line(
    brokers: Brokers, make_folder: Callable[[], Path], tmp_path: Path
) -> None:
    problems = run_own(BAD, brokers, make_folder, tmp_path).problems
    assert [each.splitlines()[0] for each in problems] == [
        "own.md:3: 'mmbroker explain nothing' ends with status 1:",
        "own.md:8: 'mmbroker subscribe confident --until-end --from earliest | false' "
        "ends with status 1:",
        "own.md:12: 'mmbroker subscribe nothing' ends with status 1, and should go on:",
        "own.md:16: 'mmbroker run --no-such-option' ends with status 2, and should go on:",
        "own.md:20: 'make nothing' make has no target nothing",
        "own.md:23: 'python block.py' ends with status 1, and should go on, with a traceback:",
    ]
    assert "mmbroker: " in problems[0]


def run_own(text: str, brokers: Brokers, make_folder: Callable[[], Path], folder: Path) -> Outcome:
    (folder / "own.md").write_text(text)
    return run_page(folder / "own.md", brokers.world, make_folder)


def test_links_that_lead_nowhere_are_told(tmp_path: Path) -> None:
    (tmp_path / "there.md").write_text("# A heading\n")
    page = tmp_path / "page.md"
    page.write_text(
        "# Top\n\n[a](there.md#a-heading) [b](#top) [c](/there.md) [d](https://example.org/x)\n\n"
        "[e](away.md)\n\n[f](there.md#another) [g](#bottom)\n\n![h](../outside.png)\n"
    )
    (tmp_path.parent / "outside.png").touch()
    assert broken_links(page, tmp_path) == [
        "line 5: there is no away.md",
        "line 7: there.md has no heading #another",
        "line 7: page.md has no heading #bottom",
        "line 9: there is no ../outside.png",
    ]


def test_files_and_tests_that_are_not_there_are_told() -> None:
    page = (
        "`streams/topics.py` `streams/nothing.py` `schemas/avro/` `streams/NAME.py`\n\n"
        "`tests/test_pages.py::test_links_lead_somewhere` `tests/test_pages.py::test_nothing`\n\n"
        "`topics.py` `nothing.py` `NAME.py`\n"
    )
    assert missing_files(page) == [
        "line 1: there is no streams/nothing.py",
        "line 3: tests/test_pages.py has no test_nothing",
        "line 5: there is no nothing.py",
    ]
