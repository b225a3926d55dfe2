"""The feature tree: what the parser reads off one spectrum or one map.

Plain records with units in their names, as they go on the wire.
"""

from __future__ import annotations

from dataclasses import dataclass, field

SHAPES = ("gaussian", "double-horned", "blended")
MORPHOLOGIES = ("compact", "extended", "double", "jet")


@dataclass(frozen=True, slots=True)
class Identification:
    """What a line may be.

    Args:
        name: of the transition, as in ``relations.LINES_HZ``.
        redshift: that follows.
        probability: among all identifications, "none of them" included.
    """

    name: str
    redshift: float
    probability: float


@dataclass(frozen=True, slots=True)
class SpectralLine:
    """A line of a spectrum; errors are 1 sigma.

    Args:
        frequency_hz: observed, of the middle between the outer edges.
        frequency_error_hz: of it.
        width_km_s: between the outer half maxima; for a Gaussian, its full width at half maximum.
        width_error_km_s: of it.
        flux_jy_km_s: velocity-integrated flux density.
        flux_error_jy_km_s: of it.
        probability: that there is a line.
        shape: most probable of SHAPES.
        shape_probabilities: in the order of SHAPES.
        identifications: by falling probability.
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

    Args:
        low_hz: lower end.
        high_hz: upper end.
        flux_density_jy: at the inverse-variance mean of its frequencies.
        flux_error_jy: 1 sigma, with the scatter that channels really have.
        slope_jy_per_ghz: of a straight line; 0 where there are too few channels.
        line_free: share of the observed channels that no line is in.
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

    Args:
        x_arcsec: offset from the middle of the map along its columns.
        y_arcsec: along its rows.
        flux_jy: integrated flux density.
        flux_error_jy: 1 sigma.
        probability: that it is there.
    """

    x_arcsec: float
    y_arcsec: float
    flux_jy: float
    flux_error_jy: float
    probability: float


@dataclass(frozen=True, slots=True)
class Morphology:
    """What a source in a map looks like.

    Args:
        name: most probable of MORPHOLOGIES.
        probabilities: in the order of MORPHOLOGIES.
        components: by falling flux.
    """

    name: str
    probabilities: tuple[float, ...]
    components: tuple[MapComponent, ...]


@dataclass(frozen=True, slots=True)
class FeatureTree:
    """What the parser reads off an observation, and which model did.

    Args:
        lines: by ascending frequency.
        continuum: by ascending frequency.
        morphology: None for a spectrum.
        model: name and version of the network.
    """

    lines: tuple[SpectralLine, ...] = ()
    continuum: tuple[ContinuumSegment, ...] = ()
    morphology: Morphology | None = None
    model: str = field(default="")
