"""What docstrings and comments name is there."""

from __future__ import annotations

import re
from collections.abc import Iterable

import pytest

from tests.run_page import REPOSITORY, tracked

CONSTANT = re.compile(r"``(\w+(?:\.\w+)*)\.([A-Z][A-Z0-9_]+)``")
"""A constant of a module, as ``measures.MEASURES``."""

SOURCES = {
    each.relative_to(REPOSITORY).with_suffix("").as_posix(): each.read_text(encoding="utf-8")
    for each in tracked("*.py")
}


def not_defined(text: str) -> list[str]:
    """The constants that a text names as ``module.NAME`` and no module of that name defines."""
    return [
        f"{module}.{name}"
        for module, name in CONSTANT.findall(text)
        if not _defined(name, _sources_of(module))
    ]


def _sources_of(module: str) -> Iterable[str]:
    end = "/" + module.removeprefix("mmbroker.").replace(".", "/")
    return (text for path, text in SOURCES.items() if f"/{path}".endswith(end))


def _defined(name: str, sources: Iterable[str]) -> bool:
    return any(re.search(rf"^{name}\b[^=\n]*=", text, re.MULTILINE) for text in sources)


@pytest.mark.parametrize("path", [each for each, text in SOURCES.items() if CONSTANT.search(text)])
def test_constants_that_a_module_names_are_there(path: str) -> None:
    if not path.startswith("tests/test_docstrings"):
        assert not_defined(SOURCES[path]) == []


def test_constants_that_are_not_there_are_told() -> None:
    text = "``measures.MEASURES``, ``redshift.measures.NAMES``, ``metrics.MEASURES``"
    assert not_defined(text) == ["redshift.measures.NAMES", "metrics.MEASURES"]
