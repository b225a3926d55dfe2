"""The reproducibility index: how well a galaxy's data could be taken again and checked.

The index is the unweighted mean of the components that can be computed, each in [0, 1]:

=================  =================================================================================
quality            (passed + half of semi-passed) / observations, by the observatories' own grading
calibration        share of observations that state their calibration
identification     share that state a project or a publication
open_data          share whose data or publication can be fetched openly
integration        share that state array and integration time
coverage           share of the five spectral regions (radio to 15 GHz, millimetre to 300 GHz,
                   submillimetre to 1 THz, far-infrared to 30 THz, optical) observed
repeat_agreement   probability of a scatter at least as large as that of repeated measurements, if
                   their errors are right, over 5 %, at most 1; absent without repeats
observability      how high the source culminates at the better of ALMA and NOEMA: 0 at 20 deg
                   and below, 1 at 40 deg and above
=================  =================================================================================

Whatever an observation does not state counts as not done, because others cannot rely on it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence

from scipy.special import gammaincc

from mmbroker.processors.evaluations.interface import Arrays, Evaluated, Evaluation, Subject
from mmbroker.processors.frequency_grid import CENTRES_HZ
from mmbroker.processors.relations import OBSERVATORY_LATITUDES_DEG
from mmbroker.schemas.events import BandStatistics, Fingerprint, MapStatistics

REGION_EDGES_HZ = (15e9, 300e9, 1e12, 30e12)
AGREEMENT_PROBABILITY = 0.05
LOWEST_ALTITUDE_DEG = 20.0
COMFORTABLE_ALTITUDE_DEG = 40.0


class Reproducibility(Evaluation):
    """The reproducibility and feasibility index."""

    name = "reproducibility"

    def evaluate(
        self, subjects: Sequence[Subject], answer: Arrays | None = None
    ) -> list[Evaluated]:
        """The index of every subject; absent for a galaxy without observations."""
        return [_evaluated(subject.fingerprint) for subject in subjects]


def _evaluated(fingerprint: Fingerprint) -> Evaluated:
    if not fingerprint.acquisition.observations:
        return Evaluated(None, "absent: no observation remains")
    components = _components(fingerprint)
    weakest = min(components, key=components.__getitem__)
    score = sum(components.values()) / len(components)
    reason = f"mean of {len(components)} components, weakest is {weakest}"
    return Evaluated(score, reason, components)


def _components(fingerprint: Fingerprint) -> dict[str, float]:
    counted = fingerprint.acquisition
    components = {
        "quality": counted.quality_pass + 0.5 * counted.quality_semipass,
        "calibration": counted.calibration_known,
        "identification": counted.project_known,
        "open_data": counted.open_data,
        "integration": counted.array_known,
    }
    components = {name: count / counted.observations for name, count in components.items()}
    components["coverage"] = coverage(fingerprint)
    agreement = repeat_agreement(fingerprint)
    if agreement is not None:
        components["repeat_agreement"] = agreement
    components["observability"] = observability(fingerprint.declination_deg)
    return components


def coverage(fingerprint: Fingerprint) -> float:
    """Share of the spectral regions in which anything was observed."""
    regions = {_region(frequency) for frequency in _observed_frequencies_hz(fingerprint)}
    return len(regions) / (len(REGION_EDGES_HZ) + 1)


def repeat_agreement(fingerprint: Fingerprint) -> float | None:
    """How well repeated measurements of a band agree within their errors; None without repeats.

    The scatter about the weighted mean is sum(w f^2) - (sum(w f))^2 / sum(w), a chi-squared of
    count - 1 degrees of freedom when the errors are right.
    """
    merged: list[BandStatistics | MapStatistics] = [*fingerprint.bands, *fingerprint.maps]
    repeated = [each for each in merged if each.count > 1]
    if not repeated:
        return None
    scatter = sum(each.weighted_square - each.weighted_flux**2 / each.weight for each in repeated)
    freedom = sum(each.count - 1 for each in repeated)
    probability = float(gammaincc(freedom / 2.0, max(scatter, 0.0) / 2.0))
    return min(probability / AGREEMENT_PROBABILITY, 1.0)


def observability(declination_deg: float) -> float:
    """How high a source rises at the better of ALMA and NOEMA, in [0, 1].

    It is 0 if the source culminates at 20 deg or below, 1 at 40 deg or above, and linear between.
    """
    culmination = max(
        90.0 - abs(latitude - declination_deg) for latitude in OBSERVATORY_LATITUDES_DEG
    )
    share = (culmination - LOWEST_ALTITUDE_DEG) / (COMFORTABLE_ALTITUDE_DEG - LOWEST_ALTITUDE_DEG)
    return min(max(share, 0.0), 1.0)


def _region(frequency_hz: float) -> int:
    return bisect_left(REGION_EDGES_HZ, frequency_hz)


def _observed_frequencies_hz(fingerprint: Fingerprint) -> Iterable[float]:
    yield from (each.frequency_hz for each in fingerprint.bands)
    yield from (each.weighted_frequency / each.weight for each in fingerprint.maps)
    if len(fingerprint.chunk_index):
        first_bins = fingerprint.chunk_index * fingerprint.chunk_weight.shape[1]
        yield from CENTRES_HZ[first_bins].tolist()
