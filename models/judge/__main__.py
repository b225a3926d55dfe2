"""Rebuild the reports: ``python -m models.judge``."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path

from . import weak_lines

DATA_VARIABLE = "MMBROKER_DATA"

Report = Callable[[Path | None, Path], None]

REPORTS: dict[str, Report] = {
    "weak_lines": weak_lines.report,
}


def main() -> None:
    """Write the pages that are asked for, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("reports", nargs="*", choices=[[], *REPORTS], help="all without any")
    parser.add_argument("--data", type=Path, default=os.environ.get(DATA_VARIABLE))
    parser.add_argument("--output", type=Path, default=Path(__file__).parents[1] / "reports")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    for name in arguments.reports or REPORTS:
        REPORTS[name](arguments.data, arguments.output)


if __name__ == "__main__":
    main()
