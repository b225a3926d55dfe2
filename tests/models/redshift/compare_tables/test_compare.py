from __future__ import annotations

import io
import json
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.table import Table
from matplotlib.figure import Figure
from rich.console import Console

from mmbroker.models.real_data.catalogues import zcosmos
from mmbroker.models.real_data.split import TRAIN, split_of
from mmbroker.models.redshift import measures
from mmbroker.models.redshift.baselines.baselines import (
    CONVENTIONAL,
    LOG_LINEAR,
    STACKED,
    TREES,
    WITH_TEMPLATES,
)
from mmbroker.models.redshift.compare_tables.compare import _known, compare_table
from mmbroker.models.redshift.compare_tables.compared_table import (
    EVERY_ROW,
    FAR_INFRARED,
    REFINED,
    REFINED_PHOTOMETRY,
    TEMPLATES_PHOTOMETRY,
    ComparedTable,
)
from mmbroker.models.redshift.compare_tables.galaxies_table import FORMATS, write_galaxies
from mmbroker.models.redshift.compare_tables.page import plot, render
from mmbroker.models.redshift.real_galaxies import read_galaxies
from mmbroker.processors.redshift.evidence_kind import EvidenceKind
from mmbroker.processors.redshift.refined import Fallback

FIGURES = {"n", "mae", "nmad", "outliers", "crps", "coverage68", "coverage95"}
METHODS = ("z_phot", "eazy")
REPOSITORY = Path(__file__).parents[4]
SPT = "spt_dndz_tab_a1.txt"


@pytest.fixture(scope="module")
def goodsn(shared_data: Path) -> ComparedTable:
    return compare_table(shared_data / "goodsn.ecsv")


def published(compared: ComparedTable) -> list[str]:
    return [name for name in compared.estimates if name.startswith("published ")]


Results = dict[str, dict[str, dict[str, Any]]]


@pytest.fixture
def results(goodsn: ComparedTable) -> Results:
    found: Results = json.loads(json.dumps(goodsn.as_json()))["groups"]
    return found


def test_every_estimator_is_judged_on_the_same_galaxies(results: Results) -> None:
    ours = {CONVENTIONAL, FAR_INFRARED}
    groups = ["all", "faint", "faint positive", "z > 1.5"]
    kinds = {EvidenceKind.PUBLISHED_AND_FAR, EvidenceKind.FAR}
    published_by = {"with z_phot", "with eazy", "none published"}
    assert set(results) == {*groups, *published_by, EVERY_ROW, *kinds}
    assert results.pop(EVERY_ROW).keys() == ours
    assert "published eazy" in results.pop("with eazy")
    for group in results.keys() - set(groups):
        assert ours <= results.pop(group).keys()
    for estimators in results.values():
        assert set(estimators) == {
            *ours,
            *(f"{kind} {name}" for kind in ("published", "recalibrated") for name in METHODS),
        }
        assert len({figures["n"] for figures in estimators.values()}) == 1
        assert all(set(figures) - {"minus"} == FIGURES for figures in estimators.values())
    assert [results[subset][CONVENTIONAL]["n"] for subset in results] == [717, 711, 72, 119]


def test_differences_are_stated_with_intervals_from_pairs(results: Results) -> None:
    ours = results["faint"][CONVENTIONAL]
    assert set(ours["minus"]) == set(results["faint"]) - {CONVENTIONAL, FAR_INFRARED}
    for reference, differences in ours["minus"].items():
        theirs = results["faint"][reference]
        for figure in FIGURES - {"n"}:
            if theirs[figure] is None:
                assert differences[figure] is None
                continue
            difference = differences[figure]["value"]
            within = differences[figure]["interval_95"]
            assert difference == pytest.approx(
                ours[figure]["value"] - theirs[figure]["value"], abs=1e-12
            )
            assert within["lower"] <= difference <= within["upper"]
    within = ours["minus"]["published z_phot"]["mae"]["interval_95"]
    alone = results["faint"]["published z_phot"]["mae"]["value"]
    assert within["upper"] - within["lower"] < 0.2 * alone


def test_the_crps_of_a_redshift_alone_is_its_error(goodsn: ComparedTable) -> None:
    chosen = goodsn.subsets["all"]
    one = goodsn.estimates["published z_phot"].select(chosen)
    assert one.crps == pytest.approx(np.abs(one.redshift - goodsn.truth[chosen]))
    recalibrated = goodsn.estimates["recalibrated z_phot"].select(chosen)
    assert recalibrated.redshift == pytest.approx(one.redshift, abs=0.06)
    assert recalibrated.crps.mean() < one.crps.mean()


