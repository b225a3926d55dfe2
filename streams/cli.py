"""The command line: ``mmbroker --help``."""

from __future__ import annotations

import os

# One thread for linear algebra: the stages scale by processes, and a result must not depend on how
# many cores share a sum. It has to be said before numpy is loaded.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import io
import json
import logging
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum, StrEnum
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.logging import RichHandler
from rich.markup import escape
from rich.table import Table

from deploy.local import LocalStack, StackError, StackStatus
from models.errors import ModelUnavailable
from schemas import __version__
from schemas.events import SpectralFrame

from . import settings as settings_module
from .errors import InfrastructureError
from .names import STAGE_NAMES
from .settings import Settings

app = typer.Typer(
    name="mmbroker",
    help="An event-driven alert broker for millimetre-wave galaxies.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
stack_app = typer.Typer(
    help="A real Kafka and a real Triton on this machine.", no_args_is_help=True
)
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
evaluate_app = typer.Typer(help="How good the science is, on real galaxies.", no_args_is_help=True)
app.add_typer(stack_app, name="stack")
app.add_typer(models_app, name="models")
app.add_typer(evaluate_app, name="evaluate")

console = Console()
errors = Console(stderr=True, highlight=False)

LIBRARIES = ("faust", "mode", "matplotlib")
REPEAT_AFTER_S = 60.0

PICTURE_COLUMNS = 128
PROBLEMS_TOLD = 5

EXPECTED_ERRORS = (
    InfrastructureError,
    ModelUnavailable,
    StackError,
    OSError,
    ValueError,
)
"""What a user can mend: shown as one line. Everything else is a fault of this program."""


def main() -> None:
    """Entry point."""
    try:
        app()
    except EXPECTED_ERRORS as error:
        errors.print(f"[red]mmbroker:[/] {escape(str(error))}", soft_wrap=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


@app.callback(invoke_without_command=True)
def common(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log more.")] = False,
) -> None:
    """Settings come from the environment (MMBROKER_...) and from mmbroker.toml."""
    if version:
        console.print(f"mmbroker {__version__}")
        raise typer.Exit
    _set_up_logging(verbose)


class Server(StrEnum):
    """Servers of a local stack."""

    kafka = "kafka"
    triton = "triton"


class Frame(StrEnum):
    """Rest frames of a spectrum."""

    barycentric = "BARYCENTRIC"
    lsrk = "LSRK"
    topocentric = "TOPOCENTRIC"


class RedshiftModel(StrEnum):
    """Estimates of ours to judge."""

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


HEADER: dict[str, Any] = {"rich_help_panel": "Spectra and maps: instead of what the header says"}

StageName = Enum("StageName", {name: name for name in STAGE_NAMES}, type=str)  # type: ignore[misc]


# Local stack --------------------------------------------------------------------------------------


@stack_app.command("up")
def stack_up(
    secured: Annotated[
        bool | None,
        typer.Option(
            "--secured/--open",
            help="Kafka with encryption, users (SCRAM) and permissions, or open to this machine;"
            " by default as it was before, at first open.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Start Kafka and Triton, detached, and install them first if need be."""
    from models.repository import provide

    settings = _settings()
    repository = settings.data_directory / "models"
    provide(repository, "embedded")
    stack = LocalStack(
        settings.stack_directory,
        model_repository=repository,
        secured=secured,
        alert_topics=settings.topics.every_alert,
    ).up()
    _show_stack(stack.status())


@stack_app.command("down")
def stack_down() -> None:
    """Stop them; their data stay."""
    stack = LocalStack(_settings().stack_directory)
    said = "the stack in {} is stopped" if stack.down() else "no stack ran in {}"
    console.print(said.format(stack.directory), soft_wrap=True)


@stack_app.command("status")
def stack_status() -> None:
    """Show what runs where. Exit status 1 when something does not."""
    status = LocalStack(_settings().stack_directory, quiet=True).status()
    _show_stack(status)
    if not status.ready:
        raise typer.Exit(1)


@stack_app.command("environment")
def stack_environment(
    user: Annotated[
        str | None,
        typer.Option(help="Of a secured stack: mmbroker, reader (alerts only) or admin."),
    ] = None,
) -> None:
    """Print the variables that point to the stack, for a shell. With passwords, if secured."""
    stack = LocalStack.attach(_settings().stack_directory, quiet=True)
    for name, value in stack.environment(user).items():
        sys.stdout.write(f"export {name}={shlex.quote(value)}\n")


@stack_app.command("logs")
def stack_logs(
    component: Annotated[Server, typer.Argument(help="Which server.")],
    lines: Annotated[int, typer.Option(help="How many of the last lines.")] = 100,
) -> None:
    """Print the end of a server's log."""
    stack = LocalStack(_settings().stack_directory, quiet=True)
    sys.stdout.write(stack.logs(component.value, lines) + "\n")


def _show_stack(status: StackStatus) -> None:
    if not status.components:
        console.print(f"no stack in {status.directory}; start one with: mmbroker stack up")
        return
    table = Table("server", "state", "address", "process", "memory", title=str(status.directory))
    secured = "Kafka has TLS, users and permissions"
    table.caption = secured if status.secured else "open to all users of this machine"
    for each in status.components:
        state = (
            "[green]ready" if each.ready else "[yellow]starting" if each.running else "[red]down"
        )
        memory = f"{each.memory_bytes / 1e6:.0f} MB" if each.running else ""
        table.add_row(each.name, state, each.address, str(each.pid or ""), memory)
    console.print(table)


# Models -------------------------------------------------------------------------------------------


@models_app.command("list")
def models_list(
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Show the versions that Triton serves, and which is in force.

    Exit status 1 when one in force is not served: the stage that needs it waits.
    """
    from . import serving

    versions = serving.served(_settings())
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
    from . import serving

    settings = _settings()
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
    from . import serving

    settings = _settings()
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
    from . import serving

    serving.remove(_settings(), name, version)
    console.print(f"{name} version {version} is no longer served")


# Running ------------------------------------------------------------------------------------------


@app.command()
def run() -> None:
    """Run all stages as separate processes until Ctrl-C or SIGTERM."""
    from .kafka import create_topics
    from .supervise import Supervisor, end_with_supervisor

    end_with_supervisor()
    settings = _settings()
    for name in create_topics(settings.kafka, settings.topics.all()):
        logging.getLogger(__name__).info("topic %s created", name)
    Supervisor(settings).run()


@app.command()
def demo(
    once: Annotated[
        bool, typer.Option("--once", help="End when every observation is accounted for.")
    ] = False,
) -> None:
    """Run everything on this machine with the demo sample, and watch the ranked galaxies."""
    from .demo import run_demo

    if not run_demo(console, once):
        raise typer.Exit(1)


@app.command()
def stage(
    name: Annotated[StageName, typer.Argument(help="Which stage.")],
    instance: Annotated[
        str | None,
        typer.Option(help="Names this process among those of its stage; keep it over restarts."),
    ] = None,
) -> None:
    """Run one stage alone, as a container does."""
    from .runner import run_stage
    from .stages import STAGES
    from .supervise import end_with_supervisor

    settings = _settings()
    end_with_supervisor()
    made = STAGES[name.value](settings)
    run_stage(made, settings, instance or f"{settings.kafka.topic_prefix}-{name.value}-0")


@app.command()
def check(
    create_topics: Annotated[
        bool, typer.Option("--create-topics", help="Create the topics that are missing, first.")
    ] = False,
) -> None:
    """Say whether everything that the settings name is reachable and right."""
    from . import check as checks
    from . import kafka

    settings = _settings()
    if create_topics:
        kafka.create_topics(settings.kafka, settings.topics.all())
    good = True
    for finding in checks.check(settings):
        mark = "[green]good[/]" if finding.good else "[red]bad [/]"
        console.print(f"{mark} [bold]{finding.subject}[/]: {finding.detail}", soft_wrap=True)
        good &= finding.good
    if not good:
        raise typer.Exit(1)


@app.command()
def backup(
    target: Annotated[Path, typer.Argument(help="The directory to make; must not exist.")],
) -> None:
    """Copy the store as it is at this moment; the stages may run."""
    from .backup import back_up

    console.print(back_up(_settings(), target).text, soft_wrap=True)


@app.command()
def rebuild(
    replace: Annotated[
        bool,
        typer.Option("--replace", help="Also when there is a store: it is moved aside."),
    ] = False,
    backup: Annotated[
        Path | None,
        typer.Option(help="A backup, or a store moved aside: has what Kafka no longer holds."),
    ] = None,
) -> None:
    """Make the store again from Kafka, and from a backup; the stages must not run."""
    from .rebuild import rebuild as make_again

    console.print(make_again(_settings(), replace, backup).text, soft_wrap=True)


@app.command()
def rescore() -> None:
    """Have all galaxies scored again, after a new model or calibration.

    The stage score-galaxies must not run.
    """
    from .rescore import rescore as read_again

    settings = _settings()
    with console.status("waiting until Kafka holds score-galaxies for stopped"):
        count = read_again(settings)
    console.print(
        f"score-galaxies will read {count:,} fingerprints again when it is started: mmbroker run"
    )


# Publishing and subscribing -----------------------------------------------------------------------


@app.command()
def publish(
    files: Annotated[
        list[Path] | None,
        typer.Argument(help="Tables (ECSV, FITS, CSV, VOTable), spectra, maps (FITS)."),
    ] = None,
    mapping: Annotated[
        str | None,
        typer.Option(help="Which columns mean what: a TOML file, or the name of an included one."),
    ] = None,
    rate: Annotated[float | None, typer.Option(help="At most so many observations/s.")] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Validate everything, send nothing.")
    ] = False,
    correct: Annotated[
        bool,
        typer.Option(
            "--correct",
            help="Tables that were published before: send what has changed in them, in place of "
            "what was published of it. What is no longer in them stays.",
        ),
    ] = False,
    all_problems: Annotated[
        bool,
        typer.Option(
            "--all-problems",
            help=f"Tell every problem, not only the first {PROBLEMS_TOLD} of each kind.",
        ),
    ] = False,
    simulated: Annotated[
        int | None,
        typer.Option(help="Also send observations of so many SIMULATED galaxies.", min=1),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the simulation.")] = 0,
    instrument: Annotated[str | None, typer.Option(help="Instrument.", **HEADER)] = None,
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
        Frame | None, typer.Option(help="Rest frame of a spectrum's axis.", **HEADER)
    ] = None,
    frequency_ghz: Annotated[
        float | None, typer.Option(help="Effective frequency of a map in GHz.", **HEADER)
    ] = None,
) -> None:
    """Publish observations. Ids are deterministic: publishing twice changes nothing."""
    from .files.headers import Given
    from .files.mapping import load_mapping
    from .publish import publish_files, publish_simulated

    settings = _settings()
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
            frequency_hz=None if frequency_ghz is None else frequency_ghz * 1e9,
        )
        summaries.append(publish_files(files, chosen, rate, check, True, settings, given, correct))
    if simulated is not None:
        summaries.append(publish_simulated(simulated, seed, rate, check, True, settings))
    for summary in summaries:
        for problem in summary.told(None if all_problems else PROBLEMS_TOLD):
            errors.print(f"[red]problem[/] {escape(problem)}", soft_wrap=True)
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


@app.command()
def subscribe(
    stream: Annotated[
        str, typer.Argument(help="An alert stream; or scored, fingerprints, quarantine, ...")
    ],
    start: Annotated[
        str, typer.Option("--from", help="earliest, latest, or a time as 2026-05-01T12:00.")
    ] = "latest",
    as_json: Annotated[bool, typer.Option("--json", help="A JSON object a line.")] = False,
    as_table: Annotated[bool, typer.Option("--table", help="A row a message.")] = False,
    until_end: Annotated[bool, typer.Option(help="Stop at the end of the stream.")] = False,
) -> None:
    """Print a stream: a table on a terminal, JSON otherwise."""
    from .subscribe import read, row

    if as_json and as_table:
        raise ValueError("--json and --table exclude each other")
    terminal = sys.stdout.isatty()
    tabular = as_table or (not as_json and terminal)
    columns = console.width if terminal else None
    for message in read(_settings(), stream, start, until_end):
        line = row(message, columns) if tabular else json.dumps(message.plain, ensure_ascii=False)
        try:
            sys.stdout.write(line + "\n")
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
    svg: Annotated[Path | None, typer.Option(help="Also write the table as a picture.")] = None,
) -> None:
    """Show the best galaxies, ranked."""
    from . import top as standings

    settings = _settings()
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
        picture = Console(record=True, width=PICTURE_COLUMNS, file=io.StringIO())
        picture.print(table)
        try:
            picture.save_svg(str(svg), title="mmbroker top")
        except OSError as error:
            raise ValueError(f"--svg {svg}: {error.strerror}") from error


@app.command()
def explain(galaxy: Annotated[str, typer.Argument(help="Id of the galaxy.")]) -> None:
    """Show in words and numbers how a galaxy's score came about."""
    from . import explain as explaining

    console.print(explaining.explain(explaining.published(_settings(), galaxy)))


@app.command()
def verify(galaxy: Annotated[str, typer.Argument(help="Id of the galaxy.")]) -> None:
    """Make a galaxy's fingerprint and score again from its observations, compare bit for bit."""
    from . import explain as explaining

    same = True
    for comparison in explaining.verify(_settings(), galaxy):
        mark = "[green]identical[/]" if comparison.same else "[red]different[/]"
        console.print(f"{mark} [bold]{comparison.subject}[/]: {comparison.detail}", soft_wrap=True)
        same &= comparison.same
    if not same:
        raise typer.Exit(1)


@app.command()
def ledger(
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Account for every event of every stage. Exit status 1 while it does not add up."""
    from . import ledger as accounts

    with _reading() as (settings, reading):
        entries = accounts.ledger(settings, reading, again=True)
    if as_json:
        sys.stdout.write(json.dumps([accounts.as_json(entry) for entry in entries]) + "\n")
    else:
        console.print(accounts.render(entries))
    if not all(entry.closes for entry in entries):
        raise typer.Exit(1)


@evaluate_app.command("redshift")
def evaluate_redshift(
    table: Annotated[Path, typer.Argument(help="Table with spectroscopic redshifts.")],
    mapping: Annotated[
        str | None, typer.Option(help="A TOML file, or the name of an included mapping.")
    ] = None,
    model: Annotated[
        RedshiftModel, typer.Option(help="Which estimates of ours.")
    ] = RedshiftModel.conventional,
    split: Annotated[
        Split,
        typer.Option(
            help="Only that part of the training data; unseen: only galaxies, of any table, that "
            "redshifts were not learned from."
        ),
    ] = Split.all,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    plot: Annotated[Path | None, typer.Option(help="Write a plot to this PNG file.")] = None,
) -> None:
    """Compare the stream's redshifts with spectroscopic ones, beside the published estimate's."""
    from . import evaluate

    if plot is not None and not plot.absolute().parent.is_dir():
        raise ValueError(f"--plot {plot}: there is no directory {plot.parent}")
    results = evaluate.evaluate_redshift(table, mapping, model, split)
    if as_json:
        sys.stdout.write(json.dumps(results.as_json(), indent=2) + "\n")
    else:
        console.print(evaluate.render(results))
    if plot is not None:
        evaluate.plot(results, plot)


@evaluate_app.command("tune")
def evaluate_tune(
    tables: Annotated[list[Path], typer.Argument(help="Tables with spectroscopic redshifts.")],
) -> None:
    """Tune the redshift's constants by cross-validation, then its probability. Takes minutes.

    Writes processors/redshift/tuned.json and models/weights/redshift_calibration.json.
    """
    from . import evaluate

    figures = evaluate.tune_redshift(tables, _packaged("processors.redshift", "tuned.json"))
    console.print_json(data=figures)
    evaluate_calibrate(tables)


@evaluate_app.command("calibrate")
def evaluate_calibrate(
    tables: Annotated[list[Path], typer.Argument(help="Tables with spectroscopic redshifts.")],
) -> None:
    """Calibrate the probability that a redshift is right.

    Writes models/weights/redshift_calibration.json, whose card is then written by
    python -m models.redshift_probability.
    """
    from . import evaluate

    path = _packaged("models.weights", "redshift_calibration.json")
    console.print_json(data=evaluate.calibrate_redshift(tables, path))


def _packaged(package: str, name: str) -> Path:
    """A data file of a working copy."""
    return Path(str(resources.files(package) / name))


def _settings() -> Settings:
    return settings_module.load()


@contextmanager
def _reading() -> Iterator[tuple[Settings, Any]]:
    from .store import open_store

    settings = _settings()
    store = open_store(settings)
    try:
        with store.reading() as reading:
            yield settings, reading
    finally:
        store.close()


def _set_up_logging(verbose: bool) -> None:
    if sys.stderr.isatty():
        handler: logging.Handler = RichHandler(console=errors, show_path=False)
        text = "%(message)s"
    else:
        handler = logging.StreamHandler()
        text = "%(asctime)s %(levelname)s %(name)s: %(message)s"
    logging.basicConfig(level=logging.INFO, format=text, handlers=[handler], force=True)
    quiet = logging.DEBUG if verbose else logging.WARNING
    for handler in logging.getLogger().handlers:
        handler.addFilter(_News())
    for name in LIBRARIES:
        logging.getLogger(name).setLevel(quiet)


class _News(logging.Filter):
    """Passes what is worth a line.

    Not what every new broker answers its first idempotent producer, which tries again; nor the
    failures of a client's first connection, of which an error gives the reason once; nor what a
    library has said within the last minute, as a client does that tries again for ever.
    """

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        if "Coordinator load in progress" in message or "/bootstrap]: " in message:
            return False
        if record.name.partition(".")[0] not in LIBRARIES:
            return True
        since = record.created - REPEAT_AFTER_S
        self._said = {text: said for text, said in self._said.items() if said > since}
        new = message not in self._said
        if new:
            self._said[message] = record.created
        return new


if __name__ == "__main__":
    main()
