"""A page is run as its reader would, and what is wrong in it is told; no server is needed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import run_page as running
from tests.markdown import Block
from tests.run_page import (
    Outcome,
    World,
    checked_otherwise,
    execute,
    never_ends,
    parts,
    run_page,
    unknown_in,
)


@contextmanager
def nowhere(block: Block, folder: Path) -> Iterator[World]:
    yield World({"MMBROKER_DATA_DIRECTORY": str(folder)}, {"GALAXY": "mm-1", "HOST:PORT": "h:1"})


@pytest.fixture
def outcome_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Outcome]:
    def run(text: str) -> Outcome:
        page = tmp_path_factory.mktemp("page") / "page.md"
        page.write_text(text)
        return run_page(page, nowhere, lambda: tmp_path_factory.mktemp("reader"))

    return run


@pytest.mark.parametrize(
    ("block", "said"),
    [
        ("```\nx\n```", "page.md:1: the block has no language"),
        ("```toml\n[kafka]\nbootstrap_server = 'h:1'\n```", "kafka.bootstrap_server"),
        ("```toml\n[kafka\n```", "page.md:1: the toml is refused"),
        ("```toml\nname = 'my'\nfiles = 3\n```", "page.md:1: the toml is refused"),
        ("```json\n{'a': 1}\n```", "page.md:1: the json is refused"),
        ("```python\nraise SystemExit(3)\n```", "page.md:1: 'python block.py' ends with status 3"),
        ("```console\ntrue\nfalse | cat\n```", "page.md:3: 'false | cat' ends with status 1"),
        (
            "```python\nimport warnings\nwarnings.warn('odd', RuntimeWarning)\n```",
            "page.md:1: 'python block.py' ends with status 0, with a raw warning",
        ),
        ("```console\ncat deploy/nothing\n```", "No such file"),
        ("Text with `mmbroker nothing`.", "page.md:1: `mmbroker nothing`: mmbroker has no command"),
        ("<!-- not run: no -->\n```console\ntrue\n```", "'no' is no reason"),
        (
            "<!-- not run: it takes half an hour -->\n```console\ntrue\nmake nothing\n```",
            "page.md:4: 'make nothing': make has no target nothing",
        ),
        (
            "<!-- not run: it takes half an hour -->\n```python\nfor each in:\n```",
            "page.md:2: invalid syntax",
        ),
    ],
)
def test_what_is_wrong_is_told(block: str, said: str, outcome_of: Callable[[str], Outcome]) -> None:
    (problem,) = outcome_of(block + "\n").problems
    assert said in problem


def test_what_is_right_is_run(outcome_of: Callable[[str], Outcome]) -> None:
    page = """
```console
test -d deploy/demo          # a comment
export A=b
test "$A" = b && test -z "$MMBROKER_CONFIG"
test GALAXY = mm-1 && \\
  test "at HOST:PORT, MYGALAXY" = "at h:1, MYGALAXY"
mmbroker --version | grep -q '^mmbroker [0-9]'
mmbroker-of-others --help || true
```

```python
import mmbroker

assert mmbroker.Observation
```

```toml
[kafka]
bootstrap_servers = "kafka1:9093"

[[alert_streams]]
name = "mine"
```

```json
{"a": 1}
```

```text
anything
```

