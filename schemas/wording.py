"""Puts the errors of libraries into words for users: place, value, and what was perhaps meant."""

from __future__ import annotations

import dataclasses
import difflib
import re
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import date
from typing import Any, get_args, get_type_hints

from pydantic import BaseModel, SecretStr
from pydantic_core import ErrorDetails

_UNKNOWN_NAME = ("extra_forbidden", "unexpected_keyword_argument")
_USER_OF_URL = re.compile(r"(?<=//)\S*@|(?<!\S)[^\s/]*:\S*@")
_NO_SECTION = ("model_type", "dataclass_type")


def fault(problem: ErrorDetails, model: type[BaseModel], place: str) -> str:
    """A message for one error that pydantic found in the input for a model.

    Secrets are not told: no value of a secret field, none under an unknown name, which may be that
    of a secret misspelt, and no user of a URL.

    Args:
        problem: the error.
        model: the model that the input should have made.
        place: where in the input the error is, in words that the user knows.
    """
    value, kind = problem["input"], problem["type"]
    if kind in _UNKNOWN_NAME:
        *parents, name = problem["loc"]
        known = _fields(_type_at(model, parents))
        said = "there is no such name"
        said += meant(str(name), known) or f"; there are {', '.join(known)}"
    elif kind == "missing":
        return f"{place} is missing"
    elif kind in _NO_SECTION:
        names = _fields(_type_at(model, problem["loc"]))
        said = f"this is a section, not a value; it has {', '.join(names)}"
    elif kind == "value_error":
        said = str(problem["ctx"]["error"])
    else:
        said = problem["msg"]
    told = isinstance(value, str | int | float | date) and kind not in _UNKNOWN_NAME
    if not told or _is_secret(_type_at(model, problem["loc"])):
        return f"{place}: {said}"
    value = without_user(value) if isinstance(value, str) else value
    return f"{place} = {value!r}: {said}"


def without_user(text: str) -> str:
    """A text without the user and the password of the URLs and addresses in it."""
    return _USER_OF_URL.sub("...@", text)


def _is_secret(kind: Any) -> bool:
    return SecretStr in (kind, *get_args(kind))


def meant(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """`` (did you mean this or that?)``, or an empty text if no known name is similar."""
    spelt = {each.lower(): each for each in known}
    near = [spelt[each] for each in difflib.get_close_matches(name.lower(), spelt, 3, cutoff)]
    return f" (did you mean {' or '.join(near)}?)" if near else ""


def unit_problem(error: Exception) -> str:
    """Why a text is no unit, in the words of astropy without its advice on defining units."""
    return str(error).partition(" If this is meant to be a custom unit")[0]


def fits_problem(error: Exception) -> str:
    """Why a file is no FITS file, in the words of astropy without its advice to programmers."""
    return str(error).partition(" If this is really a FITS file")[0]


def _type_at(model: type[BaseModel], place: Sequence[int | str]) -> Any:
    """The type at a place in a model; indices of lists and keys of dicts lead no deeper."""
    found: Any = model
    for part in place:
        found = _fields(found).get(str(part), found)
    return found


def _fields(kind: Any) -> dict[str, Any]:
    """Fields of a section with their types, also where the section is optional or in a list."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return {name: each.annotation for name, each in kind.model_fields.items()}
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return get_type_hints(kind)
    return next(filter(None, map(_fields, get_args(kind))), {})


def times(count: int) -> str:
    """How often something happened, in words up to three times."""
    return {0: "never", 1: "once", 2: "twice", 3: "three times"}.get(count, f"{count} times")


_JOINERS = "\u200c\u200d"
"""Invisible characters that words of some languages need, and that command nothing."""


def shown(text: str, lines: bool = False) -> str:
    r"""A text of a stranger as a terminal or a log may show it.

    Control characters, which can command a terminal, marks that turn the direction of writing, and
    other characters that nobody sees are written as ``\uXXXX``, as in JSON. So is half of a
    surrogate pair, which cannot be encoded.

    Args:
        text: the text; in JSON it keeps its meaning.
        lines: keep the ends of lines; otherwise a text stays on one line.
    """
    if text.isprintable():
        return text
    return "".join(
        each if _harmless(each) or (lines and each == "\n") else _escaped(each) for each in text
    )


def _harmless(character: str) -> bool:
    return (
        character.isprintable()
        or character in _JOINERS
        or unicodedata.category(character) in ("Zs", "Co", "Cn")
    )


def _escaped(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))