def test_published_figures_are_those_of_the_catalogue(
    goodsn: ComparedTable, results: Results
) -> None:
    """The published redshifts of GOODS-N at S500 < 15 mJy, computed independently."""
    faint = results["faint"]
    figures = [faint[name] for name in published(goodsn)]
    best = min(figures, key=lambda each: float(each["mae"]["value"]))
    assert best["mae"]["value"] == pytest.approx(0.0461, abs=1e-4)
    assert best["nmad"]["value"] == pytest.approx(0.0264, abs=1e-4)
    assert best["outliers"]["value"] == pytest.approx(0.056, abs=1e-3)


def test_intervals_of_the_demos_bright_galaxies_are_too_narrow_and_of_the_others_wide_enough(
    results: Results,
) -> None:
    """As ``processors/README.md`` says: they are right on average alone."""
    demo = compare_table(REPOSITORY / "deploy" / "demo" / "goodsn.ecsv").figures(
        "all", CONVENTIONAL
    )
    whole = results["all"][CONVENTIONAL]
    assert (demo["n"], whole["n"]) == (103, 717)
    assert demo["coverage68"] == pytest.approx(0.476, abs=0.005)
    covered = whole["n"] * whole["coverage68"]["value"] - 103 * demo["coverage68"]
    assert covered / (717 - 103) == pytest.approx(0.717, abs=0.005)


def test_the_conventional_redshift_is_no_worse_than_the_published(goodsn: ComparedTable) -> None:
    for subset in ("all", "faint", "faint positive", "z > 1.5"):
        chosen = goodsn.subsets[subset]
        delta = {
            name: measures.deviation(one.redshift[chosen], goodsn.truth[chosen])
            for name, one in goodsn.estimates.items()
        }
        for name in published(goodsn):
            for measure in (measures.mae, measures.nmad, measures.outliers):
                low, _ = measures.paired_bootstrap(measure, delta[CONVENTIONAL], delta[name])
                assert low <= 0


def test_the_68_per_cent_interval_holds_68_per_cent(results: Results) -> None:
    covered = results["all"][CONVENTIONAL]["coverage68"]
    assert 0.63 <= covered["value"] <= 0.73


def test_far_infrared_photometry_alone_places_the_spt_sources(shared_data: Path) -> None:
    compared = compare_table(shared_data / SPT)
    figures = compared.figures("all", FAR_INFRARED)
    assert figures["n"] == 46
    assert figures["nmad"] is not None
    assert figures["nmad"] <= 0.12


def test_the_output_states_what_the_figures_are_and_are_not(
    goodsn: ComparedTable, tmp_path: Path
) -> None:
    text = io.StringIO()
    Console(file=text, width=200).print(render(goodsn))
    assert "brighter in the optical" in text.getvalue()
    assert "1.4826" in text.getvalue()
    assert "goodsn.ecsv: faint" in text.getvalue()
    short = io.StringIO()
    Console(file=short, width=200).print(render(goodsn, groups=False))
    assert "goodsn.ecsv: all" in short.getvalue()
    assert "goodsn.ecsv: faint" not in short.getvalue()
    assert "with --groups: faint, faint positive, z > 1.5" in short.getvalue()
    picture = tmp_path / "redshift.png"
    plot(goodsn, picture)
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.fixture(scope="module")
def spectra() -> ComparedTable:
    """Galaxies of the demo sample whose spectra are simulated."""
    return compare_table(
        str(resources.files("mmbroker.deploy") / "demo" / "lines.ecsv"), model="both"
    )


def test_every_estimator_is_plotted_in_a_panel_of_its_own(
    spectra: ComparedTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    plotted: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: plotted.append(figure))
    plot(spectra, "both.png")
    (figure,) = plotted
    *panels, calibration = figure.axes
    assert [each.get_title() for each in panels] == [CONVENTIONAL, REFINED]
    labels = [str(each.get_label()) for each in calibration.lines]
    assert [label.split(",")[0] for label in labels] == [CONVENTIONAL, REFINED, "calibrated"]
    # Galaxies that a line places within a cell of the grid have no place in the curve.
    assert all(len(ranks) < 14 for ranks in spectra.ranks.values())
    assert figure.get_suptitle() == "lines.ecsv, 14 galaxies, all with simulated data"


def test_simulated_data_are_labelled_so(spectra: ComparedTable) -> None:
    text = io.StringIO()
    Console(file=text, width=200).print(render(spectra))
    assert "lines.ecsv: all, 14 galaxies, all with simulated data" in text.getvalue()
    assert spectra.as_json()["groups"]["all"][REFINED]["simulated"] == 14


