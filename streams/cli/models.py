"""``mmbroker models``: shows, adds, switches and removes versions of the models on Triton."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from mmbroker.streams.cli.shared import console, current_settings

models_app = typer.Typer(
    help="""Show and switch the versions of the models on Triton.

Triton can serve several versions of a model. The stages ask the one that is in force. You can \
switch to another version and back, and nothing is restarted. An example:

mmbroker models add critic DIRECTORY: Triton serves version 2 beside version 1

mmbroker models use critic 2: scores come from version 2, from the next batch on

mmbroker rescore: galaxies that were scored before get new scores too (stop the stages first)

mmbroker models use critic 1: back to version 1

A new version of a parser reads only new observations; the feature trees of others stay.
""",
    no_args_is_help=True,
)


@models_app.command("list")
def models_list(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show which versions Triton serves, and which are in force.

    Exit status 1 when a version in force is not served; the stage that needs it waits then.
    """
    from mmbroker.streams.operating import model_versions

    versions = model_versions.served(current_settings())
    if as_json:
        sys.stdout.write(json.dumps([model_versions.as_json(each) for each in versions]) + "\n")
    else:
        console.print(model_versions.render(versions))
    if not all(each.served for each in versions):
        raise typer.Exit(1)


@models_app.command("add")
def models_add(
    name: Annotated[
        str,
        typer.Argument(
            help="Name of the model: critic, generator, parser, map_parser, refined_colours,"
            " refined_gate, or a new name."
        ),
    ],
    directory: Annotated[
        Path,
        typer.Argument(
            help="Directory with NAME.onnx, its card NAME.json (as in models/weights) and, if the"
            " model is calibrated, NAME_calibration.json."
        ),
    ],
) -> None:
    """Have Triton load a new version of a model, beside the versions that it serves.

    The other versions go on answering, and the version in force does not change. If a file is
    missing, or if the inputs or outputs differ from the model's, the version is refused and nothing
    changes. The setting triton.model_repository has to name the folder from which Triton reads
    models; with a local stack it is set by itself.
    """
    from mmbroker.streams.operating import model_versions

    settings = current_settings()
    with console.status(f"Triton loads {name}"):
        added = model_versions.add(settings, name, directory)
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
    name: Annotated[str, typer.Argument(help="Name of the model.")],
    version: Annotated[int, typer.Argument(help="Number, as in: mmbroker models list", min=1)],
) -> None:
    """Put a version of a model in force, if Triton serves it and it answers.

    Every stage asks it from its next batch on, with the calibration of that version. Nothing is
    restarted. Galaxies keep their scores until they are observed again. To score all galaxies
    again, stop the stages and run: mmbroker rescore. Feature trees stay as they are. The two
    networks of the refined redshift belong together: if you switch one, the other is switched too.
    """
    from mmbroker.streams.operating import model_versions

    settings = current_settings()
    for used in model_versions.use(settings, name, version):
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
    name: Annotated[str, typer.Argument(help="Name of the model.")],
    version: Annotated[int, typer.Argument(help="Number, as in: mmbroker models list", min=1)],
) -> None:
    """Delete a version that is not in force from Triton and from its model repository.

    Scores that came from it can no longer be verified.
    """
    from mmbroker.streams.operating import model_versions

    model_versions.remove(current_settings(), name, version)
    console.print(f"{name} version {version} is no longer served")
