"""``python -m models.judge``: rebuild all reports from the weights and fixed seeds."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from . import weak_lines

REPORTS = {"weak_lines": weak_lines.report}
OUTPUT = Path(__file__).parents[1] / "reports"


def main(arguments: list[str] | None = None) -> None:
    """Write the chosen reports, or all."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("reports", nargs="*", help=f"of {', '.join(REPORTS)}; all by default")
    options.add_argument("--output", type=Path, default=OUTPUT)
    chosen = options.parse_args(arguments)
    unknown = sorted(set(chosen.reports) - set(REPORTS))
    if unknown:
        options.error(f"there is no report {unknown[0]!r}; there are {', '.join(REPORTS)}")
    folder = os.environ.get("MMBROKER_DATA")
    tables = Path(folder) if folder else None
    if tables is None:
        print("MMBROKER_DATA is not set: the simulated part only")
    for name in chosen.reports or REPORTS:
        print(f"report: {name}")
        REPORTS[name](tables, chosen.output)


if __name__ == "__main__":
    main()
