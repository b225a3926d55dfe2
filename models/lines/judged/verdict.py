"""Says whether the figures of recovered lines meet the conditions of the protocol."""

from __future__ import annotations

from typing import Any

from mmbroker.models.lines.baselines import BASELINES
from mmbroker.processors.lines.measure import LINES

Results = dict[str, Any]

LIMITS: dict[str, Any] = {"pearson_r": 0.85, "coverage": {"68": [63, 73], "95": [92, 98]}}
"""The limits of the protocol: the least r, and the percentages that intervals have to cover."""


def with_verdict(results: Results) -> Results:
    """Add to the results whether they meet the conditions.

    Args:
        results: the results of the report, as in its JSON; its figures of lines are changed.
    """
    masked = {name: both["masked"] for name, both in results["simulated"].items()}
    for one in masked.values():
        one["missed"] = missed(one)
    found: Results = {
        "limits": LIMITS,
        "baselines": list(BASELINES),
        "simulated_baselines": [
            name for name in BASELINES if all(name in one["skill"] for one in masked.values())
        ],
        "simulated_over_all": _over_all(masked),
    }
    if "test" in results:
        found["conditions"] = {}
        for key in ("test", "leave_one_galaxy_out"):
            subsets = results[key]
            off = subsets["all"]["missed"] = missed(subsets["all"])
            found["conditions"][key] = {
                "correlation": not any(
                    missed(subsets[name])["correlation"] for name in ("all", "z > 0.1")
                ),
                "skill": not off["skill"],
                "coverage": not off["coverage"],
            }
        ladders = results["ladders"].values()
        found["ladder_lines"] = [name for name in LINES if any(name in one for one in ladders)]
    return results | found


def missed(figures: Results) -> Results:
    """Say which conditions figures of lines do not meet.

    Args:
        figures: the result of ``measures.figures``.

    Returns:
        Whether ``correlation`` is too low; the baselines over which the interval of ``skill`` is
        not above zero; and by how many per cent ``coverage`` of 68 and of 95 % intervals is outside
        its limits, positive if they cover too much.
    """
    beyond = {}
    for share, (least, most) in LIMITS["coverage"].items():
        covered = 100 * figures[f"coverage_{share}"][0]
        if not least <= round(covered, 1) <= most:
            beyond[share] = round(covered - (most if covered > most else least), 4)
    return {
        "correlation": figures["pearson_r"][0] < LIMITS["pearson_r"],
        "skill": [name for name, each in figures["skill"].items() if each["skill"][1] <= 0],
        "coverage": beyond,
    }


def _over_all(masked: dict[str, Results]) -> Results:
    """The means over all masked simulated lines, from the figures by signal-to-noise ratio."""
    count = sum(one["lines"] for one in masked.values())

    def mean(values: list[float]) -> float:
        pairs = zip(masked.values(), values, strict=True)
        return float(sum(one["lines"] * value for one, value in pairs) / count)

    of_baselines = [one["bias_dex of baselines"] for one in masked.values()]
    return {
        "lines": count,
        **{
            key: mean([one[key][0] for one in masked.values()])
            for key in ("bias_dex", "coverage_68", "coverage_95")
        },
        "bias_dex of baselines": {
            name: mean([each[name] for each in of_baselines])
            for name in BASELINES
            if all(name in each for each in of_baselines)
        },
    }
