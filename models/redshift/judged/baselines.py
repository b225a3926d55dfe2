"""Report on the conventional redshift: what each piece of evidence and their stacks give."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from mmbroker.models.packaged.templates import load_templates
from mmbroker.models.real_data.catalogues import goods_north
from mmbroker.models.real_data.split import TEST, VALIDATION
from mmbroker.models.redshift.baselines.baselines import (
    CONVENTIONAL,
    WITH_TEMPLATES,
    load_baselines,
)
from mmbroker.models.redshift.baselines.eazy import eazy_estimates, unfitted_parts
from mmbroker.models.redshift.baselines.held_out import FOLDS
from mmbroker.models.redshift.figures import (
    ALONE,
    TEMPLATES_MINUS,
    TEMPLATES_MINUS_ALONE,
    judged_part,
)
from mmbroker.models.redshift.judged import in_stream
from mmbroker.models.redshift.judged.pages import (
    CAVEAT,
    ERRORS,
    EXCHANGED,
    NO_TABLES,
    differences_table,
    figures_table,
    openings,
    scatter_figure,
)
from mmbroker.models.redshift.sample import Estimate, judge, sample_of
from mmbroker.processors.redshift import ConventionalRedshift
from mmbroker.processors.redshift.grids import COARSE
from mmbroker.processors.redshift.templates import TemplateFit

NAME = "baselines"
_TITLE = "# Conventional redshifts at full strength"
_PARTS = {"validation": VALIDATION, "test": TEST}
TEMPLATE_FIT, EAZY = "template fit", "EAZY"


def report(tables: Path | None, output: Path) -> None:
    """Write baselines.md, its figures and its numbers.

    Args:
        tables: folder of the published tables; without it the page says that it is missing.
        output: folder to write to.
    """
    output.mkdir(parents=True, exist_ok=True)
    if tables is None:
        (output / f"{NAME}.md").write_text(page_without_tables())
        return
    conventional = ConventionalRedshift().with_templates(load_templates())
    everything = sample_of(goods_north(tables), conventional)
    baselines = load_baselines(conventional)
    figures = {
        name: judged_part(everything.select(everything.split == part), baselines, conventional)
        for name, part in _PARTS.items()
    }
    numbers = {
        "stacked_shares": baselines.fitted.shares.round(3).tolist(),
        "log_linear_exponents": baselines.fitted.exponents.round(3).tolist(),
        "parts": figures,
        "rule": rule(figures),
        "template fit": template_figures(tables, load_templates()),
        "cosmos": in_stream.cosmos_figures(tables, conventional),
    }
    (output / f"{NAME}.json").write_text(json.dumps(numbers, indent=1) + "\n")
    alone = everything.select((everything.split == VALIDATION) & np.isfinite(everything.truth))
    scatter_figure(
        output / f"{NAME}_photometry.png",
        alone.truth,
        {
            "far infrared and radio": Estimate.of_densities(
                alone.inputs.log_continuum, alone.truth
            ),
            "with templates": Estimate.of_densities(alone.inputs.log_photometry, alone.truth),
        },
        "GOODS-N (real), validation part, no published redshift used",
    )
    (output / f"{NAME}.md").write_text(page(numbers))


def template_figures(tables: Path, fit: TemplateFit) -> dict[str, Any]:
    """The template fit, and EAZY on the same fluxes, where templates were not fitted to."""
    given = unfitted_parts(tables, fit.templates)
    by_eazy = eazy_estimates(given)
    found = {}
    for name, part in given.items():
        own = Estimate.of_densities(fit.log_posterior(part.measured), part.truth)
        every = {"every": np.ones(len(part.truth), bool)}
        estimates = {TEMPLATE_FIT: own, EAZY: by_eazy[name]}
        found[name] = judge(estimates, part.truth, every, TEMPLATE_FIT)["every"]
    return found


def rule(parts: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """What the rule on the stream says of candidates to take the conventional redshift's place.

    These are the strongest on validation, by its CRPS, and the conventional one with templates.

    Args:
        parts: figures by part.
    """
    faint = parts["validation"]["faint"]
    strongest = min(faint, key=lambda name: float(faint[name]["crps"][0]))
    found = [_by_rule(name, parts, "faint") for name in dict.fromkeys([strongest, WITH_TEMPLATES])]
    return [*found, _by_rule(WITH_TEMPLATES, parts, ALONE)]


def _by_rule(name: str, parts: dict[str, dict[str, Any]], subset: str) -> dict[str, Any]:
    gained, low, high = parts["validation"][subset][name][f"{CONVENTIONAL}_minus"]["crps"]
    theirs, ours = parts["test"][subset][CONVENTIONAL], parts["test"][subset][name]
    worse = [
        f"{heading} {ours[key][0]:.4f} against {theirs[key][0]:.4f}"
        for key, heading in ERRORS.items()
        if ours[key][0] > theirs[key][0]
    ]
    return {
        "estimate": name,
        "published redshifts": "withheld" if subset == ALONE else "used",
        "validation": [-gained, -high, -low],
        "worse on test": worse,
    }


def page_without_tables() -> str:
    """The page for whoever has no published tables."""
    text = [
        _TITLE,
        NO_TABLES,
        "What simulated galaxies say of the conventional redshift, with templates and without, "
        "stands in `redshift.md`.",
        "## In the stream",
        in_stream.scores_use(),
    ]
    return "\n\n".join(text) + "\n"


def _rule_table(candidates: list[dict[str, Any]]) -> str:
    rows = []
    for one in candidates:
        value, low, high = one["validation"]
        worse = "; ".join(one["worse on test"]) or "nothing"
        rows.append(
            f"| {one['estimate']} | {one['published redshifts']} | {value:+.4f} "
            f"({low:+.4f} to {high:+.4f}) | {worse} |"
        )
    head = "| candidate | published redshifts | CRPS on validation minus that of the conventional "
    return "\n".join([f"{head}| worse on the test part in |", "|---|---|---|---|", *rows])


def page(numbers: dict[str, Any]) -> str:
    """The page."""
    parts = numbers["parts"]
    text = [
        _TITLE,
        "Asked: how good is everything conventional together, what does template fitting add, and "
        "which is the number that a learned redshift has to beat?",
        "Data: GOODS-N (Liu et al. 2018), real galaxies; truth is the spectroscopic redshift, "
        "which no estimator sees. Fitted on the training part, candidates compared on validation. "
        f"{openings()} 95 % bootstrap "
        "intervals. The lowest figure of a column is set in bold.",
    ]
    for name, figures in parts.items():
        text += [
            f"## {name.capitalize()} part, both published redshifts, S500 < 15 mJy, "
            f"n = {next(iter(figures['faint'].values()))['n']}",
            figures_table(figures["faint"]),
            "Conventional with templates minus the conventional one in force:",
            differences_table(figures[TEMPLATES_MINUS]),
            f"### The same, published redshifts withheld, "
            f"n = {next(iter(figures[ALONE].values()))['n']}",
            figures_table(figures[ALONE]),
            differences_table(figures[TEMPLATES_MINUS_ALONE]),
        ]
    text += [
        "![redshifts of photometry alone](baselines_photometry.png)",
        "## The template fit alone, beside EAZY",
        "Galaxies that templates were not fitted to, with four bands or more: from K to 24 µm in "
        "GOODS-N, from the far ultraviolet to K in zCOSMOS (Lilly et al. 2007, secure redshifts); "
        "no far infrared, nothing published. EAZY (Brammer et al. 2008) combines its twelve "
        "templates freely, where the template fit takes one of "
        f"{len(load_templates().templates.names)} at a time; both have the same fluxes, errors of "
        "templates and prior by magnitude, which were fitted for the latter.",
    ]
    for name, one in numbers["template fit"].items():
        text += [
            f"### {name}, n = {one[EAZY]['n']}",
            figures_table(one),
            "Template fit minus EAZY:",
            differences_table(one),
        ]
    elsewhere = numbers["cosmos"]
    text += [
        f"## COSMOS: far-infrared sources, nothing published, n = {elsewhere[CONVENTIONAL]['n']}",
        "Secure spectroscopic redshifts alone; neither templates nor stacks were fitted to any of "
        "them, the fourteen constants were.",
        figures_table(elsewhere),
        differences_table(elsewhere),
        "## In the stream",
        in_stream.scores_use(),
        "Another conventional estimate would take its place if its CRPS on the validation part "
        "were better, with an interval that excludes zero, with the published redshifts or with "
        "these withheld, and no figure of the test part were worse in either case (the rule is in "
        "`models/README.md`); the candidates are the strongest baseline and the conventional "
        "redshift with templates:",
        _rule_table(numbers["rule"]),
        "The rule was written for both cases together: what is worse in one is not used in the "
        "other.",
        in_stream.where_nothing_is_published(parts["test"][ALONE], elsewhere),
        "Simulated galaxies are judged in `redshift.md`.",
    ]
    shares = ", ".join(f"{one:.2f}" for one in numbers["stacked_shares"])
    exponents = ", ".join(f"{one:.2f}" for one in numbers["log_linear_exponents"])
    text += [
        "## Read with care",
        f"* {CAVEAT}\n"
        "* The fourteen constants of the conventional redshift in force were tuned on all "
        "galaxies, those judged here included; the row *training constants* has them tuned on the "
        "training parts alone.\n"
        "* Shares, exponents and trees are fitted out of fold: the training part is dealt into "
        f"{FOLDS} folds, and what templates say of the galaxies of a fold comes from templates "
        "fitted without it: which ones and how common, the prior, and both exponents. On "
        "validation and test the templates are those in force, fitted to the whole training part. "
        "In sample remain the fourteen constants, which saw all galaxies, and the template fit's "
        "recipe (errors by wavelength, temper, numbers of templates), which was settled by trying "
        "on the training part. The spread of the trees' errors is that of left-out folds.\n"
        "* Templates see K to 24 µm in GOODS-N; the published redshifts saw these and the optical: "
        "beside them templates count with a small exponent.\n"
        f"* Shares of the linear stack (published, continuum, prior, templates, photometry, "
        f"conventional, conventional with templates): {shares}. Exponents of the log-linear one "
        f"(published, continuum, templates): {exponents}.\n"
        f"* The grid of {len(COARSE)} cells reaches z = 12; templates are tabulated in steps of "
        "0.01 in ln(1 + z).\n" + EXCHANGED,
    ]
    return "\n\n".join(text) + "\n"
