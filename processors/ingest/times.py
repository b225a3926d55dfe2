"""Reads times of observations from a column: MJDs, Julian dates, decimal years, ISO dates."""

from __future__ import annotations

import re

import numpy as np
from astropy import units as u
from astropy.time import Time

from mmbroker.processors.ingest.columns import Columns, Numbers
from mmbroker.processors.ingest.headers import iso_date

_OTHERS = {"jd": (2.4e6, 2.6e6), "decimalyear": (1900.0, 2200.0)}
"""What numbers that cannot be MJDs of observations look like, with the ranges of both."""


def times(columns: Columns, key: str, name: str, form: str | None) -> Numbers:
    """MJDs from a column, float64, shape (rows,); NaN where there is none.

    Args:
        columns: the columns.
        key: key of the mapping that names the column.
        name: name of the column.
        form: what its numbers are: ``mjd``, ``jd`` or ``decimalyear``; None if nothing says it.

    Raises:
        MappingError: the numbers are no MJDs, and nothing says what they are.
    """
    texts = columns.texts(key, name) if columns.is_text(key, name) else []
    if any(map(_is_date, texts)):
        mjd = _from_texts(columns, name, texts)
        columns.origin(key, mjd, f"{columns.time_scale} (MJD)", f"ISO dates in column {name}")
        return mjd
    numbers = columns.measured(key, name)
    unit = columns.unit(key, name)
    if form is None and unit not in (None, u.day):
        raise columns.wrong(
            "time_format", f"is not set, and column {name!r} is in {unit}: MJDs are in d"
        )
    if form is None:
        given = np.flatnonzero(np.isfinite(numbers))
        for other, (first, last) in _OTHERS.items():
            if len(given) and np.all((numbers[given] >= first) & (numbers[given] <= last)):
                raise columns.wrong(
                    "time_format",
                    f"is not set, and {name} = {numbers[given[0]]:.10g} in row {given[0] + 1} is "
                    f'no MJD: set time_format = "{other}", if it is that',
                )
    if form in (None, "mjd"):
        columns.origin(key, numbers, f"{columns.time_scale} (MJD)", f"column {name}")
        return numbers
    known = np.isfinite(numbers)
    mjd = np.full(columns.rows, np.nan)
    mjd[known] = Time(numbers[known], format=form, scale=columns.time_scale.lower()).mjd
    columns.origin(key, mjd, f"{columns.time_scale} (MJD)", f"{form} in column {name}")
    return mjd


def _is_date(text: str) -> bool:
    return re.search(r"\d[-/:]\d", text) is not None


def _from_texts(columns: Columns, name: str, texts: list[str]) -> Numbers:
    mjd = np.full(columns.rows, np.nan)
    scale = columns.time_scale.lower()
    for index, text in enumerate(texts):
        if not text:
            continue
        try:
            mjd[index] = Time(iso_date(text) or "", scale=scale).mjd
        except ValueError:
            columns.note(index, f"{name} = {text!r} is no ISO date, such as 2015-01-31T12:00:00")
    return mjd
