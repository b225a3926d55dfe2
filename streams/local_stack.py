"""Loads the settings and adds the addresses of a local stack where they name no other server."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmbroker.deploy.local import LocalStack, StackError
from mmbroker.streams import settings
from mmbroker.streams.settings import PREFIX, Settings


@dataclass(frozen=True)
class LocalStackServers:
    """Tells the settings about a local stack; see ``settings.LocalServers``."""

    def addresses(self, directory: Path, user: str | None) -> dict[str, dict[str, Any]]:
        """See ``settings.LocalServers``."""
        stack = _running(directory)
        found: dict[str, dict[str, Any]] = {}
        for variable, value in ({} if stack is None else stack.environment(user)).items():
            section, name = variable.removeprefix(PREFIX).lower().split("__")
            found.setdefault(section, {})[name] = value
        return found

    def kafka_has_ended(self, directory: Path, address: str) -> bool:
        """See ``settings.LocalServers``."""
        stack = _running(directory)
        return stack is not None and not stack.kafka.running and stack.kafka.address == address


def load_settings() -> Settings:
    """The settings in force: from the environment, the file, and a local stack if one runs.

    Raises:
        SettingsError: a setting is wrong, or the file cannot be read.
    """
    return settings.load(LocalStackServers())


def _running(directory: Path) -> LocalStack | None:
    if not directory.is_dir():
        return None
    try:
        return LocalStack.attach(directory, quiet=True)
    except StackError:
        return None
