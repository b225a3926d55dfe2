"""The events as dataclasses.

Field names, units and meanings are those of the Avro schemas in ``avro/`` beside this module.
Arrays are numpy arrays of the dtype and shape given there. An event does not change once it is
made. The one exception is the rank of a scored galaxy, with the number of ranked galaxies. The
small records, of which an event has dozens, are not frozen, only because making frozen ones takes
three times as long.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from mmbroker.schemas.records import Table, Wire

Floats = NDArray[np.floating[Any]]

Quality = Literal["PASS", "SEMIPASS", "FAIL", "UNKNOWN"]
SpectralFrame = Literal["BARYCENTRIC", "LSRK", "TOPOCENTRIC"]
TimeScale = Literal["UTC", "TAI", "TT", "TDB"]
AlertType = Literal["INITIAL", "UPDATE", "RETRACTION"]
OutcomeKind = Literal["SPECTROSCOPIC_REDSHIFT", "CONFIRMED", "REFUTED"]

CHUNK_BINS = 64
"""Number of bins of the logarithmic frequency grid in one stored chunk."""

Singles = Annotated[Floats, Wire("<f4")]
Doubles = Annotated[Floats, Wire("<f8")]
Chunks = Annotated[Floats, Wire("<f8", CHUNK_BINS)]
Integers = Annotated[NDArray[np.signedinteger[Any]], Wire("<i4")]


@dataclass(slots=True)
class Acquisition:
    """How the data were taken."""

    project: str | None = None
    observing_unit: str | None = None
    quality: Quality = "UNKNOWN"
    calibration: str | None = None
    array: str | None = None
    integration_time_s: float | None = None
    data_url: str | None = None
    bibcode: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Spectrum:
    """A one-dimensional spectrum; all three arrays have shape (channels,)."""

    frequency_hz: Doubles
    frame: SpectralFrame
    flux_density_jy: Singles
    flux_error_jy: Singles
    beam_major_arcsec: float | None = None
    beam_minor_arcsec: float | None = None
    beam_position_angle_deg: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class ContinuumMap:
    """A small image, of shape (height * width,) on the wire; ``image`` has it in two dimensions."""

    image_jy_per_beam: Singles
    height: int
    width: int
    wcs_header: str
    frequency_hz: float
    beam_major_arcsec: float
    beam_minor_arcsec: float
    beam_position_angle_deg: float = 0.0
    noise_jy_per_beam: float | None = None

    @property
    def image(self) -> Floats:
        """The image in Jy/beam, float32, shape (height, width).

        Raises:
            ValueError: the number of pixels is not height times width.
        """
        return self.image_jy_per_beam.reshape(self.height, self.width)


@dataclass(slots=True)
class BandMeasurement:
    """One band: a flux density with its error, or an upper limit."""

    band: str
    frequency_hz: float
    flux_density_jy: float | None
    flux_error_jy: float
    upper_limit_jy: float | None = None


@dataclass(frozen=True, slots=True)
class Photometry:
    """Flux densities of one source."""

    measurements: list[BandMeasurement]


@dataclass(frozen=True, slots=True, eq=False)
class PhotometricRedshift:
    """A redshift that somebody else estimated; both grids have shape (points,)."""

    method: str
    redshift: float
    lower_68: float | None = None
    upper_68: float | None = None
    grid_redshift: Singles | None = None
    grid_density: Singles | None = None


@dataclass(frozen=True, slots=True)
class Document:
    """A reference to a document."""

    url: str
    media_type: str
    sha256: str | None = None
    title: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Observation:
    """One observation of one galaxy, with at most one payload."""

    observation_id: str
    instrument: str
    right_ascension_deg: float
    declination_deg: float
    position_error_arcsec: float
    time_mjd: float
    time_scale: TimeScale = "UTC"
    replaces: str | None = None
    simulated: bool = False
    acquisition: Acquisition = field(default_factory=Acquisition)
    spectrum: Spectrum | None = None
    continuum_map: ContinuumMap | None = None
    photometry: Photometry | None = None
    photometric_redshift: PhotometricRedshift | None = None
    document: Document | None = None

    PAYLOADS: ClassVar[tuple[str, ...]] = (
        "spectrum",
        "continuum_map",
        "photometry",
        "photometric_redshift",
        "document",
    )

    @property
    def payloads(self) -> list[str]:
        """Names of the payloads that are set."""
        return [name for name in self.PAYLOADS if getattr(self, name) is not None]

    @property
    def is_withdrawal(self) -> bool:
        """Whether this withdraws an earlier observation: it replaces one and has no payload."""
        return self.replaces is not None and not self.payloads


@dataclass(slots=True)
class Source:
    """Where in Kafka an observation was read."""

    observation_id: str
    topic: str
    partition: int
    offset: int


@dataclass(slots=True)
class BandStatistics:
    """Merged measurements of one band."""

    band: str
    frequency_hz: float
    weight: float = 0.0
    weighted_flux: float = 0.0
    weighted_square: float = 0.0
    count: int = 0
    upper_limit_jy: float | None = None
    upper_limit_error_jy: float | None = None


@dataclass(frozen=True, slots=True)
class MapStatistics:
    """Merged continuum maps of one interval of frequency, 5 % wide."""

    frequency_bin: int
    weight: float
    weighted_frequency: float
    weighted_flux: float
    weighted_square: float
    weighted_peak: float
    weighted_extent: float
    smallest_beam_arcsec: float
    count: int


@dataclass(frozen=True, slots=True, eq=False)
class PublishedRedshift:
    """The newest photometric redshift by one method."""

    method: str
    time_mjd: float
    observation_id: str
    redshift: float
    lower_68: float | None = None
    upper_68: float | None = None
    grid_redshift: Singles | None = None
    grid_density: Singles | None = None


@dataclass(slots=True)
class AcquisitionStatistics:
    """Counts over the merged observations."""

    observations: int = 0
    spectra: int = 0
    maps: int = 0
    photometry: int = 0
    photometric_redshifts: int = 0
    documents: int = 0
    simulated: int = 0
    quality_pass: int = 0
    quality_semipass: int = 0
    quality_fail: int = 0
    calibration_known: int = 0
    project_known: int = 0
    open_data: int = 0
    array_known: int = 0
    ambiguous: int = 0
    integration_time_s: float = 0.0
    first_mjd: float = float("inf")
    last_mjd: float = float("-inf")


@dataclass(frozen=True, slots=True)
class Identification:
    """A transition that a line may be, with the redshift that follows."""

    name: str
    redshift: float
    probability: float


@dataclass(frozen=True, slots=True, eq=False)
class ParsedLine:
    """A line that was found in a spectrum; errors are 1 sigma."""

    frequency_hz: float
    frequency_error_hz: float
    width_km_s: float
    width_error_km_s: float
    flux_jy_km_s: float
    flux_error_jy_km_s: float
    probability: float
    shape: str
    shape_probabilities: Singles
    identifications: Annotated[list[Identification], Table(Identification)]


@dataclass(frozen=True, slots=True)
class ContinuumSegment:
    """The continuum over a stretch of a spectrum, from its channels free of lines."""

    low_hz: float
    high_hz: float
    flux_density_jy: float
    flux_error_jy: float
    slope_jy_per_ghz: float
    line_free: float


@dataclass(frozen=True, slots=True)
class MapComponent:
    """A component of a source in a map."""

    x_arcsec: float
    y_arcsec: float
    flux_jy: float
    flux_error_jy: float
    probability: float


@dataclass(frozen=True, slots=True, eq=False)
class Morphology:
    """What a source in a map looks like."""

    name: str
    probabilities: Singles
    components: Annotated[list[MapComponent], Table(MapComponent)]


@dataclass(frozen=True, slots=True, eq=False)
class ParsedObservation:
    """The feature tree of one observation."""

    observation_id: str
    time_mjd: float
    model: str
    lines: list[ParsedLine]
    continuum: Annotated[list[ContinuumSegment], Table(ContinuumSegment)]
    morphology: Morphology | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Fingerprint:
    """All that is known of one galaxy, as sums of bounded size that can be merged."""

    galaxy_id: str
    version: int
    right_ascension_deg: float
    declination_deg: float
    position_error_arcsec: float
    position_sums: Doubles
    chunk_index: Integers
    chunk_weight: Chunks
    chunk_weighted_flux: Chunks
    bands: Annotated[list[BandStatistics], Table(BandStatistics)]
    maps: list[MapStatistics]
    photometric_redshifts: list[PublishedRedshift]
    documents: list[Document]
    acquisition: AcquisitionStatistics
    instruments: list[str]
    candidates: list[str]
    observation_hashes: bytes
    digest: bytes
    recent_sources: Annotated[list[Source], Table(Source)]
    parsed: list[ParsedObservation] = field(default_factory=list)


@dataclass(slots=True)
class Interval:
    """An interval of redshift."""

    lower: float
    upper: float


@dataclass(frozen=True, slots=True)
class LineIdentification:
    """One mode of the redshift posterior with the lines that explain it."""

    redshift: float
    probability: float
    lines: list[str]
    observed_frequencies_hz: list[float]


@dataclass(frozen=True, slots=True)
class RedshiftMode:
    """One mode of a redshift posterior: its ends lie in the valleys beside it."""

    lower: float
    median: float
    upper: float
    probability: float


@dataclass(frozen=True, slots=True, eq=False)
class RedshiftPosterior:
    """Redshift inferred from a fingerprint; both grids have shape (points,).

    ``best`` is the median of one of ``modes``. Earlier versions of the schema have no modes and no
    pieces of intervals.
    """

    best: float
    interval_68: Interval
    interval_95: Interval
    grid_redshift: Singles
    grid_probability: Singles
    identifications: list[LineIdentification]
    inputs: list[str]
    modes: Annotated[list[RedshiftMode], Table(RedshiftMode)] = field(default_factory=list)
    interval_68_pieces: Annotated[list[Interval], Table(Interval)] = field(default_factory=list)


@dataclass(slots=True)
class Feature:
    """One node of the feature tree."""

    kind: str
    name: str
    frequency_hz: float | None = None
    flux_density_jy: float | None = None
    line_flux_jy_km_s: float | None = None
    line_width_km_s: float | None = None
    signal_to_noise: float | None = None


@dataclass(slots=True)
class EvaluationScore:
    """One of the five evaluations; a score of None is absent."""

    name: str
    score: float | None
    weight: float
    evidence: dict[str, float]
    reason: str


@dataclass(frozen=True, slots=True)
class CriticOutput:
    """The verdict of the critic, the conditional network, on a fingerprint.

    Without a verdict both numbers are None, and the reason says why.
    """

    output: float | None
    genuine_probability: float | None
    reason: str


@dataclass(frozen=True, slots=True)
class Provenance:
    """What a score was made from: data, model, calibration and code."""

    fingerprint_hash: str
    observation_count: int
    observation_digest: str
    recent_sources: Annotated[list[Source], Table(Source)]
    model_hash: str
    calibration_id: str
    schema_id: int
    code_version: str
    scorer_hash: str


@dataclass(frozen=True, slots=True, eq=False)
class RecoveredLines:
    """Lines recovered from all that is known of a galaxy; arrays have shape (lines,)."""

    lines: list[str]
    log_luminosity: Singles
    half_width_68: Singles
    half_width_95: Singles
    flux_jy_km_s: Singles
    model: str


@dataclass(frozen=True, slots=True)
class ModelUsed:
    """A model that had a part in a score."""

    role: str
    name: str
    version: str
    sha256: str


@dataclass(frozen=True, slots=True)
class ReliabilityTerm:
    """One term of the ln of the odds that a redshift is right.

    ``value`` is what was looked at, None where it is not known, and ``log_odds`` what it adds.
    """

    name: str
    value: float | None
    log_odds: float


@dataclass(frozen=True, slots=True)
class RedshiftReliability:
    """What makes the probability that a redshift is right high or low.

    ``kind`` says what the redshift rests on. The terms sum to the ln of the odds.
    """

    kind: str
    terms: Annotated[list[ReliabilityTerm], Table(ReliabilityTerm)]


@dataclass(slots=True, eq=False)
class ScoredGalaxy:
    """A galaxy with its redshift, evaluations, HyperScore and rank.

    ``rank`` and ``ranked_galaxies`` may be set later; all else stays as it was made.

    ``redshift`` is the one in force. It is None, as is ``probability``, where what was observed
    does not tell a redshift yet; then ``redshift_reason`` says why, and the rank is 0.
    ``reliability`` says what makes the probability high or low; earlier versions do not have it.

    ``refined_redshift`` is the learned redshift; nothing else here depends on it. It is None where
    it is switched off, and where it would be the conventional one, for instance for a galaxy with a
    spectrum or with too few near-infrared bands. Then ``refined_redshift_reason`` says why.
    ``models`` names the models that were asked in either case.
    """

    galaxy_id: str
    version: int
    right_ascension_deg: float
    declination_deg: float
    position_error_arcsec: float
    redshift: RedshiftPosterior | None
    features: Annotated[list[Feature], Table(Feature)]
    evaluations: list[EvaluationScore]
    critic: CriticOutput
    value: float
    hyperscore: float
    hyperscore_form: str
    probability: float | None
    rank: int
    ranked_galaxies: int
    simulated: bool
    ambiguous: bool
    candidates: list[str]
    peak_flux_density_jy: float | None
    provenance: Provenance
    parsed: list[ParsedObservation] = field(default_factory=list)
    recovered_lines: RecoveredLines | None = None
    refined_redshift: RedshiftPosterior | None = None
    refined_redshift_reason: str = ""
    models: list[ModelUsed] = field(default_factory=list)
    redshift_reason: str = ""
    reliability: RedshiftReliability | None = None


@dataclass(frozen=True, slots=True)
class BestRedshift:
    """The part of a redshift posterior that alerts are decided on."""

    best: float


@dataclass(frozen=True, slots=True)
class ScoreOrigin:
    """The part of a score's provenance that alerts are decided on."""

    observation_count: int
    scorer_hash: str


