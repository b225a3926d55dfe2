"""Defines the feature tree: what the parser finds in one spectrum or one map.

The classes are plain records with units in their names. ``inputs.parsed`` converts them to the
records of ``schemas.events``.
"""

from __future__ import annotations

from dataclasses import dataclass, field

SHAPES = ("gaussian", "double-horned", "blended")
MORPHOLOGIES = ("compact", "extended", "double", "jet")


@dataclass(frozen=True, slots=True)
class Identification:
    """A transition that a line may be.

    Attributes:
        name: name of the transition, as in ``relations.LINES_HZ``.
        redshift: redshift that follows.
        probability: probability among all identifications, "none of them" included.
    """

    name: str
    redshift: float
    probability: float


@dataclass(frozen=True, slots=True)
class SpectralLine:
    """A line of a spectrum; errors are 1 sigma.

    Attributes:
        frequency_hz: observed frequency of the middle between the outer edges.
        frequency_error_hz: error of the frequency.
        width_km_s: width between the outer half maxima; for a Gaussian, its full width at half
            maximum.
        width_error_km_s: error of the width.
        flux_jy_km_s: velocity-integrated flux density.
        flux_error_jy_km_s: error of the flux.
        probability: probability that there is a line.
        shape: the most probable of SHAPES.
        shape_probabilities: probabilities in the order of SHAPES.
        identifications: possible identifications, by falling probability.
    """

    frequency_hz: float
    frequency_error_hz: float
    width_km_s: float
    width_error_km_s: float
    flux_jy_km_s: float
    flux_error_jy_km_s: float
    probability: float
    shape: str
    shape_probabilities: tuple[float, ...]
    identifications: tuple[Identification, ...] = ()


@dataclass(frozen=True, slots=True)
class ContinuumSegment:
    """The continuum over one stretch of a spectrum, from its channels free of lines.

    Attributes:
        low_hz: lower end.
        high_hz: upper end.
        flux_density_jy: flux density at the inverse-variance mean of its frequencies.
        flux_error_jy: 1 sigma error, from the measured scatter of the channels if that is larger
            than their stated errors.
        slope_jy_per_ghz: slope of a straight line through the channels.
        line_free: share of the observed channels that no line covers.
    """

    low_hz: float
    high_hz: float
    flux_density_jy: float
    flux_error_jy: float
    slope_jy_per_ghz: float
    line_free: float


@dataclass(frozen=True, slots=True)
class MapComponent:
    """A component of a source in a map.

    Attributes:
        x_arcsec: offset from the middle of the network's square in the direction in which the
            column number grows.
        y_arcsec: offset in the direction in which the row number grows.
        flux_jy: integrated flux density.
        flux_error_jy: 1 sigma error of the flux.
        probability: probability that the component is there.
    """

    x_arcsec: float
    y_arcsec: float
    flux_jy: float
    flux_error_jy: float
    probability: float


@dataclass(frozen=True, slots=True)
class Morphology:
    """What a source in a map looks like.

    Attributes:
        name: the most probable of MORPHOLOGIES.
        probabilities: probabilities in the order of MORPHOLOGIES.
        components: components by falling flux.
    """

    name: str
    probabilities: tuple[float, ...]
    components: tuple[MapComponent, ...]


@dataclass(frozen=True, slots=True)
class FeatureTree:
    """What the parser found in an observation, and the model that found it.

    Attributes:
        lines: lines by ascending frequency.
        continuum: segments of the continuum by ascending frequency.
        morphology: morphology of the source in a map; None for a spectrum.
        model: name, version and hash of the network, separated by blanks.
    """

    lines: tuple[SpectralLine, ...] = ()
    continuum: tuple[ContinuumSegment, ...] = ()
    morphology: Morphology | None = None
    model: str = field(default="")