def test_galaxies_without_a_redshift_in_force_do_not_count(
    shared_data: Path, tmp_path: Path
) -> None:
    table = Table.read(shared_data / "goodsn.ecsv")
    table = table[np.flatnonzero(np.asarray(table["z_spec"]) > 0)[:12]]
    near = [name for name in table.colnames if name.startswith(("f_K", "e_K", "f_IRAC", "e_IRAC"))]
    kept = {"id", "ra_deg", "dec_deg", "z_spec", *near}
    for name in table.colnames:
        if name not in kept:
            table[name][:5] = -99.0  # of the first five the near infrared alone is known
    table.write(tmp_path / "goodsn_part.ecsv")
    compared = compare_table(tmp_path / "goodsn_part.ecsv")
    assert compared.probability is not None
    assert np.isnan(compared.probability).tolist() == [True] * 5 + [False] * 7
    assert compared.subsets["all"].sum() <= 7
    text = io.StringIO()
    Console(file=text, width=200).print(render(compared))
    assert "5 galaxies do not count: they have no redshift in force" in text.getvalue()


def test_a_table_without_any_redshift_in_force_is_refused(
    shared_data: Path, tmp_path: Path
) -> None:
    table = Table.read(shared_data / "zcosmos.ecsv")[:30]
    table.write(tmp_path / "zcosmos_part.ecsv")
    with pytest.raises(ValueError, match="no galaxy has a redshift in force"):
        compare_table(tmp_path / "zcosmos_part.ecsv")
    both = compare_table(tmp_path / "zcosmos_part.ecsv", model="both")
    assert CONVENTIONAL not in both.estimators("all")
    assert WITH_TEMPLATES in both.estimators("all")


@pytest.mark.slow
def test_the_refined_redshift_is_judged_beside_the_conventional(shared_data: Path) -> None:
    """On the training part, of which nothing is learnt by looking."""
    compared = compare_table(shared_data / "goodsn.ecsv", model="both", split="train")
    assert {CONVENTIONAL, FAR_INFRARED, REFINED, REFINED_PHOTOMETRY} < set(compared.estimates)
    found = compared.as_json()["groups"]["faint"]
    assert found[REFINED]["n"] == 496
    assert set(found[REFINED]["minus"]) == {
        CONVENTIONAL, WITH_TEMPLATES, STACKED, LOG_LINEAR, TREES, *found[CONVENTIONAL]["minus"],
    }  # fmt: skip
    assert set(found[REFINED_PHOTOMETRY]["minus"]) == {FAR_INFRARED, TEMPLATES_PHOTOMETRY}
    assert any(REFINED in one.inputs for one in compared.posteriors)
    assert compared.trained_on == len(compared.truth)
    text = io.StringIO()
    Console(file=text, width=400).print(render(compared))
    count = len(compared.truth)
    assert f"{count} of these {count} galaxies, by their places, are among those" in text.getvalue()
    assert "Trees: the published redshift with a learnt correction" in text.getvalue()
    assert f"{REFINED}: 0 of 496 are the conventional redshift" in text.getvalue()


@pytest.mark.parametrize("table", [SPT, "cosmos_fir.ecsv"])
def test_the_refined_redshift_of_galaxies_it_cannot_know_is_the_conventional(
    shared_data: Path, table: str
) -> None:
    """Those of COSMOS have bands that templates are fitted to, too few for the networks."""
    compared = compare_table(shared_data / table, model="both")
    ours, theirs = (compared.estimates[name] for name in (REFINED, CONVENTIONAL))
    assert ours.redshift == pytest.approx(theirs.redshift, rel=1e-6)
    assert ours.lower_68 == pytest.approx(theirs.lower_68, rel=1e-6)
    assert all(one.inputs[-1] == Fallback.FEW_BANDS for one in compared.posteriors)
    found = compared.as_json()["groups"]["all"][REFINED]
    assert found["fallbacks"] == {"few_bands": found["n"]}
    assert compared.trained_on == 0
    assert "minus" not in found  # it is the conventional one everywhere
    assert TREES not in compared.estimators("all")  # no optical redshift is published
    assert np.isnan(compared.estimates[TREES].redshift).all()


def test_stacks_and_trees_are_those_of_the_reports(shared_data: Path) -> None:
    compared = compare_table(shared_data / "goodsn.ecsv", model="refined", split="validation")
    reports = resources.files("mmbroker.models") / "reports" / "baselines.json"
    stated = json.loads(reports.read_text())["parts"]["validation"]["faint"]
    found = compared.as_json()["groups"]["faint"]
    for name in (STACKED, LOG_LINEAR, TREES):
        for figure in ("mae", "nmad", "crps"):
            assert found[name][figure]["value"] == pytest.approx(stated[name][figure][0], abs=2e-3)


