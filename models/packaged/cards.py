"""States what the card of each packaged file tells the reader: its report and its caveats."""

from __future__ import annotations

from typing import Any

_PARSER = "models/reports/parser.md"
_CRITIC = "models/reports/critic.md"
_REDSHIFT = "models/reports/redshift.md"
_BASELINES = "models/reports/baselines.md"
_PROBABILITY = "models/reports/redshift_probability.md"

_REFINED = (
    "trained in one field on galaxies with spectroscopic redshifts, which are brighter in the"
    " optical than most",
    "does not meet the conditions written down before: no score or alert rests on it",
)

_ABOUT: dict[str, tuple[str, tuple[str, ...]]] = {
    "parser": (
        _PARSER,
        (
            "trained, calibrated and judged on simulated spectra alone; how well probabilities and"
            " errors hold in the noise of real ones is not known",
            "blends are never called blended",
            "one line alone does not tell which transition it is",
            "errors of the continuum are two thirds of what they should be where calibration left"
            " ripples and slopes",
        ),
    ),
    "map_parser": (
        _PARSER,
        (
            "trained, calibrated and judged on simulated maps alone; no real one was looked at",
            "knots of a jet closer than a beam are found as one component",
        ),
    ),
    "critic": (
        _CRITIC,
        (
            "the probability supposes that half of what comes is genuine, and the rest generated or"
            " corrupted as in training",
            "of spectra, and of fluxes at 8 and 22 GHz, it knows simulated ones alone",
            "trees tell generated fingerprints better than it does",
        ),
    ),
    "generator": (
        _CRITIC,
        (
            "trees tell its draws from real galaxies more often than was aimed at: faint fluxes"
            " from 2 to 8 um are missing",
            "of spectra, and of fluxes at 8 and 22 GHz, it knows simulated ones alone",
        ),
    ),
    "refined": (_REDSHIFT, _REFINED),
    "refined_colours": (_REDSHIFT, _REFINED),
    "refined_gate": (_REDSHIFT, _REFINED),
    "templates": (
        _BASELINES,
        (
            "calibrated in GOODS-N: of far-infrared sources in COSMOS its 68 % intervals hold 42 %",
            "fitted to galaxies with spectroscopic redshifts, brighter in the optical than most",
        ),
    ),
    "redshift_baselines": (
        _BASELINES,
        (
            "fitted in one field, where redshifts are published: elsewhere intervals are narrow",
            "trees correct a published redshift, and say nothing without one",
        ),
    ),
    "redshift_reliability": (
        _PROBABILITY,
        (
            "no real spectrum was among what it was fitted on: of redshifts by lines it takes what"
            " holds for all",
            "published redshifts were optical ones of one field alone",
            "galaxies with spectroscopic redshifts are brighter in the optical than most",
            "templates had seen a part of the galaxies that it was fitted on",
        ),
    ),
    "weak_lines": (
        "models/reports/weak_lines.md",
        (
            "luminosities are apparent; the infrared ones of the tables are not uniformly so",
            "lines in the literature are the brighter ones",
            "CO(8-7) and CO(9-8) rest on seven galaxies and on the lines below them",
        ),
    ),
    "template_library": (
        _BASELINES,
        (
            "fluxes are kept to half a per cent",
            "templates of COSMOS end between 17 and 30 um",
        ),
    ),
}


def about(name: str) -> dict[str, Any]:
    """The report and the caveats of packaged weights, as their card states them.

    Args:
        name: the name of the weights.

    Raises:
        KeyError: no weights have that name.
    """
    report, caveats = _ABOUT[name]
    return {"report": report, "caveats": list(caveats)}
