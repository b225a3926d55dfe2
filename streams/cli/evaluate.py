"""``mmbroker evaluate``: measures how good the redshifts are, on galaxies with known ones."""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from importlib import resources
from pathlib import Path
from typing import Annotated

import typer

from mmbroker.models.packaged.networks import WEIGHTS
from mmbroker.streams.cli.shared import console

evaluate_app = typer.Typer(
    help="Measure how good the redshifts are, on galaxies with known ones.", no_args_is_help=True
)


class RedshiftModel(StrEnum):
    """Which of the broker's redshift estimates are evaluated."""

    conventional = "conventional"
    refined = "refined"
    both = "both"


class Split(StrEnum):
    """Parts of the training data."""

    all = "all"
    train = "train"
    validation = "validation"
    test = "test"
    unseen = "unseen"


@evaluate_app.command("redshift")
def evaluate_redshift(
    table: Annotated[Path, typer.Argument(help="Table with spectroscopic redshifts.")],
    mapping: Annotated[
        str | None,
        typer.Option(
            help="Says what the columns mean: a TOML file, or the name of an included mapping."
        ),
    ] = None,
    model: Annotated[
        RedshiftModel, typer.Option(help="Which of the broker's estimates to evaluate.")
    ] = RedshiftModel.conventional,
    split: Annotated[
        Split,
        typer.Option(
            help="Use only this part of the training data. With unseen, use only galaxies from "
            "which the redshifts were not learned; this works with any table."
        ),
    ] = Split.all,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    groups: Annotated[
        bool, typer.Option("--groups", help="Show figures of groups of the galaxies too.")
    ] = False,
    plot: Annotated[Path | None, typer.Option(help="Write a plot to this PNG file.")] = None,
    galaxies: Annotated[
        Path | None,
        typer.Option(
            help="Write a row for each galaxy to this file (.ecsv, .csv or .fits): its "
            "spectroscopic redshift, every estimate with its intervals, the probability that it is "
            "right, and what it rests on."
        ),
    ] = None,
) -> None:
    """Compare the broker's redshifts, and a published estimate, with spectroscopic redshifts."""
    from mmbroker.models.redshift.compare_tables import compare, galaxies_table, page

    for option, path in (("plot", plot), ("galaxies", galaxies)):
        if path is not None and not path.absolute().parent.is_dir():
            raise ValueError(f"--{option} {path}: there is no directory {path.parent}")
    if galaxies is not None and galaxies.suffix not in galaxies_table.FORMATS:
        known = ", ".join(galaxies_table.FORMATS)
        raise ValueError(f"--galaxies {galaxies}: its name has to end in one of {known}")
    if galaxies is not None and galaxies.exists() and galaxies.samefile(table):
        raise ValueError(f"--galaxies {galaxies}: this is the table; name another file")
    results = compare.compare_table(table, mapping, model, split)
    if as_json:
        sys.stdout.write(json.dumps(results.as_json(), indent=2) + "\n")
    else:
        console.print(page.render(results, groups))
    if galaxies is not None:
        galaxies_table.write_galaxies(results, galaxies)
    if plot is not None:
        page.plot(results, plot)


@evaluate_app.command("tune")
def evaluate_tune(
    tables: Annotated[list[Path], typer.Argument(help="Tables with spectroscopic redshifts.")],
) -> None:
    """Tune the constants of the redshift by cross-validation, then calibrate its probability.

    This takes minutes. It writes processors/redshift/tuned.json and
    models/weights/redshift_reliability.json.
    """
    from mmbroker.models.redshift import tune_tables

    figures = tune_tables.tune_redshift(
        tables, _packaged("mmbroker.processors.redshift", "tuned.json")
    )
    console.print_json(data=figures)
    evaluate_calibrate(tables)


@evaluate_app.command("calibrate")
def evaluate_calibrate(
    tables: Annotated[list[Path], typer.Argument(help="Tables with spectroscopic redshifts.")],
) -> None:
    """Fit the probability that a redshift is right.

    This writes models/weights/redshift_reliability.json. How good it is where it was not fitted:
    mmbroker evaluate redshift with another table.
    """
    from mmbroker.models.redshift import tune_tables

    path = WEIGHTS / "redshift_reliability.json"
    console.print_json(data=tune_tables.fit_reliability(tables, path))


def _packaged(package: str, name: str) -> Path:
    """Path of a data file in a package of the working copy."""
    return Path(str(resources.files(package) / name))
