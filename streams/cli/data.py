"""Commands that publish observations and show what the broker made of them."""

from __future__ import annotations

import io
import json
import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from mmbroker.schemas.events import SpectralFrame
from mmbroker.schemas.wording import shown
from mmbroker.streams.cli.shared import app, console, current_settings, errors, finding
from mmbroker.streams.terminal import Terminal

PICTURE_COLUMNS = 128
PROBLEMS_TOLD = 5


class Frame(StrEnum):
    """Rest frames of a spectrum."""

    barycentric = "BARYCENTRIC"
    lsrk = "LSRK"
    topocentric = "TOPOCENTRIC"


class Convention(StrEnum):
    """What a velocity means."""

    radio = "RADIO"
    optical = "OPTICAL"
    relativistic = "RELATIVISTIC"


HEADER: dict[str, Any] = {
    "rich_help_panel": "Spectra and maps: values that replace those of the header"
}


@app.command()
def publish(
    files: Annotated[
        list[Path] | None,
        typer.Argument(help="Tables (ECSV, FITS, CSV, VOTable), spectra, maps (FITS)."),
    ] = None,
    mapping: Annotated[
        str | None,
        typer.Option(
            help="Says what the columns mean: a TOML file, or the name of an included mapping."
        ),
    ] = None,
    rate: Annotated[
        float | None, typer.Option(help="Send at most this many observations per second.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Validate everything and send nothing.")
    ] = False,
    correct: Annotated[
        bool,
        typer.Option(
            "--correct",
            help="For tables that were published before: send only new and changed rows. A changed "
            "row replaces what was published of it. Rows that were deleted stay published.",
        ),
    ] = False,
    all_problems: Annotated[
        bool,
        typer.Option(
            "--all-problems",
            help=f"Show every problem, not only the first {PROBLEMS_TOLD} of each kind.",
        ),
    ] = False,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain",
            help="Show what was read of each file, and from where (position, frame, errors, units, "
            "beam); send nothing.",
        ),
    ] = False,
    simulated: Annotated[
        int | None,
        typer.Option(help="Also send observations of this many SIMULATED galaxies.", min=1),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the simulation.")] = 0,
    instrument: Annotated[
        str | None, typer.Option(help="Name of the instrument.", **HEADER)
    ] = None,
    right_ascension: Annotated[
        float | None, typer.Option(help="ICRS right ascension in degrees.", **HEADER)
    ] = None,
    declination: Annotated[
        float | None, typer.Option(help="ICRS declination in degrees.", **HEADER)
    ] = None,
    position_error: Annotated[
        float | None, typer.Option(help="1 sigma position error in arcsec.", **HEADER)
    ] = None,
    time_mjd: Annotated[
        float | None, typer.Option(help="Mid-point of the observation, MJD in UTC.", **HEADER)
    ] = None,
    project: Annotated[str | None, typer.Option(help="Project id.", **HEADER)] = None,
    frame: Annotated[
        Frame | None,
        typer.Option(
            metavar="FRAME",
            help="Rest frame of a spectrum's axis: BARYCENTRIC, LSRK or TOPOCENTRIC.",
            **HEADER,
        ),
    ] = None,
    frequency_ghz: Annotated[
        float | None, typer.Option(help="Effective frequency of a map in GHz.", **HEADER)
    ] = None,
    rest_frequency_ghz: Annotated[
        float | None, typer.Option(help="Rest frequency of a velocity axis in GHz.", **HEADER)
    ] = None,
    velocity_convention: Annotated[
        Convention | None,
        typer.Option(
            metavar="CONVENTION",
            help="What a velocity axis means, where the header does not say it: radio, optical "
            "or relativistic.",
            case_sensitive=False,
            **HEADER,
        ),
    ] = None,
    unit: Annotated[
        str | None, typer.Option(help="Unit of the values, such as mJy/beam.", **HEADER)
    ] = None,
    beam: Annotated[
        tuple[float, float, float] | None,
        typer.Option(
            help="Major and minor axis of the beam (arcsec), position angle (degrees).", **HEADER
        ),
    ] = None,
    hdu: Annotated[
        str | None, typer.Option(help="Name or number of the extension with the data.", **HEADER)
    ] = None,
    measure_noise: Annotated[
        bool,
        typer.Option(
            "--measure-noise",
            help="Measure the noise of a spectrum, and leave out the errors in the file.",
            **HEADER,
        ),
    ] = False,
) -> None:
    """Publish observations. Publishing the same ones again changes nothing."""
    from mmbroker.processors.ingest.headers import Given
    from mmbroker.processors.ingest.mapping import load_mapping
    from mmbroker.streams.publishing.files import publish_files, publish_simulated

    settings = current_settings()
    check = check or explain
    if not files and simulated is None:
        raise ValueError("nothing to publish: name files, or --simulated N")
    summaries = []
    if files:
        chosen = None if mapping is None else load_mapping(mapping)
        given = Given(
            instrument=instrument,
            right_ascension_deg=right_ascension,
            declination_deg=declination,
            position_error_arcsec=position_error,
            time_mjd=time_mjd,
            project=project,
            frame=_frame(frame),
            rest_frequency_hz=None if rest_frequency_ghz is None else rest_frequency_ghz * 1e9,
            velocity_convention=_convention(velocity_convention),
            frequency_hz=None if frequency_ghz is None else frequency_ghz * 1e9,
            unit=unit,
            beam=beam,
            hdu=hdu,
            measure_noise=measure_noise,
        )
        summaries.append(publish_files(files, chosen, rate, check, True, settings, given, correct))
    if simulated is not None:
        summaries.append(publish_simulated(simulated, seed, rate, check, True, settings))
    for summary in summaries:
        for problem in summary.told(None if all_problems else PROBLEMS_TOLD):
            errors.print(Text.assemble(("problem", "red"), f" {problem}"), soft_wrap=True)
        for table in summary.explained() if explain else ():
            console.print(table)
        console.print(summary.table())
    if any(summary.problems for summary in summaries):
        raise typer.Exit(1)


