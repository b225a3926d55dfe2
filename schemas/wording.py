"""Puts the errors of libraries into words for users: place, value, and what was perhaps meant."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Sequence
from datetime import date
from typing import Any, get_args, get_type_hints

from pydantic import BaseModel
from pydantic_core import ErrorDetails

_UNKNOWN_NAME = ("extra_forbidden", "unexpected_keyword_argument")
_NO_SECTION = ("model_type", "dataclass_type")


def fault(problem: ErrorDetails, model: type[BaseModel], place: str) -> str:
    """A message for one error that pydantic found in the input for a model.

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
    shown = f" = {value!r}" if isinstance(value, str | int | float | date) else ""
    return f"{place}{shown}: {said}"


def meant(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """`` (did you mean this or that?)``, or an empty text if no known name is similar."""
    spelt = {each.lower(): each for each in known}
    near = [spelt[each] for each in difflib.get_close_matches(name.lower(), spelt, 3, cutoff)]
    return f" (did you mean {' or '.join(near)}?)" if near else ""


def unit_problem(error: Exception) -> str:
    """Why a text is no unit, in the words of astropy without its advice on defining units."""
    return str(error).partition(" If this is meant to be a custom unit")[0]


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
