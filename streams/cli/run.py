"""Commands that run and operate the broker."""

from __future__ import annotations

import json
import logging
import sys
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from mmbroker.streams.cli.shared import app, console, current_settings, finding, reading_store
from mmbroker.streams.names import STAGE_NAMES

StageName = Enum("StageName", {name: name for name in STAGE_NAMES}, type=str)  # type: ignore[misc]


@app.command()
def run() -> None:
    """Run all stages as separate processes until Ctrl-C or SIGTERM."""
    from mmbroker.streams.kafka.client import create_topics
    from mmbroker.streams.running.supervise import Supervisor, end_with_supervisor

    end_with_supervisor()
    settings = current_settings()
    for name in create_topics(settings.kafka, settings.topics.all()):
        logging.getLogger(__name__).info("topic %s created", name)
    Supervisor(settings).run()


@app.command()
def demo(
    once: Annotated[
        bool, typer.Option("--once", help="End when every observation is accounted for.")
    ] = False,
) -> None:
    """Run the whole broker on this machine with the demo sample, and show the ranked galaxies."""
    from mmbroker.streams.proving.demo import run_demo

    if not run_demo(console, once):
        raise typer.Exit(1)


@app.command()
def stage(
    name: Annotated[StageName, typer.Argument(help="Which stage.")],
    instance: Annotated[
        str | None,
        typer.Option(
            help="Name of this process among those of its stage. Use the same name after a restart."
        ),
    ] = None,
) -> None:
    """Run one process of one stage, for example in a container."""
    from mmbroker.streams.running.process import run_stage
    from mmbroker.streams.running.stages import STAGES
    from mmbroker.streams.running.supervise import end_with_supervisor

    settings = current_settings()
    end_with_supervisor()
    made = STAGES[name.value](settings)
    run_stage(made, settings, instance or f"{settings.kafka.topic_prefix}-{name.value}-0")


@app.command()
def check(
    create_topics: Annotated[
        bool, typer.Option("--create-topics", help="First create the topics that are missing.")
    ] = False,
) -> None:
    """Check everything that the settings name: Kafka, topics, Triton, the store and more.

    Exit status 1 when something is not reachable or not right.
    """
    from mmbroker.streams.kafka import client as kafka
    from mmbroker.streams.operating import check as checks

    settings = current_settings()
    if create_topics:
        kafka.create_topics(settings.kafka, settings.topics.all())
    good = True
    for found in checks.check(settings):
        mark = ("good", "green") if found.good else ("bad ", "red")
        finding(mark, found.subject, found.detail)
        good &= found.good
    if not good:
        raise typer.Exit(1)


@app.command()
def backup(
    target: Annotated[Path, typer.Argument(help="A new directory for the copy.")],
) -> None:
    """Copy the store as it is now. The stages may run meanwhile."""
    from mmbroker.streams.operating.backup import back_up

    console.print(back_up(current_settings(), target).text, soft_wrap=True)


@app.command()
def rebuild(
    replace: Annotated[
        bool,
        typer.Option(
            "--replace", help="Also replace a store that is whole. It is moved aside, not deleted."
        ),
    ] = False,
    backup: Annotated[
        Path | None,
        typer.Option(
            help="A backup, or a store that was moved aside, for what Kafka no longer holds."
        ),
    ] = None,
) -> None:
    """Make the store again from Kafka and, if there is one, a backup. Stop the stages first."""
    from mmbroker.streams.operating.rebuild import rebuild as make_again

    console.print(make_again(current_settings(), replace, backup).text, soft_wrap=True)


@app.command()
def rescore() -> None:
    """Have all galaxies scored again, for example with a new model or calibration.

    Stop the stage score-galaxies first, and start it again afterwards.
    """
    from mmbroker.streams.operating.rescore import rescore as read_again

    settings = current_settings()
    with console.status("waiting until Kafka holds score-galaxies for stopped"):
        count = read_again(settings)
    console.print(
        f"score-galaxies will read the fingerprints of {count:,} offsets again when it is started "
        "(those that are compacted are gone): mmbroker run"
    )


@app.command()
def skip(
    name: Annotated[StageName, typer.Argument(metavar="STAGE", help="Which stage.")],
    partition: Annotated[int, typer.Argument(help="Partition of the topic that it reads.", min=0)],
    offsets: Annotated[
        str, typer.Argument(help="The offset that it reads next, as 17; or a range, as 17-20.")
    ],
    reason: Annotated[
        str, typer.Option(help="Why, in a few words; quarantine keeps it with the bytes.")
    ],
    without_bytes: Annotated[
        bool,
        typer.Option(
            "--without-bytes",
            help="Do not read the messages to keep their bytes. For what fills the memory when it "
            "is read.",
        ),
    ] = False,
) -> None:
    """Have a stage pass over messages on which it ends again and again.

    Stop the stages first. The log of the stage names the topic and the partition; the offset is the
    next that it would read. If it ends somewhere in a batch, run it with
    MMBROKER_STAGE__BATCH_EVENTS=1: then it does all that it can, and the next offset is the one on
    which it ends. The ledger counts what is skipped, its bytes go to quarantine, and the topic
    keeps it.
    """
    from mmbroker.streams.operating.skip import Offsets
    from mmbroker.streams.operating.skip import skip as pass_over

    settings = current_settings()
    given = Offsets.of(offsets)
    with console.status("waiting until Kafka holds the stage for stopped"):
        done = pass_over(settings, name.value, partition, given, reason, not without_bytes)
    console.print(done.text, soft_wrap=True, markup=False)


@app.command()
def ledger(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show for every stage how many events came in and what became of them.

    Exit status 1 while the numbers do not add up, or events are to be read again, because what they
    caused is not published yet.
    """
    from mmbroker.streams.operating import ledger as accounts

    with reading_store() as (settings, reading):
        entries = accounts.ledger(settings, reading, again=True)
    if as_json:
        sys.stdout.write(json.dumps([accounts.as_json(entry) for entry in entries]) + "\n")
    else:
        console.print(accounts.render(entries))
    if not all(entry.closes and not entry.again for entry in entries):
        raise typer.Exit(1)