@dataclass(frozen=True, slots=True)
class Score:
    """The part of a scored galaxy that alerts are decided on; fields as in ``ScoredGalaxy``."""

    galaxy_id: str
    version: int
    right_ascension_deg: float
    declination_deg: float
    redshift: BestRedshift | None
    redshift_reason: str
    hyperscore: float
    probability: float | None
    simulated: bool
    peak_flux_density_jy: float | None
    provenance: ScoreOrigin


@dataclass(frozen=True, slots=True, eq=False)
class AlertHead:
    """All of an alert but its galaxy."""

    alert_id: str
    stream: str
    alert_type: AlertType
    supersedes: str | None
    reasons: list[str]
    stream_rank: int
    stream_galaxies: int


@dataclass(frozen=True, slots=True, eq=False)
class Alert(AlertHead):
    """A scored galaxy that passed, or ceased to pass, the filter of a stream."""

    galaxy: ScoredGalaxy


@dataclass(frozen=True, slots=True)
class Outcome:
    """What follow-up found."""

    outcome_id: str
    galaxy_id: str | None
    right_ascension_deg: float
    declination_deg: float
    position_error_arcsec: float
    time_mjd: float
    kind: OutcomeKind
    redshift: float | None
    redshift_error: float | None
    identification: str | None
    reference: str


@dataclass(frozen=True, slots=True)
class Quarantine:
    """An event that could not be processed."""

    stage: str
    reason: str
    detail: str
    topic: str
    partition: int
    offset: int
    original: bytes


Event = Observation | Fingerprint | ScoredGalaxy | Alert | Outcome | Quarantine
EVENT_TYPES: tuple[type[Any], ...] = (
    Observation,
    Fingerprint,
    ScoredGalaxy,
    Alert,
    Outcome,
    Quarantine,
)
