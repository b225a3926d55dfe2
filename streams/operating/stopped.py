"""Makes sure that the stages do not run while something changes beneath them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from filelock import FileLock, Timeout

from mmbroker.streams.errors import InfrastructureError
from mmbroker.streams.running.supervise import RUN_LOCK
from mmbroker.streams.settings import Settings


@contextmanager
def stages_stopped(settings: Settings) -> Iterator[None]:
    """Keep ``mmbroker run`` from starting during the block.

    Raises:
        InfrastructureError: it runs.
    """
    settings.data_directory.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(settings.data_directory / RUN_LOCK, timeout=0):
            yield
    except Timeout:
        raise InfrastructureError(
            f"the stages run in {settings.data_directory}: stop them first (end mmbroker run)"
        ) from None