<!-- not run: the folder of tables is not ours to give -->
```console
MMBROKER_DATA=folder python -m mmbroker.models.critic.train --recipe full
```
"""
    assert outcome_of(page) == Outcome(run=7)


def test_a_program_that_is_not_here_is_told_and_the_rest_is_run(
    outcome_of: Callable[[str], Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "NOT_EVERYWHERE", {"no-such-program"})
    outcome = outcome_of("```console\nno-such-program -b x | cat\ntrue\n```\n")
    assert outcome.problems == []
    assert outcome.missing == ["page.md:2: 'no-such-program -b x | cat': no no-such-program here"]
    assert outcome.run == 1


# A command that goes on until Ctrl-C --------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("sleep 60", ""),
        ("trap 'exit 0' INT; while true; do sleep 0.1; done", ""),
        ("trap 'exit 3' INT; while true; do sleep 0.1; done", "ends with status 3 after Ctrl-C"),
        ("trap '' INT; sleep 60", "does not end by Ctrl-C"),
        ("true", "ends with status 0, and should go on"),
        ("echo Traceback >&2; sleep 60", "with a traceback"),
    ],
)
def test_it_has_to_live_and_to_end_by_ctrl_c(
    script: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "ALIVE_S", 1.0)
    monkeypatch.setattr(running, "END_LIMIT_S", 2.0)
    problem = execute(script, tmp_path, {}, endless=True)
    assert said in problem
    assert bool(said) == bool(problem)


def test_what_should_end_and_does_not_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "COMMAND_LIMIT_S", 1.0)
    began = time.monotonic()
    assert execute("sleep 60", tmp_path, {}).startswith("does not end")
    assert time.monotonic() - began < 30


@pytest.mark.parametrize(
    ("command", "endless"),
    [
        ("mmbroker run", True),
        (".venv/bin/mmbroker stage score-galaxies --instance NAME  # one", True),
        ("mmbroker subscribe confident --json | jq .galaxy", True),
        ("mmbroker subscribe confident --until-end | jq .galaxy", False),
        ("mmbroker top --watch", True),
        ("mmbroker top", False),
        ("mmbroker demo", True),
        ("mmbroker demo --once", False),
        ("mmbroker run --help", False),
        ("echo mmbroker run", False),
    ],
)
def test_it_is_known_by_its_words(command: str, endless: bool) -> None:
    assert never_ends(command) == endless


# What is not run ----------------------------------------------------------------------------------


def test_a_pipeline_has_its_programs_and_their_words() -> None:
    assert parts("A=b sudo .venv/bin/a 'x y' --c=d \\\n -e | f && g > h # no | more") == [
        ["a", "x y", "--c=d", "-e"], ["f"], ["g"], ["h"],
    ]  # fmt: skip
    assert parts("it's no shell") == parts("# nothing") == []


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("make test ARGS='-m \"not slow\"'", ""),
        ("MMBROKER_TRITON__PARSER= make bench QUICK=1", ""),
        ("make tests", "no target tests"),
        ("source .venv/bin/activate", ""),
        ("source venv/bin/activate", "make installs into .venv/bin/activate"),
        ("pip install confluent-kafka 'mmbroker[registry]'", ""),
        ("pip install no-such-distribution", "the tests do without no-such-distribution"),
        ("pip install 'mmbroker[everything]'", "no extra everything"),
        ("sudo apt-get install make", ""),
        (".venv/bin/python -m pytest tests/processors -k merge", ""),
        (".venv/bin/python -m pytest tests/nothing", "there is no tests/nothing"),
        ("mmbroker check", None),
        ("python a.py", None),
    ],
)
def test_what_would_change_the_checkout_is_checked_otherwise(
    command: str, said: str | None
) -> None:
    checked = checked_otherwise(command)
    assert checked == said or (said and checked is not None and said in checked)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("mmbroker stack up --secured", ""),
        ("mmbroker --version", ""),
        ("mmbroker publish TABLE.ecsv --right-ascension -3.5", ""),
        ("mmbroker models add critic DIRECTORY", ""),
        ("mmbroker stack sideways", "mmbroker stack has no command sideways"),
        ("mmbroker top --no-such", "mmbroker top has no option --no-such"),
        ("cat x | mmbroker top --no-such", "no option"),
        ("python -m mmbroker.models.report redshift", ""),
        ("python -m mmbroker.nothing.here", "no module mmbroker.nothing.here"),
        ("python deploy/demo/make_sample.py FOLDER", ""),
        ("python deploy/demo/make_samples.py FOLDER", "there is no deploy/demo/make_samples.py"),
        ("prometheus --config.file=deploy/prometheus/prometheus.yml", ""),
        ("prometheus --config.file=deploy/nothing.yml", "there is no deploy/nothing.yml"),
        ("python -m mmbroker.models.…", ""),
        ("mmbroker.toml", ""),
    ],
)
def test_what_names_nothing_is_told(command: str, said: str) -> None:
    unknown = unknown_in(command)
    assert said in unknown
    assert bool(said) == bool(unknown)
