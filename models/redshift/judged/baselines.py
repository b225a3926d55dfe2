"""Reports on the conventional redshift: what each piece of evidence and their stacks give."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mmbroker.models.packaged.templates import load_templates
from mmbroker.models.pages.render import write
from mmbroker.models.real_data.catalogues import goods_north
from mmbroker.models.real_data.split import TEST, VALIDATION
from mmbroker.models.redshift.baselines.baselines import (
    CONVENTIONAL,
    WITH_TEMPLATES,
    is_published,
    load_baselines,
)
from mmbroker.models.redshift.baselines.eazy import eazy_estimates, unfitted_parts
from mmbroker.models.redshift.baselines.held_out import FOLDS
from mmbroker.models.redshift.figures import ALONE, judged_part
from mmbroker.models.redshift.judged import in_stream
from mmbroker.models.redshift.judged.protocol import ERRORS, OPENINGS, best_estimators
from mmbroker.models.redshift.judged.scatter import scatter_figure
from mmbroker.models.redshift.sample import Estimate, judge, sample_of
from mmbroker.processors.redshift import ConventionalRedshift
from mmbroker.processors.redshift.grids import COARSE
from mmbroker.processors.redshift.templates import TemplateFit

NAME = "baselines"
_PARTS = {"validation": VALIDATION, "test": TEST}
TEMPLATE_FIT, EAZY = "template fit", "EAZY"


def report(tables: Path | None, output: Path) -> None:
    """Write baselines.md, its figures and its numbers.

    Args:
        tables: the folder of the published tables; without it the page says that they are missing.
        output: the folder to write to.
    """
    output.mkdir(parents=True, exist_ok=True)
    numbers: dict[str, Any] = {"in_force": in_stream.IN_FORCE, "test_openings": OPENINGS}
    if tables is not None:
        numbers |= _real(tables, output)
    write(NAME, numbers, output)


def _real(tables: Path, output: Path) -> dict[str, Any]:
    """Compute the numbers, all of real galaxies, and draw their figure."""
    templates = load_templates()
    conventional = ConventionalRedshift().with_templates(templates)
    everything = sample_of(goods_north(tables), conventional)
    baselines = load_baselines(conventional)
    figures = {
        name: judged_part(everything.select(everything.split == part), baselines, conventional)
        for name, part in _PARTS.items()
    }
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
    return {
        "templates": len(templates.templates.names),
        "folds": FOLDS,
        "cells": len(COARSE),
        "stacked_shares": baselines.fitted.shares.round(3).tolist(),
        "log_linear_exponents": baselines.fitted.exponents.round(3).tolist(),
        "parts": figures,
        "best": best(figures),
        "rule": rule(figures),
        "template_fit": template_figures(tables, templates),
        "cosmos": in_stream.cosmos_figures(tables, conventional),
    }


def template_figures(tables: Path, fit: TemplateFit) -> dict[str, Any]:
    """Judge the template fit and EAZY on the same fluxes of galaxies that templates never saw.

    Args:
        tables: the folder of the published tables.
        fit: the template fit.

    Returns:
        Figures by the part of a table and the estimator.
    """
    given = unfitted_parts(tables, fit.templates)
    by_eazy = eazy_estimates(given)
    found = {}
    for name, part in given.items():
        own = Estimate.of_densities(fit.log_posterior(part.measured), part.truth)
        every = {"every": np.ones(len(part.truth), bool)}
        estimates = {TEMPLATE_FIT: own, EAZY: by_eazy[name]}
        found[name] = judge(estimates, part.truth, every, TEMPLATE_FIT)["every"]
    return found


def best(parts: dict[str, dict[str, Any]]) -> dict[str, str]:
    """The names of the best published redshift on the test part, and of the best other estimate."""
    faint = parts["test"]["faint"]
    return best_estimators(faint, [name for name in faint if not is_published(name)])


def rule(parts: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Apply the rule for taking the conventional redshift's place in the stream to candidates.

    The candidates are the estimate with the lowest CRPS on validation, and the conventional
    redshift with templates.

    Args:
        parts: the figures by part.
    """
    faint = parts["validation"]["faint"]
    strongest = min(faint, key=lambda name: float(faint[name]["crps"][0]))
    found = [_by_rule(name, parts, "faint") for name in dict.fromkeys([strongest, WITH_TEMPLATES])]
    return [*found, _by_rule(WITH_TEMPLATES, parts, ALONE)]


def _by_rule(name: str, parts: dict[str, dict[str, Any]], subset: str) -> dict[str, Any]:
    gained, low, high = parts["validation"][subset][name][f"{CONVENTIONAL}_minus"]["crps"]
    theirs, ours = parts["test"][subset][CONVENTIONAL], parts["test"][subset][name]
    worse = {key: [ours[key][0], theirs[key][0]] for key in ERRORS if ours[key][0] > theirs[key][0]}
    return {
        "estimate": name,
        "published redshifts": "withheld" if subset == ALONE else "used",
        "validation": [-gained, -high, -low],
        "worse on test": worse,
    }
