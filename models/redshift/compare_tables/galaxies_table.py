"""Makes a table of what was compared, a row for each galaxy."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import numpy as np
from astropy import units
from astropy.table import QTable

from mmbroker.models.redshift.compare_tables.compared_table import ComparedTable
from mmbroker.models.redshift.real_galaxies import Estimates

FORMATS = {".ecsv": "ascii.ecsv", ".csv": "ascii.csv", ".fits": "fits"}


def galaxies_table(compared: ComparedTable) -> QTable:
    """The galaxies that were compared, one a row.

    Columns: ``galaxy``, ``ra`` and ``dec`` (ICRS), ``redshift_spec``, of each estimator its
    redshift, the ends of its intervals and its CRPS (``conventional``, ``conventional_lower_68``,
    ...; NaN where it states none), ``evidence``, ``inputs``, ``probability`` that the conventional
    redshift is right and whether it is ``right``, why a refined one is the conventional one
    (``refined_fallback``), and flags: ``simulated``, ``learned_from``.

    Args:
        compared: the comparison.
    """
    table = QTable()
    table["galaxy"] = np.array(compared.identifiers, str)
    table["ra"] = compared.positions[:, 0] * units.deg
    table["dec"] = compared.positions[:, 1] * units.deg
    table["redshift_spec"] = compared.truth
    for name, one in compared.estimates.items():
        for field in fields(Estimates):
            values = getattr(one, field.name)
            if np.isfinite(values).any():
                table[_column(name, field.name)] = values
    table["evidence"] = np.array([kind.value for kind in compared.kinds], str)
    table["inputs"] = np.array([" ".join(one.inputs) for one in compared.posteriors], str)
    if compared.probability is not None:
        table["probability"] = compared.probability
        table["right"] = compared.right()
    for name, reasons in compared.reasons.items():
        words = ["" if each is None else each.value for each in reasons]
        table[_column(name, "fallback")] = np.array(words, str)
    table["simulated"] = compared.simulated
    table["learned_from"] = compared.known
    table.meta["table"] = compared.table
    table.meta["mapping"] = compared.mapping
    table.meta["tuned"] = compared.identity
    return table


def write_galaxies(compared: ComparedTable, path: Path) -> None:
    """Write a row for each galaxy.

    Args:
        compared: the comparison.
        path: the file; its suffix is one of ``FORMATS``. A file that is there is replaced.
    """
    galaxies_table(compared).write(path, format=FORMATS[path.suffix], overwrite=True)


def _column(estimator: str, figure: str) -> str:
    name = re.sub(r"[^0-9a-z]+", "_", estimator.lower()).strip("_")
    return name if figure == "redshift" else f"{name}_{figure}"
