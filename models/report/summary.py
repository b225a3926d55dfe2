"""One page over all reports, from their numbers: what was asked, on what, what came of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmbroker.models.critic.judged.page import SMALLEST_AREA
from mmbroker.models.critic.judged.page import WHY as CRITIC_WHY
from mmbroker.models.critic.judged.page import conditions as critic_conditions
from mmbroker.models.lines.judged.page import missed_in_short as line_conditions
from mmbroker.models.realism.page import USABLE, WHY_OFF
from mmbroker.models.redshift.figures import ALONE, REFINED

NAME = "README.md"
Numbers = dict[str, Any]


def write(output: Path) -> None:
    """Write the page, with what is missing said to be so.

    Args:
        output: folder of the reports.
    """
    (output / NAME).write_text(page(output))


def page(output: Path) -> str:
    """The page.

    Args:
        output: folder of the reports.
    """
    text = [
        "# The learned models: a summary",
        "What was asked, on which data, what came of it, and against what. Square brackets are "
        "95 % intervals, paired where two are compared. Conditions were written down before "
        "anything was trained. Each page has the whole and its caveats; the protocols, and how "
        "often a test part was opened, stand in "
        "[models/protocols](../protocols/README.md). This page is made from the numbers of the "
        "others by `make reports`.",
        "| | asked | on what | found | to beat |\n|---|---|---|---|---|",
    ]
    for name, row in ROWS.items():
        path = output / f"{name}.json"
        try:
            cells = row(json.loads(path.read_text()))
        except (FileNotFoundError, LookupError):
            cells = ("", "", "not made here: the published tables are missing", "")
        text[-1] += f"\n| [{name.replace('_', ' ')}]({name}.md) | {' | '.join(cells)} |"
    text += [
        "**What is in force because of it.** The conventional redshift, since the refined one did "
        "not meet all its conditions; it stands beside, in scored galaxies that it can know. The "
        "second critic, in scores, as a weak judge. The recovered lines and the feature trees, in "
        "scored galaxies; no score depends on them.",
        "**Read with care.** Galaxies with spectroscopic redshifts are brighter in the optical "
        "than the sources this is for. Test parts of real galaxies are small: a handful of "
        "outliers decides. The parser was judged on simulated spectra and maps alone.",
    ]
    return "\n\n".join(text) + "\n"


def _simulator(numbers: Numbers) -> tuple[str, ...]:
    tables = numbers["tables"]
    areas = {name: one["area"]["flux densities"] for name, one in tables.items()}
    former = {
        name: one["area of the former simulator"]["flux densities"] for name, one in tables.items()
    }
    return (
        "can trees tell simulated catalogues from real ones (0.5: they cannot)?",
        "; ".join(f"{name}, {one['real']} galaxies" for name, one in tables.items()),
        "by their fluxes: "
        + "; ".join(f"{name} {_area(each)}" for name, each in areas.items())
        + "".join(
            f"; {name} is off: {WHY_OFF[name]}"
            for name, each in areas.items()
            if each["value"] >= USABLE and name in WHY_OFF
        ),
        "the first simulator: "
        + "; ".join(f"{name} {each['value']:.2f}" for name, each in former.items()),
    )


def _baselines(numbers: Numbers) -> tuple[str, ...]:
    faint = numbers["parts"]["test"]["faint"]
    alone = numbers["parts"]["test"][ALONE]
    ours = {name: one for name, one in faint.items() if not name.startswith("published")}
    best = min(ours, key=lambda name: ours[name]["mae"][0])
    templates = alone["conventional with templates"]["mae"]
    return (
        "how good is everything conventional together?",
        f"GOODS-N, real, test part, {_count(faint)} galaxies of S500 < 15 mJy",
        f"MAE {_figure(faint[best]['mae'])} of {best}; with nothing published "
        f"{_figure(templates)} with templates",
        f"best published {_published(faint)}; conventional without templates, nothing published "
        f"{_figure(alone['conventional']['mae'])}",
    )


def _critic(numbers: Numbers) -> tuple[str, ...]:
    real = numbers["real"]
    kinds, trees = real["critic"]["version 2"]["kinds"], real["trees"]
    conditions = critic_conditions(real)
    met = [ok for _, _, ok in conditions]
    missed = _missed(
        [
            f"{name} ({CRITIC_WHY[name]})" if name in CRITIC_WHY else name
            for name, _, ok in conditions
            if not ok
        ]
    )
    return (
        "does the critic tell real fingerprints from others, and are the generator's draws like "
        "real ones?",
        f"GOODS-N, COSMOS, SPT, real, test part, {real['galaxies']} galaxies",
        f"area against corrupted ones {_figure(kinds['corrupted']['area'], 2)}, against the "
        f"generator's {_figure(kinds['generated']['area'], 2)}; trees tell its draws with "
        f"{_figure(real['samples']['version 2']['two_sample'], 2)}; {_met(met)}{missed}",
        f"trees {trees['corrupted']['area'][0]:.2f} and {trees['generated']['area'][0]:.2f}; hot "
        f"deck {real['samples']['hot deck']['two_sample'][0]:.2f}, and {SMALLEST_AREA:.2f}",
    )


def _redshift(numbers: Numbers) -> tuple[str, ...]:
    faint = numbers["parts"]["test"]["faint"]
    refined = faint[REFINED]
    conditions = numbers["conditions"]["test"]
    missed = "; ".join(f"{one['found']}" for one in conditions if not one["holds"])
    others = {name: one for name, one in faint.items() if name != REFINED}
    best = min(others, key=lambda name: others[name]["mae"][0])
    return (
        "is the learned redshift 20 % better than the published, calibrated, and nowhere worse "
        "than the strongest baseline?",
        f"GOODS-N, real, test part, {_count(faint)} galaxies of S500 < 15 mJy",
        f"MAE {_figure(refined['mae'])}, 68 % intervals cover "
        f"{100 * refined['coverage68'][0]:.0f} %; {_met([one['holds'] for one in conditions])}"
        + (f", not: {missed}{_mended(faint)}" if missed else ""),
        f"best published {_published(faint)}; {best} {_figure(others[best]['mae'])}",
    )


def _redshift_probability(numbers: Numbers) -> tuple[str, ...]:
    one = numbers["groups"]["all"]
    return (
        "are as many redshifts right as their stated probabilities say?",
        f"GOODS-N, COSMOS, SPT, real, {one['galaxies']:,} galaxies, which it was fitted on",
        f"stated {one['stated'][0]:.3f}, right {_figure(one['right'])}; Brier score out of fold "
        f"{_figure(one['brier_out_of_fold'])}; no condition had been written down",
        f"the posterior's own mass {one['brier_of_mass'][0]:.3f}; the share right "
        f"{one['brier_of_share'][0]:.3f}",
    )


def _parser(numbers: Numbers) -> tuple[str, ...]:
    lines, maps = numbers["lines"]["all"], numbers["maps"]
    rivals = {name: one for name, one in lines.items() if name != "parser"}
    best = max(rivals, key=lambda name: rivals[name]["completeness_4_8"])
    redshift = numbers["redshift"]["all"]
    right = redshift["parser's list"]
    return (
        "does the parser find more lines at the same purity, and read maps?",
        "**simulated** spectra and maps, test part",
        f"completeness {lines['parser']['completeness_4_8']:.2f} for S/N 4 to 8 at "
        f"{100 * numbers['purity']:.0f} % purity, {_figure(rivals[best]['at_this_purity'], 2)} "
        f"above the best other; redshifts right {right['right']:.2f}; morphology right "
        f"{maps['right']:.2f}",
        f"{best} {rivals[best]['completeness_4_8']:.2f}; comb {redshift['comb']['right']:.2f}; "
        f"counting peaks {maps['conventional_right']:.2f}",
    )


def _weak_lines(numbers: Numbers) -> tuple[str, ...]:
    test, each = numbers["test"]["all"], numbers["leave_one_galaxy_out"]["all"]
    rival = "constant ratio, all lines"
    skills = [_figure(one["skill"][rival]["skill"], 2) for one in (test, each)]
    return (
        "can a line be told from the others, better than by constant ratios?",
        f"DIGAME and Yang et al. 2017, real: {test['lines']} lines of {test['galaxies']} test "
        f"galaxies; {each['lines']} of {each['galaxies']}, each left out",
        f"r {test['pearson_r'][0]:.3f} and {each['pearson_r'][0]:.3f}; RMS "
        f"{_figure(test['rms_dex'], 2)} and {_figure(each['rms_dex'], 2)} dex; skill "
        f"{' and '.join(skills)}{_missed(line_conditions(test), '; not met')}",
        f"mean of constant ratios: RMS {test['skill'][rival]['rms_dex']:.2f} and "
        f"{each['skill'][rival]['rms_dex']:.2f} dex",
    )


ROWS: dict[str, Callable[[Numbers], tuple[str, ...]]] = {
    "simulator": _simulator,
    "baselines": _baselines,
    "critic": _critic,
    "redshift": _redshift,
    "redshift_probability": _redshift_probability,
    "weak_lines": _weak_lines,
    "parser": _parser,
}


def _figure(values: list[float], digits: int = 3) -> str:
    value, low, high = (f"{each:.{digits}f}".replace("-", "−") for each in values)
    return f"{value} [{low}, {high}]"


def _area(found: dict[str, float]) -> str:
    return _figure([found["value"], found["low"], found["high"]], 2)


def _published(faint: Numbers) -> str:
    best = min(faint[name]["mae"][0] for name in faint if name.startswith("published"))
    return f"{best:.3f}"


def _count(faint: Numbers) -> int:
    return int(next(iter(faint.values()))["n"])


def _mended(faint: Numbers) -> str:
    """How many outliers are mended, on which the error depends."""
    count = _count(faint)
    published = min(
        (one for name, one in faint.items() if name.startswith("published")),
        key=lambda one: one["mae"][0],
    )
    before, after = (round(count * one["outliers"][0]) for one in (published, faint[REFINED]))
    return f"; of {before} outliers, which decide, {before - after} is mended"


def _missed(reasons: list[str], head: str = ", not") -> str:
    return f"{head}: {'; '.join(reasons)}" if reasons else ""


def _met(conditions: list[bool]) -> str:
    return f"{sum(conditions)} of {len(conditions)} conditions met"
