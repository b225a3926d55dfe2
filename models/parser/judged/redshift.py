"""Tests on simulated galaxies whether the parser's list of lines improves the comb's redshift."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mmbroker.models.parser.exported import ExportedSpectrumParser
from mmbroker.models.parser.judged.line_detections import BATCH, LEAST_LOGIT
from mmbroker.models.simulation.line_emission import LINE_NAMES
from mmbroker.models.simulation.spectra import SimulatedSpectra, simulate_spectra
from mmbroker.processors import relations
from mmbroker.processors.features.identification import Coverage, identified, log_likelihood
from mmbroker.processors.features.lines import LineCalibration, lines_of
from mmbroker.processors.features.patches import patches_of
from mmbroker.processors.fingerprint.merge import build
from mmbroker.processors.redshift.comb import Comb
from mmbroker.processors.redshift.grids import FINE
from mmbroker.processors.redshift.spectral_lines import filtered, residual
from mmbroker.schemas.events import Floats, Observation, Spectrum

VARIANTS = ("comb", "parser's list", "both, half each")
PRIOR_SCATTER = 0.10
"""The scatter in ln(1 + z) of the redshift known beforehand: that of far-infrared photometry."""

TOLERANCE = 0.005


@dataclass(frozen=True, slots=True, eq=False)
class RedshiftScores:
    """Scores of the redshifts of G galaxies by each variant; float64 arrays.

    Attributes:
        right: 1 where the most probable redshift is within TOLERANCE in ln(1 + z), else 0; shape
            (VARIANTS, G).
        log_density: the ln of the posterior probability within TOLERANCE of the truth, shape
            (VARIANTS, G).
        regime: the index into REGIMES, shape (G,).
    """

    right: Floats
    log_density: Floats
    regime: Floats


def redshift_scores(
    network: ExportedSpectrumParser, calibration: LineCalibration, spectra: int, seed: int
) -> RedshiftScores:
    """Estimate redshifts of simulated galaxies from one spectrum each and a coarse prior.

    Args:
        network: the parser of spectra.
        calibration: its calibration.
        spectra: the number of spectra; those without a galaxy do not count.
        seed: the seed of the simulation.
    """
    comb = Comb()
    right, log_density, regime = [], [], []
    for first in range(0, spectra, BATCH):
        random = np.random.default_rng([seed, first])
        simulated = simulate_spectra(BATCH, random)
        rows = np.flatnonzero(np.isfinite(simulated.redshift)).tolist()
        laid_out = [patches_of(*simulated.spectrum(row)) for row in rows]
        for row, patches, outputs in zip(rows, laid_out, network.outputs(laid_out), strict=True):
            found = lines_of(patches, outputs, calibration, LEAST_LOGIT)
            observed = residual(build("judge", [_observation(simulated, row)]))
            truth = float(np.log1p(simulated.redshift[row]))
            guess = truth + PRIOR_SCATTER * random.standard_normal()
            prior = -0.5 * ((FINE - guess) / PRIOR_SCATTER) ** 2
            by_comb = prior + comb.log_likelihood(observed, filtered(observed), None, None)
            by_list = prior + log_likelihood(found, Coverage.of(patches), FINE)
            both = np.logaddexp(
                by_comb - np.logaddexp.reduce(by_comb), by_list - np.logaddexp.reduce(by_list)
            )
            each = [_score(one, truth) for one in (by_comb, by_list, both)]
            right.append([one[0] for one in each])
            log_density.append([one[1] for one in each])
            regime.append(float(simulated.regime[row]))
    return RedshiftScores(np.array(right).T, np.array(log_density).T, np.array(regime))


def identification_scores(
    network: ExportedSpectrumParser, calibration: LineCalibration, spectra: int, seed: int
) -> dict[str, float]:
    """Measure how often a line's candidates are right, from the list of its spectrum alone.

    Args:
        network: the parser of spectra.
        calibration: its calibration.
        spectra: the number of spectra.
        seed: the seed of the simulation.
    """
    right, probability, among, several, names = [], [], [], [], []
    for first in range(0, spectra, BATCH):
        simulated = simulate_spectra(BATCH, np.random.default_rng([seed, first]))
        laid_out = [patches_of(*simulated.spectrum(row)) for row in range(BATCH)]
        for row, outputs in enumerate(network.outputs(laid_out)):
            patches, truth = laid_out[row], simulated.lines
            found = lines_of(patches, outputs, calibration)
            true_names = []
            for line in found:
                away = np.abs(np.log(truth.frequency_hz[row] / line.frequency_hz))
                away = away * relations.SPEED_OF_LIGHT_KM_S / truth.width_km_s[row]
                nearest = int(np.nanargmin(np.append(away, 0.5)))
                true_names.append(int(truth.name[row, nearest]) if nearest < len(away) else -1)
            of_ladder = sum(name >= 0 for name in true_names)
            for line, name in zip(identified(found, Coverage.of(patches)), true_names, strict=True):
                if name < 0 or not line.identifications:
                    continue
                candidates = [each.name for each in line.identifications]
                right.append(candidates[0] == LINE_NAMES[name])
                probability.append(line.identifications[0].probability)
                among.append(LINE_NAMES[name] in candidates)
                several.append(of_ladder > 1)
                names.append(name)
    rights, multiple = np.array(right), np.array(several)
    return {
        "lines": len(right),
        "first_right": float(rights.mean()),
        "first_probability": float(np.mean(probability)),
        "among_candidates": float(np.mean(among)),
        "lines_of_several": int(multiple.sum()),
        "first_right_of_several": float(rights[multiple].mean()) if multiple.any() else 0.0,
        "share_of_commonest": float(np.bincount(names).max() / len(names)),
    }


def _observation(simulated: SimulatedSpectra, row: int) -> Observation:
    frequency, flux, error = simulated.spectrum(row)
    spectrum = Spectrum(frequency, "BARYCENTRIC", flux, error)
    return Observation("judge", "simulated", 150.0, 2.0, 0.1, 59_000.0, spectrum=spectrum)


def _score(log_posterior: Floats, truth: float) -> tuple[float, float]:
    probability = np.exp(log_posterior - log_posterior.max())
    probability /= probability.sum()
    near = np.abs(FINE - truth) < TOLERANCE
    inside = float(probability[near].sum())
    best = FINE[int(np.argmax(np.convolve(probability, np.ones(3), "same")))]
    return float(abs(best - truth) < TOLERANCE), float(np.log(inside + 1e-6))
