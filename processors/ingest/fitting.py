"""Finds the included mapping that fits a table, and the parts of a mapping that it has columns for.

This is for evaluations, which need less of a table than its publication does. Parts without a
column are left out and reported.
"""

from __future__ import annotations

import string
from pathlib import Path

from mmbroker.processors.ingest.columns import Columns
from mmbroker.processors.ingest.mapping import (
    Mapping,
    MappingError,
    NoMappingError,
    find_mapping,
    included,
    load_mapping,
)


def fitting_mapping(path: Path) -> Mapping:
    """Find the mapping for a table: by its name, else the included one that fits its columns best.

    Raises:
        NoMappingError: no mapping fits, or several fit equally well.
        MappingError: the file beside the table is not a mapping.
    """
    try:
        return find_mapping(path)
    except NoMappingError:
        left_out: dict[str, int] = {}
        for name in included():
            mapping = load_mapping(name)
            # A mapping that itself gives names to the columns would fit any table.
            if mapping.table.columns is None and _has_what_all_need(path, mapping):
                left_out[name] = len(without_absent(path, mapping)[1])
        best = [name for name, count in left_out.items() if count == min(left_out.values())]
        if len(best) != 1:
            raise
        return load_mapping(best[0])


def _has_what_all_need(path: Path, mapping: Mapping) -> bool:
    """Whether a table has ids, positions, spectroscopic redshifts and some photometry."""
    try:
        there = set(Columns(path, mapping).names)
    except MappingError:
        return False
    if mapping.truth is None or not without_absent(path, mapping)[0].photometry:
        return False
    position = mapping.position
    named = {name for _, name, _, _ in string.Formatter().parse(mapping.id) if name}
    named |= {mapping.truth.redshift, *position.columns}
    return named <= there


def without_absent(path: Path, mapping: Mapping) -> tuple[Mapping, list[str]]:
    """Leave out the bands and published redshifts of a mapping that a table has no columns for.

    Returns:
        The rest of the mapping, and messages that say what was left out and why.

    Raises:
        MappingError: the table cannot be read.
    """
    there = set(Columns(path, mapping).names)
    left_out: list[str] = []

    def present(what: str, *columns: str | None) -> bool:
        absent = [each for each in columns if each is not None and each not in there]
        if absent:
            left_out.append(f"no {what}: there is no column {', '.join(absent)}")
        return not absent

    photometry = []
    for group in mapping.photometry:
        bands = [each for each in group.bands if present(f"band {each.name}", *each.columns)]
        if bands:
            photometry.append(group.model_copy(update={"bands": bands}))
    published = {
        name: each
        for name, each in mapping.published.items()
        if present(f"redshift {name}", each.redshift, each.lower, each.upper, each.error)
    }
    parts = {"photometry": photometry, "published": published}
    return mapping.model_copy(update=parts), left_out