@pytest.mark.slow
def test_of_zcosmos_it_says_which_part_templates_were_fitted_to(shared_data: Path) -> None:
    galaxies = read_galaxies(shared_data / "zcosmos.ecsv")
    names = [f"zCOSMOS {one}" for one in galaxies.identifiers]
    fitted = {name for name, one in zip(names, _known(galaxies).tolist(), strict=True) if one}
    learnt = {one.name for one in zcosmos(shared_data) if split_of(one.name) == TRAIN}
    assert len(learnt & set(names)) > 1500  # as many as templates are fitted to
    assert learnt & set(names) <= fitted


def test_a_part_of_a_table_that_nothing_was_trained_on_is_refused(
    shared_data: Path, tmp_path: Path
) -> None:
    mapping = resources.files("mmbroker.processors.ingest") / "mappings" / "goodsn.toml"
    unseen = tmp_path / "unseen.toml"
    unseen.write_text(mapping.read_text().replace('name = "goodsn"', 'name = "unseen"'))
    with pytest.raises(ValueError, match="so it has no test part: of its 785 galaxies 669 are"):
        compare_table(shared_data / "goodsn.ecsv", unseen, split="test")
    moved = Table.read(shared_data / "goodsn.ecsv")
    moved["ra_deg"] += 1.0
    moved.write(tmp_path / "goodsn_moved.ecsv")
    for path in (tmp_path / "goodsn_moved.ecsv", shared_data / "cosmos_fir.ecsv"):
        with pytest.raises(ValueError, match=r"so it has no train part: of its \d+ galaxies 0 are"):
            compare_table(path, split="train")


def test_what_the_stream_would_refuse_is_left_out_and_counted(
    shared_data: Path, tmp_path: Path
) -> None:
    table = Table.read(shared_data / "goodsn.ecsv")
    table = table[np.flatnonzero(np.asarray(table["z_spec"]) > 0)[:30]]
    table["eazy_z"] = 1.0
    table["eazy_z"][0] = 25.0  # beyond all redshifts that may be published
    table["ra_deg"][1] = 400.0  # nothing of this galaxy is on the sky
    table.write(tmp_path / "goodsn_part.ecsv")
    compared = compare_table(tmp_path / "goodsn_part.ecsv")
    assert len(compared.truth) == 29
    assert np.isnan(compared.estimates["published eazy"].redshift[0])
    assert any("row 1" in each and "redshift = 25.0" in each for each in compared.problems)
    text = io.StringIO()
    Console(file=text, width=400).print(render(compared))
    assert f"would refuse it: {len(compared.problems)}. The first" in text.getvalue()
    assert compared.as_json()["problems"] == compared.problems


@pytest.mark.parametrize("suffix", sorted(FORMATS))
def test_every_galaxy_has_a_row(spectra: ComparedTable, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"galaxies{suffix}"
    write_galaxies(spectra, path)
    write_galaxies(spectra, path)  # one that is there is replaced
    table = Table.read(path, format=FORMATS[suffix])
    assert len(table) == 14
    conventional = spectra.estimates[CONVENTIONAL]
    assert list(table["redshift_spec"]) == pytest.approx(spectra.truth)
    for name, expected in (
        ("conventional", conventional.redshift),
        ("conventional_upper_68", conventional.upper_68),
        ("probability", spectra.probability),
    ):
        found = np.ma.filled(table[name].astype(float), np.nan)
        assert found == pytest.approx(expected, nan_ok=True)
    assert np.isfinite(conventional.redshift).all()
    within = np.abs(measures.deviation(conventional.redshift, spectra.truth)) <= 0.05
    assert [str(each) for each in table["right"]] == [str(each) for each in within]
    assert {"refined_upper_95", "refined_fallback", "evidence", "inputs"} <= set(table.colnames)
    assert {str(each).strip() for each in table["evidence"]} <= set(EvidenceKind)
    assert all(str(each) == "True" for each in table["simulated"])


def test_an_unknown_model_is_refused(shared_data: Path) -> None:
    with pytest.raises(ValueError, match="'other' is none of conventional, refined, both"):
        compare_table(shared_data / "goodsn.ecsv", model="other")


def test_a_table_without_spectroscopic_redshifts_is_refused(tmp_path: Path) -> None:
    table = tmp_path / "survey.csv"
    table.write_text("id,ra,dec,f,e,z\n1,10.0,2.0,5.0,1.0,-99\n")
    table.with_suffix(".toml").write_text(
        'name = "survey"\nid = "{id}"\ntime = 2020-01-01\nmissing = [-99]\n'
        '[position]\nright_ascension = "ra"\ndeclination = "dec"\nerror_arcsec = 1.0\n'
        '[[photometry]]\ninstrument = "X"\nunit = "mJy"\n'
        'bands = [{ name = "850", wavelength = "850 um", flux = "f", error = "e" }]\n'
        '[truth]\nredshift = "z"\n'
    )
    with pytest.raises(ValueError, match="no row has a positive 'z'"):
        compare_table(table)
