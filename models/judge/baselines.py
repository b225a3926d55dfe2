"""The conventional baseline at full strength: what each piece of evidence and their stacks give."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from processors import metrics
from processors.redshift import ConventionalRedshift
from processors.redshift.grids import COARSE
from processors.redshift.templates import photometry

from ..catalogues import ZCOSMOS, goods_north, zcosmos
from ..redshift_figures import ALONE, TEMPLATES_MINUS, TEMPLATES_MINUS_ALONE, judged_part
from ..redshift_held_out import fitted_baselines
from ..redshift_sample import Estimate, sample_of
from ..templates import load_templates
from ..training_data import TEST, VALIDATION, split_of
from .pages import EXCHANGED, NO_TABLES, differences_table, figures_table, scatter_figure

NAME = "baselines"
_PARTS = {"validation": VALIDATION, "test": TEST}


def report(tables: Path | None, output: Path) -> None:
    """Write baselines.md, its figures and its numbers.

    Args:
        tables: folder of the published tables; without it the page says that it is missing.
        output: folder to write to.
    """
    output.mkdir(parents=True, exist_ok=True)
    if tables is None:
        (output / f"{NAME}.md").write_text(f"# Conventional redshifts\n\n{NO_TABLES}\n")
        return
    conventional = ConventionalRedshift().with_templates(load_templates())
    everything = sample_of(goods_north(tables), conventional)
    baselines = fitted_baselines(everything, conventional, tables)
    figures = {
        name: judged_part(everything.select(everything.split == part), baselines, conventional)
        for name, part in _PARTS.items()
    }
    optical = zcosmos_figures(tables, conventional) if (tables / ZCOSMOS).exists() else {}
    numbers = {
        "stacked_shares": baselines.shares.round(3).tolist(),
        "log_linear_exponents": baselines.exponents.round(3).tolist(),
        "parts": figures,
        "zcosmos": optical,
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


def zcosmos_figures(tables: Path, conventional: ConventionalRedshift) -> dict[str, Any]:
    """The template fit on the parts of zCOSMOS that it was not fitted on."""
    fit = conventional.template_fit
    assert fit is not None
    galaxies = zcosmos(tables)
    found = {}
    for name, part in _PARTS.items():
        chosen = [one for one in galaxies if split_of(one.name) == part]
        sample = sample_of(chosen, conventional)
        measured = photometry(sample.fingerprints, fit.templates.wavelength_um)
        enough = measured.count >= 4
        estimate = Estimate.of_densities(fit.log_posterior(measured)[enough], sample.truth[enough])
        values = estimate.values(sample.truth[enough], np.ones(enough.sum(), bool))
        found[name] = {
            "n": int(enough.sum()),
            **{
                key: [
                    round(float(each), 4)
                    for each in (measure(values[key]), *metrics.bootstrap(measure, values[key]))
                ]
                for key, measure in metrics.MEASURES.items()
            },
        }
    return found


def page(numbers: dict[str, Any]) -> str:
    """The page."""
    parts = numbers["parts"]
    text = [
        "# Conventional redshifts at full strength",
        "Asked: how good is everything conventional together, what does template fitting add, and "
        "which is the number that a learned redshift has to beat?",
        "Data: GOODS-N (Liu et al. 2018), real galaxies; truth is the spectroscopic redshift, "
        "which no estimator sees. Fitted on the training part, candidates compared on validation, "
        "the test part opened for the versions that `models/README.md` counts. 95 % bootstrap "
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
        "## zCOSMOS: the template fit alone, u to K, no far infrared",
    ]
    if numbers["zcosmos"]:
        optical = {f"{name} part, n = {one['n']}": one for name, one in numbers["zcosmos"].items()}
        text.append(figures_table(optical, bold=False))
    else:
        text.append("zcosmos.ecsv is not among the tables.")
    shares = ", ".join(f"{one:.2f}" for one in numbers["stacked_shares"])
    exponents = ", ".join(f"{one:.2f}" for one in numbers["log_linear_exponents"])
    text += [
        "## Read with care",
        "* Galaxies with spectroscopic redshifts are brighter in the optical than the sources this "
        "system is for.\n"
        "* The fourteen constants of the conventional redshift in force were tuned on all "
        "galaxies, those judged here included; the row *training constants* has them tuned on the "
        "training parts alone.\n"
        "* Templates see K to 24 µm in GOODS-N; the published redshifts saw these and the optical: "
        "beside them templates count with a small exponent.\n"
        f"* Shares of the linear stack (published, continuum, prior, templates, photometry, "
        f"conventional, conventional with templates): {shares}. Exponents of the log-linear one "
        f"(published, continuum, templates): {exponents}.\n"
        f"* The grid of {len(COARSE)} cells reaches z = 12; templates are tabulated in steps of "
        "0.01 in ln(1 + z).\n" + EXCHANGED,
    ]
    return "\n\n".join(text) + "\n"
