"""Makes the pages of the reports: fills a template in Markdown with the numbers of its JSON.

``templates/NAME.md.j2`` holds the words of ``reports/NAME.md``, and ``reports/NAME.json`` its
numbers. To change the words, edit the template and make the page again; nothing has to be judged
again:

python -m mmbroker.models.pages.render

What pages share is in templates whose names begin with an underscore.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from mmbroker.schemas.wording import times

TEMPLATES = Path(__file__).parent / "templates"
REPORTS = Path(__file__).parents[1] / "reports"
"""The reports of the project."""

SUMMARY = "README"
"""The page over all reports, which has no numbers of its own."""

Figure = Sequence[float]
"""An estimate and the ends of its 95 % interval."""


def render(name: str, figures: Mapping[str, Any]) -> str:
    """Fill the template of a page, or of a part that pages share, and return the Markdown.

    Args:
        name: the name of the template, without ``.md.j2``.
        figures: the values of the names in it.

    Raises:
        jinja2.UndefinedError: a name in the template has no value.
    """
    return ENVIRONMENT.get_template(f"{name}.md.j2").render(figures)


def write(name: str, figures: Mapping[str, Any], folder: Path) -> None:
    """Write ``NAME.json``, and ``NAME.md``, which is made from it.

    Args:
        name: the name of the report.
        figures: its numbers.
        folder: the folder to write to.
    """
    text = json.dumps(figures, indent=1, ensure_ascii=False) + "\n"
    (folder / f"{name}.json").write_text(text, encoding="utf-8")
    (folder / f"{name}.md").write_text(render(name, json.loads(text)), encoding="utf-8")


def write_summary(folder: Path) -> None:
    """Write the page over all reports, which also says what is missing.

    Args:
        folder: the folder of the reports.
    """
    (folder / f"{SUMMARY}.md").write_text(render(SUMMARY, summarised(folder)), encoding="utf-8")


def summarised(folder: Path) -> dict[str, Any]:
    """Read the numbers of every report in a folder, by its name, from which the summary is made.

    Args:
        folder: the folder of the reports.
    """
    return {
        each.stem: json.loads(each.read_text(encoding="utf-8")) for each in folder.glob("*.json")
    }


def main() -> None:
    """Make the pages of the project again, from their templates and numbers."""
    figures = summarised(REPORTS)
    for name, each in figures.items():
        write(name, each, REPORTS)
    write_summary(REPORTS)


def number(value: float, digits: int = 3) -> str:
    """Format a number as ``−0.123``."""
    return _with_minus(f"{value:.{digits}f}")


def signed(value: float, digits: int = 3) -> str:
    """Format a number with its sign, as ``+0.123``."""
    return _with_minus(f"{value:+.{digits}f}")


def short(value: float, digits: int = 6) -> str:
    """Format a number as ``0.05`` or ``2.56``, with no more digits than it needs."""
    return _with_minus(f"{value:.{digits}g}")


def thousands(value: int) -> str:
    """Format a count as ``1,929``."""
    return f"{value:,}"


def percent(share: float, digits: int = 0) -> str:
    """Format a share of 0.68 as ``68 %``."""
    return f"{number(100 * share, digits)} %"


def signed_percent(share: float, digits: int = 0) -> str:
    """Format a share of −0.16 as ``−16 %``."""
    return f"{signed(100 * share, digits)} %"


def interval(figure: Figure, digits: int = 3) -> str:
    """Format a figure as ``0.123 (0.100 to 0.150)``."""
    value, low, high = (number(each, digits) for each in figure)
    return f"{value} ({low} to {high})"


def signed_interval(figure: Figure, digits: int = 3) -> str:
    """Format a figure with its signs, as ``+0.123 (−0.100 to +0.150)``."""
    value, low, high = (signed(each, digits) for each in figure)
    return f"{value} ({low} to {high})"


def span(figure: Figure, digits: int = 3, of_bounds: int | None = None) -> str:
    """Format a figure as ``0.1234 (0.100–0.150)``; the bounds may have other digits."""
    value, *bounds = figure
    low, high = (number(each, digits if of_bounds is None else of_bounds) for each in bounds)
    return f"{number(value, digits)} ({low}–{high})"


def percent_span(figure: Figure, digits: int = 0) -> str:
    """Format a figure of shares as ``68 % (59–76)``."""
    value, low, high = figure
    return f"{percent(value, digits)} ({number(100 * low, 0)}–{number(100 * high, 0)})"


def bracketed(figure: Figure, digits: int = 3) -> str:
    """Format a figure as ``0.123 [0.100, 0.150]``."""
    value, low, high = (number(each, digits) for each in figure)
    return f"{value} [{low}, {high}]"


def hundredfold(figure: Figure) -> list[float]:
    """Convert shares to per cent."""
    return [100 * each for each in figure]


def figure(area: Mapping[str, float]) -> list[float]:
    """The value, low and high of a record with these names, as a figure."""
    return [area["value"], area["low"], area["high"]]


def lowest(estimators: Mapping[str, Mapping[str, Figure]], key: str) -> float:
    """The lowest estimate of a figure, among the estimators that have it."""
    return min(one[key][0] for one in estimators.values() if key in one)


def one_line(text: str) -> str:
    """Join the lines in which a row of a table is written."""
    return " ".join(text.split())


def met(condition: bool) -> str:
    """Say whether a condition is met, in the words of a table."""
    return "met" if condition else "**not met**"


def wrong(right: Figure) -> str:
    """Format a share that is right as the share that is not: ``17.0 %``."""
    return percent(1 - right[0], 1)


def literal(name: str) -> str:
    """Escape a name such as [CI](1-0), which Markdown would take for a link."""
    return name.replace("[", r"\[").replace("]", r"\]")


def _with_minus(text: str) -> str:
    return text.replace("-", "−")


ENVIRONMENT = Environment(
    loader=FileSystemLoader(TEMPLATES),
    undefined=StrictUndefined,
    extensions=["jinja2.ext.do"],
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
    autoescape=False,  # Markdown of the project's own numbers, no HTML
)
ENVIRONMENT.filters |= {
    each.__name__: each
    for each in (
        bracketed, figure, hundredfold, interval, literal, lowest, met, number, one_line, percent,
        percent_span, short, signed, signed_interval, signed_percent, span, thousands, times, wrong,
    )
}  # fmt: skip


if __name__ == "__main__":
    main()