def _frame(frame: Frame | None) -> SpectralFrame | None:
    frames: dict[Frame, SpectralFrame] = {
        Frame.barycentric: "BARYCENTRIC",
        Frame.lsrk: "LSRK",
        Frame.topocentric: "TOPOCENTRIC",
    }
    return None if frame is None else frames[frame]


def _convention(convention: Convention | None) -> Any:
    from mmbroker.processors.ingest.headers import VelocityConvention

    conventions: dict[Convention, VelocityConvention] = {
        Convention.radio: "RADIO",
        Convention.optical: "OPTICAL",
        Convention.relativistic: "RELATIVISTIC",
    }
    return None if convention is None else conventions[convention]


@app.command()
def subscribe(
    stream: Annotated[
        str,
        typer.Argument(
            help="An alert stream, or one of: observations, fingerprints, scored, quarantine, "
            "followup, outcomes."
        ),
    ],
    start: Annotated[
        str,
        typer.Option(
            "--from", help="Where to start: earliest, latest, or a UTC time as 2026-05-01T12:00."
        ),
    ] = "latest",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print each message as JSON on one line.")
    ] = False,
    as_table: Annotated[
        bool, typer.Option("--table", help="Print each message as a row of a table.")
    ] = False,
    until_end: Annotated[
        bool, typer.Option(help="Stop at the end of the stream, or wait for more messages.")
    ] = False,
) -> None:
    """Print the messages of a stream: as a table on a terminal, otherwise as JSON."""
    from mmbroker.streams.subscribing.read import heading, read, row, rows

    if as_json and as_table:
        raise ValueError("--json and --table exclude each other")
    terminal = sys.stdout.isatty()
    tabular = as_table or (not as_json and terminal)
    headed = False
    for message in read(current_settings(), stream, start, until_end):
        if not tabular:
            lines = [json.dumps(message.plain, ensure_ascii=False)]
        elif not terminal:
            lines = [row(message)]
        else:
            lines = [*([] if headed else [heading(message)]), *rows(message, console.width)]
            headed = True
        try:
            sys.stdout.write("".join(f"{shown(line)}\n" for line in lines))
            sys.stdout.flush()
        except BrokenPipeError:  # the reader, such as head, has had enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return


@app.command()
def top(
    watch: Annotated[
        bool, typer.Option("--watch", help="Follow the changes until Ctrl-C.")
    ] = False,
    rows: Annotated[int, typer.Option(help="How many galaxies.", min=1)] = 20,
    svg: Annotated[Path | None, typer.Option(help="Also write the table to this SVG file.")] = None,
) -> None:
    """Show the galaxies with the highest probability that their redshift is right."""
    from mmbroker.streams.subscribing import top as standings

    settings = current_settings()
    if watch and svg is not None:
        raise ValueError("--watch and --svg exclude each other")
    if svg is not None and not svg.absolute().parent.is_dir():
        raise ValueError(f"--svg {svg}: there is no directory {svg.parent}")
    if watch:
        standings.watch(settings, console, rows)
        return
    table = standings.render(standings.collect(settings), rows)
    console.print(table)
    if svg is not None:
        picture = Terminal(record=True, width=PICTURE_COLUMNS, file=io.StringIO())
        picture.print(table)
        try:
            picture.save_svg(str(svg), title="mmbroker top")
        except OSError as error:
            raise ValueError(f"--svg {svg}: {error.strerror}") from error


@app.command()
def explain(galaxy: Annotated[str, typer.Argument(help="Id of the galaxy.")]) -> None:
    """Show how a galaxy's score came about, in words and numbers."""
    from mmbroker.streams.kafka.registry import make_codec
    from mmbroker.streams.operating import verify
    from mmbroker.streams.subscribing import explain as explaining

    settings = current_settings()
    console.print(explaining.explain(verify.published(settings, galaxy), make_codec(settings)))


@app.command()
def verify(galaxy: Annotated[str, typer.Argument(help="Id of the galaxy.")]) -> None:
    """Compute a galaxy's fingerprint and score again from its observations, and compare.

    Both have to be the same to the bit. Exit status 1 when one differs or cannot be made again.
    """
    from mmbroker.streams.operating import verify

    same = True
    for comparison in verify.verify(current_settings(), galaxy):
        mark = ("identical", "green") if comparison.same else ("different", "red")
        finding(mark, comparison.subject, comparison.detail)
        same &= comparison.same
    if not same:
        raise typer.Exit(1)
