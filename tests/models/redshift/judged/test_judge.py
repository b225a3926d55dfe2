from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the baselines need scikit-learn")

from mmbroker.models.packaged.templates import load_templates
from mmbroker.models.pages.render import ENVIRONMENT, REPORTS, render
from mmbroker.models.real_data.catalogues import goods_north
from mmbroker.models.redshift.judged import (
    baselines,
    in_stream,
    simulated_estimates,
    simulated_spectra,
    targets,
    trials,
)
from mmbroker.models.redshift.judged import judge as redshift
from mmbroker.models.report import __main__ as judge
from mmbroker.processors.redshift import ConventionalRedshift
from mmbroker.streams.settings import Settings
from mmbroker.streams.stages.scorers import Scorers


def figures(mae: float, **more: Any) -> dict[str, Any]:
    values = {"mae": mae, "nmad": mae / 2, "outliers": mae, "crps": 2 * mae, "coverage68": 0.68}
    return {"n": 9, **{name: [one, one - 0.01, one + 0.01] for name, one in values.items()}, **more}


def said(macro: str, *arguments: Any) -> str:
    """What a macro of the pages on redshifts says."""
    called = f'{{% from "_redshifts.md.j2" import {macro} %}}{{{{ {macro}(*arguments) }}}}'
    return ENVIRONMENT.from_string(called).render(arguments=arguments)


def in_one_line(text: str) -> str:
    return " ".join(text.split())


@pytest.fixture
def few_simulated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulated_estimates, "GALAXIES", 120)
    monkeypatch.setattr(simulated_spectra, "GALAXIES", 150)


@pytest.mark.usefixtures("few_simulated")
@pytest.mark.parametrize("report", [baselines.report, redshift.report])
def test_without_tables_the_page_says_so_and_what_the_stream_uses(
    tmp_path: Path, report: Any
) -> None:
    report(None, tmp_path)
    (page,) = tmp_path.glob("*.md")
    assert "tables are missing" in page.read_text()
    assert "Scores, ranks and alerts use the redshift that is called *conventional*" in (
        page.read_text()
    )


@pytest.mark.usefixtures("few_simulated")
def test_without_tables_simulated_galaxies_are_judged_as_such(tmp_path: Path) -> None:
    redshift.report(None, tmp_path)
    page = (tmp_path / "redshift.md").read_text()
    tables = [part for part in page.split("\n### ") if "| refined |" in part]
    assert len(tables) == 3
    assert all(one.startswith("Simulated, ") for one in tables)
    numbers = json.loads((tmp_path / "redshift.json").read_text())
    assert (
        f"{numbers['simulated_with_spectra']['n']} galaxies of `models/simulation/observations.py`"
        in page
    )
    figures = numbers["simulated"]
    assert figures["photometry alone"].keys() == {
        "conventional",
        "conventional with templates",
        "refined",
    }


@pytest.mark.usefixtures("few_simulated")
def test_redshifts_from_spectra_are_judged_by_how_sure_they_say_they_are() -> None:
    figures = simulated_spectra.judged()
    assert sum(one["n"] for one in figures["bins"]) == figures["n"] > 50
    for low, high, one in zip(
        simulated_spectra.EDGES[:-1],
        simulated_spectra.EDGES[1:],
        figures["bins"],
        strict=True,
    ):
        if one["n"]:
            assert (one["from"], one["to"]) == (low, high)
            assert low <= one["stated"] <= high
            right, least, most = one["right"]
            assert 0 <= least < most <= 1
            assert least - 1e-9 <= right <= most + 1e-9
    beside = figures["spectra left out"]
    assert 20 < beside["n"] <= figures["n"]
    for name in ("right", "crps"):
        difference, least, most = beside[f"{name} difference"]
        with_them, left_out = beside[name]
        assert difference == pytest.approx(with_them - left_out)
        assert least <= difference <= most


def test_simulated_galaxies_have_what_the_real_table_has() -> None:
    conventional = ConventionalRedshift().with_templates(load_templates())
    sample = simulated_estimates.simulated_sample(60, 3, conventional)
    assert (sample.inputs.count == 2).all()
    assert (sample.truth > 0).all()
    assert sample.inputs.mask.sum(axis=1).min() > 5


def test_reports_without_tables_leave_those_of_the_project_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    written: list[Path] = []
    monkeypatch.setattr(judge, "REPORTS", {"some": lambda _, output: written.append(output)})
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MMBROKER_DATA", raising=False)
    judge.main([])
    judge.main(["--output", "elsewhere"])
    assert written == [Path(".mmbroker/reports"), Path("elsewhere")]
    assert ".mmbroker/reports" in capsys.readouterr().out
    judge.main(["--data", str(tmp_path)])
    assert written[-1] == judge.OUTPUT


def test_the_page_says_what_the_stream_uses() -> None:
    fit = Scorers(Settings()).redshift.template_fit
    assert ("conventional" if fit is None else "with templates") == in_stream.IN_FORCE


def test_the_rule_on_the_stream_names_what_got_worse() -> None:
    better = figures(0.03, conventional_minus={"crps": [0.02, 0.01, 0.03]})
    worse = figures(0.05, conventional_minus={"crps": [0.01, -0.01, 0.02]})
    names = ("conventional", "trees", "conventional with templates")
    faint = dict(zip(names, (figures(0.04), better, worse), strict=True))
    part = {"faint": faint, "photometry alone": faint}
    trees, templates, _ = baselines.rule({"validation": part, "test": part})
    assert trees["estimate"] == "trees"
    assert trees["validation"] == [-0.02, -0.03, -0.01]
    assert trees["worse on test"] == {}
    assert templates["worse on test"]["mae"] == [0.05, 0.04]


