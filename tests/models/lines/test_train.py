"""The line compilations, the distribution fitted to them, its baselines and its card."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mmbroker.models.lines.baselines import (
    BASELINES,
    CONSTANT_ALL,
    Baselines,
    masked,
    upper_energy_k,
)
from mmbroker.models.lines.distribution import PARAMETERS, Table, _evidence, covariance, fit
from mmbroker.models.lines.measures import Predictions, figures, predict
from mmbroker.models.lines.simulation import observed_lines, simulated_lines
from mmbroker.models.lines.train import (
    calibrated_out_of_fold,
    calibrated_widths,
    subsets,
    with_widths,
    write,
)
from mmbroker.models.packaged.line_recovery import load_line_recovery
from mmbroker.models.real_data.line_tables import LineSample, read_ladders, read_lines
from mmbroker.models.real_data.split import TEST
from mmbroker.processors import relations
from mmbroker.processors.lines.joint import LineRecovery, log_luminosity_per_flux
from mmbroker.processors.lines.measure import LINES


@pytest.fixture(scope="module")
def ladders_of_one_slope() -> LineSample:
    """Galaxies whose ladders tilt: a constant ratio is wrong, two lines tell a third."""
    random = np.random.default_rng(3)
    count = 60
    redshift = random.uniform(0.5, 4.0, count)
    step = np.log(upper_energy_k() / upper_energy_k()[0])
    value = (
        random.normal(10.5, 0.5, count)[:, None] + random.normal(-0.15, 0.1, count)[:, None] * step
    )
    flux = 10 ** (value - log_luminosity_per_flux(redshift))
    seen = random.random(flux.shape) < 0.4
    flux = np.where(seen, flux * 10 ** random.normal(0, 0.05, flux.shape), 0.0)
    error = np.where(seen, 0.05 * flux, np.inf)
    names = tuple(f"galaxy {number}" for number in range(count))
    infrared = value[:, 0] * 1.1 + 1.0
    return LineSample(
        names, redshift, flux, error, infrared, np.full(count, 0.2), np.zeros(count, np.int64)
    )


def test_compilation_keeps_to_what_the_protocol_says(shared_data: Path) -> None:
    sample = read_lines(shared_data)
    lines = {
        name: {LINES[line]: sample.flux[row, line] for line in np.flatnonzero(sample.detected[row])}
        for row, name in enumerate(sample.names)
    }
    cloverleaf = lines["H1413+117"]
    assert "[CII]" not in cloverleaf, "a copy of the CN flux of the same paper"
    # Differential lensing undone.
    first = sample.flux[sample.names.index("G12v2.30"), LINES.index("CO(1-0)")]
    assert first == pytest.approx(1.820 / 1.3)
    # Superseded by a newer measurement of the same line.
    assert lines["H-ATLASJ133649.9+291801"]["CO(7-6)"] == pytest.approx(6.8)
    assert "COSMOS_38503" not in lines
    known = sample.log_infrared[np.isfinite(sample.infrared_error)]
    assert ((known > 10) & (known < 16)).all()
    assert (sample.redshift > 0).all()
    assert (np.isfinite(sample.error) == (sample.flux > 0)).all()
    assert {one.name for one in read_ladders(shared_data)} > {"Eyelash"}


def test_slopes_of_the_evidence_are_those_of_differences(ladders_of_one_slope: LineSample) -> None:
    table = Table.of(ladders_of_one_slope)
    theta = np.array([each[0] for each in PARAMETERS.values()]) + 0.05
    exact = _evidence(theta, table).gradient
    for number in range(0, len(theta), 4):
        step = np.zeros(len(theta))
        step[number] = 1e-4
        difference = _evidence(theta + step, table).value - _evidence(theta - step, table).value
        slopes = (covariance(theta + step) - covariance(theta - step)) * exact
        assert slopes.sum() == pytest.approx(difference, rel=1e-3, abs=1e-6)


def test_tilted_ladders_are_recovered_better_than_by_a_constant(
    ladders_of_one_slope: LineSample,
) -> None:
    half = np.arange(len(ladders_of_one_slope)) < 40
    weights, _ = fit(ladders_of_one_slope.select(half))
    rows = masked(ladders_of_one_slope.select(~half))
    baselines = Baselines(ladders_of_one_slope.select(half))
    found = predict(LineRecovery(weights), baselines, rows)
    several = figures(rows, found, rows.others >= 2)
    assert several["skill"][CONSTANT_ALL]["skill"][1] > 0.3
    assert several["rms_dex"][0] < 0.12
    assert set(found.baselines) == set(BASELINES)
    low, high = calibrated_widths(rows, found)
    calibrated = with_widths(weights, (low, high))
    again = figures(rows, predict(LineRecovery(calibrated), baselines, rows), rows.others > 0)
    assert again["coverage_68"][0] == pytest.approx(0.68, abs=0.02)
    assert again["coverage_95"][0] == pytest.approx(0.95, abs=0.02)


def test_a_masked_line_does_not_reach_its_own_prediction(ladders_of_one_slope: LineSample) -> None:
    weights, _ = fit(ladders_of_one_slope)
    model, baselines = LineRecovery(weights), Baselines(ladders_of_one_slope)
    rows = masked(ladders_of_one_slope)
    other = ladders_of_one_slope.flux.copy()
    other[rows.galaxy[0], rows.line[0]] *= 3
    error = np.where(other > 0, 0.05 * other, np.inf)
    changed = masked(replace(ladders_of_one_slope, flux=other, error=error))
    first, second = (predict(model, baselines, each) for each in (rows, changed))
    assert first.value[0] == second.value[0]
    for name in BASELINES:
        assert first.baselines[name][0] == pytest.approx(second.baselines[name][0], nan_ok=True)


def test_constant_ratio_without_training_is_the_published_one() -> None:
    redshift, shape = np.array([2.0]), (1, len(LINES))
    flux, error = np.zeros(shape), np.full(shape, np.inf)
    scale = log_luminosity_per_flux(redshift)[0]
    for name in ("CO(1-0)", "CO(4-3)"):
        place = LINES.index(name)
        flux[0, place] = 10 ** (11 - scale[place]) * relations.LINE_RATIOS[name]
        error[0, place] = 0.1 * flux[0, place]
    nothing = (np.zeros(1), np.full(1, np.inf), np.zeros(1, np.int64))
    sample = LineSample(("one",), redshift, flux, error, *nothing)
    rows = masked(sample)
    found = Baselines(sample.select(np.zeros(1, bool))).predictions(rows)
    assert found[CONSTANT_ALL] == pytest.approx(rows.truth)


def test_intervals_of_a_fold_are_not_calibrated_on_its_own_lines(
    ladders_of_one_slope: LineSample,
) -> None:
    rows = masked(ladders_of_one_slope)
    fold = rows.galaxy % 3
    error = np.random.default_rng(4).normal(0, 0.2, len(rows))
    ones = np.full(len(rows), 0.1)
    found = Predictions(rows.truth + error, ones, 1.96 * ones, {})
    calibrated = calibrated_out_of_fold(rows, fold, found)
    # Whatever the truth of the first fold is, its intervals stay as they are.
    surprising = replace(rows, truth=np.where(fold == 0, rows.truth + 0.4, rows.truth))
    again = calibrated_out_of_fold(surprising, fold, found)
    for name in ("half_width_68", "half_width_95"):
        before, after = getattr(calibrated, name), getattr(again, name)
        assert (before[fold == 0] == after[fold == 0]).all()
        assert (before[fold > 0] < after[fold > 0]).all()
    low, high = calibrated_widths(rows, found)
    assert calibrated.half_width_68 == pytest.approx(ones * low, rel=0.3)
    assert calibrated.half_width_95 == pytest.approx(ones * high, rel=0.3)


def test_subsets_are_galaxies_with_other_lines_or_luminosity_alone(
    ladders_of_one_slope: LineSample,
) -> None:
    rows = masked(ladders_of_one_slope)
    parts = subsets(rows)
    assert (parts["all"] == (parts["z > 0.1"] | parts["z < 0.1"])).all()
    assert not (parts["all"] & parts["no other line, L_IR and z alone"]).any()


def test_weights_survive_being_written(tmp_path: Path, ladders_of_one_slope: LineSample) -> None:
    weights, _ = fit(ladders_of_one_slope)
    with pytest.raises(FileNotFoundError, match=r"models.lines.train"):
        load_line_recovery(tmp_path)
    write(tmp_path, weights, {"name": "weak_lines"})
    redshift = np.array([1.0, 3.0])
    expected = LineRecovery(weights).prior(redshift)
    found = load_line_recovery(tmp_path).prior(redshift)
    assert (found[0] == expected[0]).all()
    assert (found[1] == expected[1]).all()
    (tmp_path / "weak_lines.json").write_text('{"sha256": "0"}')
    with pytest.raises(ValueError, match="its card says 0"):
        load_line_recovery(tmp_path)


def test_packaged_weights_were_not_fitted_to_the_test_part(shared_data: Path) -> None:
    everything = read_lines(shared_data)
    again, _ = fit(everything.select(everything.split != TEST))
    mean, _ = load_line_recovery().prior(np.array([0.05, 2.5]))
    assert LineRecovery(again).prior(np.array([0.05, 2.5]))[0] == pytest.approx(mean, abs=0.01)


def test_simulated_lines_are_measured_within_their_errors() -> None:
    simulated = simulated_lines(150, 7)
    rows = observed_lines(simulated, mask=False)
    pulls = (simulated.sample.flux - simulated.true_flux) / simulated.sample.total_error
    pulls = pulls[rows.galaxy, rows.line]
    assert len(rows) > 50
    assert abs(np.median(pulls)) < 0.5
    assert np.median(np.abs(pulls)) < 1.2
