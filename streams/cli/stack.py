"""``mmbroker stack``: runs a real Kafka and a real Triton on this machine."""

from __future__ import annotations

import shlex
import sys
from enum import StrEnum
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from mmbroker.deploy.local import LocalStack, StackStatus
from mmbroker.schemas.wording import shown
from mmbroker.streams.cli.shared import console, current_settings
from mmbroker.streams.settings import Settings

stack_app = typer.Typer(
    help="Run a real Kafka and a real Triton on this machine.", no_args_is_help=True
)


class Server(StrEnum):
    """Servers of a local stack."""

    kafka = "kafka"
    triton = "triton"


@stack_app.command("up")
def stack_up(
    secured: Annotated[
        bool | None,
        typer.Option(
            "--secured/--open",
            help="Secured: Kafka has encryption, users (SCRAM) and permissions. Open: every user"
            " of this machine can use it. The default is as last time, and open the first time.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Start Kafka and Triton in the background; install them first if they are missing.

    Of a stack that is up, what has ended or does not work is started again.
    """
    from mmbroker.models.serving.repository import provide

    settings = current_settings()
    broken = _broken(settings)
    repository = settings.data_directory / "models"
    provide(repository, "embedded")
    stack = LocalStack(
        settings.stack_directory,
        model_repository=repository,
        secured=secured,
        alert_topics=settings.topics.every_alert,
    ).up(broken)
    _show_stack(stack.status())


@stack_app.command("down")
def stack_down() -> None:
    """Stop Kafka and Triton. Their data are kept."""
    stack = LocalStack(current_settings().stack_directory)
    said = "the stack in {} is stopped" if stack.down() else "no stack ran in {}"
    console.print(said.format(stack.directory), soft_wrap=True)


@stack_app.command("status")
def stack_status() -> None:
    """Show which servers run, and where. Exit status 1 when one does not run."""
    status = LocalStack(current_settings().stack_directory, quiet=True).status()
    _show_stack(status)
    if not status.ready:
        raise typer.Exit(1)


@stack_app.command("environment")
def stack_environment(
    user: Annotated[
        str | None,
        typer.Option(
            help="User of a secured stack: mmbroker, reader (reads alerts only) or admin."
        ),
    ] = None,
) -> None:
    """Print the environment variables with which a shell reaches the stack.

    The variables of a secured stack contain a password.
    """
    stack = LocalStack.attach(current_settings().stack_directory, quiet=True)
    for name, value in stack.environment(user).items():
        sys.stdout.write(f"export {name}={shlex.quote(value)}\n")


@stack_app.command("logs")
def stack_logs(
    component: Annotated[Server, typer.Argument(help="Which server.")],
    lines: Annotated[int, typer.Option(help="How many lines, counted from the end.")] = 100,
) -> None:
    """Print the end of a server's log."""
    stack = LocalStack(current_settings().stack_directory, quiet=True)
    sys.stdout.write(shown(stack.logs(component.value, lines), lines=True) + "\n")


def _broken(settings: Settings) -> list[str]:
    """The servers that answer and do not work all the same; why is printed."""
    from mmbroker.models.serving import triton

    status = LocalStack(settings.stack_directory, quiet=True).status()
    found = []
    for each in status.components:
        if each.name == Server.triton and each.ready:
            for reason in triton.failing(each.address, settings.triton.deadline_s):
                console.print(reason, soft_wrap=True)
                found = [each.name]
    return found


def _show_stack(status: StackStatus) -> None:
    if not status.components:
        console.print(f"no stack in {status.directory}; start one with: mmbroker stack up")
        return
    table = Table("server", "state", "address", "process", "memory", title=str(status.directory))
    secured = "Kafka has TLS, users and permissions"
    table.caption = secured if status.secured else "open to all users of this machine"
    for each in status.components:
        state = (
            Text("ready", "green")
            if each.ready
            else Text("no answer", "yellow")
            if each.running
            else Text("down", "red")
        )
        memory = f"{each.memory_bytes / 1e6:.0f} MB" if each.running else ""
        table.add_row(each.name, state, each.address, str(each.pid or ""), memory)
    console.print(table)