def test_the_exchanged_columns_are_as_the_pages_say(shared_data: Path) -> None:
    rows = []
    for galaxy in goods_north(shared_data):
        redshift_of = galaxy.spectroscopic_redshift
        fluxes = {}
        for observation in galaxy.observations:
            if redshift_of is None and observation.photometric_redshift:
                redshift_of = observation.photometric_redshift.redshift
            for each in observation.photometry.measurements if observation.photometry else ():
                flux, error = each.flux_density_jy, each.flux_error_jy
                if flux is not None and error is not None and flux > 3 * error:
                    fluxes[each.band] = flux
        if redshift_of is not None and fluxes.keys() >= {"IRS-16", "MIPS-24"}:
            # The column that is called f_16 holds 24 µm.
            rows.append((redshift_of, fluxes["MIPS-24"] / fluxes["IRS-16"]))
    where, ratio = np.array(rows).T
    for low, high, stated in ((0.0, 0.5, 1.3), (1.2, 1.5, 0.85), (1.8, 2.2, 3.1)):
        found = np.median(ratio[(where > low) & (where < high)])
        assert found == pytest.approx(stated, abs=0.05)
        assert f"{stated:g} times" in render("_exchanged_columns", {})


def test_conditions_hold_when_the_refined_redshift_is_much_better() -> None:
    published = figures(0.06, refined_minus={"mae": [-0.02, -0.03, -0.01]})
    found = redshift.conditions({"published A": published, "refined": figures(0.04)})
    assert [one["met"] for one in found.values()] == [True, True, True]


def test_conditions_fail_by_name() -> None:
    published = figures(0.06, refined_minus={"mae": [-0.005, -0.03, 0.01]})
    ours = figures(0.055, coverage68=[0.8, 0.7, 0.9])
    estimators = {"published A": published, "trees": figures(0.05), "refined": ours}
    found = redshift.conditions(estimators)
    assert [one["met"] for one in found.values()] == [False, False, False]
    assert found["strongest"]["worse"]["mae"]["of"] == "trees"


def test_the_reports_say_what_follows_from_their_figures() -> None:
    numbers, of_baselines = (
        json.loads((REPORTS / f"{name}.json").read_text()) for name in ("redshift", "baselines")
    )
    for part, figures_of_part in numbers["parts"].items():
        assert numbers["conditions"][part] == redshift.conditions(figures_of_part["faint"])
    for posteriors in numbers["trial_redshifts"].values():
        for networks in posteriors.values():
            for one in networks.values():
                assert one["keeps"] == trials.keeps(one)
    assert numbers["best"] == redshift.best(numbers["parts"])
    assert of_baselines["best"] == baselines.best(of_baselines["parts"])
    assert of_baselines["rule"] == baselines.rule(of_baselines["parts"])


def test_what_the_mae_is_made_of_is_measured() -> None:
    published = np.array([0.5, -0.4, *np.tile([0.02, -0.02], 49)])
    found = targets.measured(published, published / 2, np.full(100, 0.1))
    assert (found["n"], found["outliers"], found["mended"]) == (100, 2, 0)
    assert found["share of MAE"] == pytest.approx(0.9 / (0.9 + 98 * 0.02), abs=1e-4)
    assert found["others, refined"] == pytest.approx(found["others, published"] / 2)
    assert found["others would need"] == pytest.approx(-0.2 * (0.9 + 1.96) / 1.96, abs=1e-4)
    assert found["correlation"] == pytest.approx(1)


def test_why_targets_are_met_or_missed_is_said_of_what_was_measured() -> None:
    delta = np.array([0.5, -0.4, *np.tile([0.02, -0.02], 49)])
    found = targets.measured(delta, np.where(np.abs(delta) > 0.45, 0.1, delta), delta)
    trees = figures(0.04, refined_minus={"nmad": [-0.001, -0.01, 0.01]})
    faint = {"trees": trees, "refined": figures(0.04)}
    why = in_one_line(said("why_the_errors", found, faint, False))
    assert "does not fall by 20 %" in why
    assert "the 2 outliers" in why
    assert "1 of them is brought below 0.15" in why
    assert "within its error" in why
    faint["trees"] = figures(0.04, refined_minus={"nmad": [-0.01, -0.02, -0.001]})
    assert "beyond its error" in said("why_the_errors", found, faint, True)


def test_fallbacks_are_said_in_a_sentence() -> None:
    given = {
        "all": {"refined": figures(0.04)},
        "photometry alone": {"refined": figures(0.04)},
        "far infrared alone": {"refined": figures(0.04)},
        "fallbacks": {
            "with published": {},
            "photometry alone": {"few_bands": 1},
            "far infrared alone": {"few_bands": 2, "unlike": 3},
        },
    }
    assert in_one_line(said("fallen_back", given)) == (
        "The refined redshift is the conventional one for none of 9 with both published redshifts, "
        "1 of 9 from photometry alone (too few near-infrared bands), 5 of 9 from the far infrared "
        "alone (too few near-infrared bands 2, fluxes unlike those of the training 3)."
    )


def test_tables_set_the_lowest_error_in_bold_and_sign_differences() -> None:
    table = said("figures_table", {"good": figures(0.02), "bad": figures(0.04)})
    good, bad = table.splitlines()[2:]
    assert good.count("**") == 8
    assert "**" not in bad
    minus = {"bad": figures(0.04, good_minus={"mae": [-0.02, -0.03, 0.01]}), "good": figures(0.02)}
    assert "−0.0200 (−0.0300 to +0.0100)" in said("differences_table", minus, "good")
