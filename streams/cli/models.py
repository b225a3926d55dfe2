"""``mmbroker models``: which versions of the models are served and in force."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from mmbroker.streams.cli.shared import console, current_settings

models_app = typer.Typer(
    help="""The models on Triton: which versions are served, and which one is in force.

A new version is loaded beside the former ones, which go on answering; then it is switched to, and
back, without a restart of anything:

mmbroker models add critic DIRECTORY: it is served beside version 1

mmbroker models use critic 2: from the next batch on scores come from it

mmbroker rescore: the galaxies that are there get such scores too

mmbroker models use critic 1: the way back

A new version of a parser reads what comes in from then on; trees that are there stay.
""",
    no_args_is_help=True,
)


@models_app.command("list")
def models_list(
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Show the versions that Triton serves, and which is in force.

    Exit status 1 when one in force is not served: the stage that needs it waits.
    """
    from mmbroker.streams.operating import model_versions as serving

    versions = serving.served(current_settings())
    if as_json:
        sys.stdout.write(json.dumps([serving.as_json(each) for each in versions]) + "\n")
    else:
        console.print(serving.render(versions))
    if not all(each.served for each in versions):
        raise typer.Exit(1)


@models_app.command("add")
def models_add(
    name: Annotated[
        str,
        typer.Argument(
            help="Of the model: critic, generator, parser, map_parser, refined_colours,"
            " refined_gate, or a new one."
        ),
    ],
    directory: Annotated[
        Path,
        typer.Argument(
            help="Has NAME.onnx, its card NAME.json (as in models/weights) and, if the model is"
            " calibrated, NAME_calibration.json."
        ),
    ],
) -> None:
    """Load the next version of a model beside those that are served.

    The others go on answering while it is loaded, and the one in force stays in force. What is not
    whole, or has other inputs or outputs than the model, is refused and changes nothing. Needs
    triton.model_repository, the folder that Triton reads; a local stack says it by itself.
    """
    from mmbroker.streams.operating import model_versions as serving

    settings = current_settings()
    with console.status(f"Triton loads {name}"):
        added = serving.add(settings, name, directory)
    number = added.version.number
    said = (
        f"{name} version {number} is served"
        if added.new
        else f"this content is there already as {name} version {number}, which is served"
    )
    console.print(
        f"{said}, SHA-256 {added.version.sha256}\n"
        + (
            "It is in force"
            if added.in_force
            else f"It is not in force until: mmbroker models use {name} {number}"
        ),
        soft_wrap=True,
    )


_SCORES_FROM_NOW_ON = (
    "Galaxies that are there keep their scores until they are observed again; to have all scored "
    "again, stop the stages and run: mmbroker rescore"
)
_READS_FROM_NOW_ON = (
    "It reads what comes in from now on; feature trees that are there stay as they were read."
)


@models_app.command("use")
def models_use(
    name: Annotated[str, typer.Argument(help="Of the model.")],
    version: Annotated[int, typer.Argument(help="As in: mmbroker models list", min=1)],
) -> None:
    """Put a version of a model in force, after a look whether it is served and answers.

    Every process asks it from its next batch on, with the calibration that belongs to it; nothing
    is restarted. Galaxies that are there keep their scores until they are observed again, or all
    are scored again: mmbroker rescore, with the stages stopped. Feature trees are not read again.
    The two networks of the refined redshift belong together: with one goes the other.
    """
    from mmbroker.streams.operating import model_versions as serving

    settings = current_settings()
    for used in serving.use(settings, name, version):
        chosen = used.version
        already = used.before == chosen.number
        said = "was in force already" if already else f"is in force, it was {used.before}"
        console.print(
            f"{used.model} version {chosen.number} {said}: SHA-256 {chosen.sha256}, calibration "
            f"{chosen.calibration_id or 'none'}",
            soft_wrap=True,
        )
    reads = name in (settings.triton.parser, settings.triton.map_parser)
    console.print(_READS_FROM_NOW_ON if reads else _SCORES_FROM_NOW_ON, soft_wrap=True)


@models_app.command("remove")
def models_remove(
    name: Annotated[str, typer.Argument(help="Of the model.")],
    version: Annotated[int, typer.Argument(help="As in: mmbroker models list", min=1)],
) -> None:
    """Delete a version that is not in force, from Triton and the folder it reads.

    Scores that came from it can no longer be verified.
    """
    from mmbroker.streams.operating import model_versions as serving

    serving.remove(current_settings(), name, version)
    console.print(f"{name} version {version} is no longer served")
