"""Rebuilds reports from the weights and fixed seeds: ``python -m mmbroker.models.report``."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from mmbroker.models.critic.judged import judge as critic
from mmbroker.models.lines.judged import judge as lines
from mmbroker.models.pages.render import REPORTS as OUTPUT
from mmbroker.models.pages.render import write_summary
from mmbroker.models.parser.judged import judge as parser
from mmbroker.models.real_data.folder import add_data_option
from mmbroker.models.realism import judge as realism
from mmbroker.models.redshift.judged import baselines
from mmbroker.models.redshift.judged import judge as redshift
from mmbroker.models.redshift.judged import probability as redshift_probability

Report = Callable[[Path | None, Path], None]

REPORTS: dict[str, Report] = {
    "simulator": realism.report,
    "baselines": baselines.report,
    "critic": critic.report,
    "redshift": redshift.report,
    "redshift_probability": redshift_probability.report,
    "parser": parser.report,
    "weak_lines": lines.report,
}
WITHOUT_TABLES = Path(".mmbroker", "reports")
"""The folder of reports without the published tables, with which the project's own are made."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line: write the chosen reports, or all."""
    options = argparse.ArgumentParser(prog="python -m mmbroker.models.report", description=__doc__)
    options.add_argument("reports", nargs="*", help=f"of {', '.join(REPORTS)}; all by default")
    add_data_option(options, without="only what is simulated is judged")
    options.add_argument(
        "--output",
        type=Path,
        help=f"folder to write to; models/reports, or {WITHOUT_TABLES} without the real tables",
    )
    chosen = options.parse_args(arguments)
    unknown = sorted(set(chosen.reports) - set(REPORTS))
    if unknown:
        options.error(f"there is no report {unknown[0]!r}; there are {', '.join(REPORTS)}")
    output = chosen.output or (WITHOUT_TABLES if chosen.data is None else OUTPUT)
    if chosen.data is None:
        print(f"MMBROKER_DATA is not set: the simulated part only, into {output}")
    output.mkdir(parents=True, exist_ok=True)
    for name in chosen.reports or REPORTS:
        print(f"report: {name}")
        REPORTS[name](chosen.data, output)
    write_summary(output)


if __name__ == "__main__":
    main()
