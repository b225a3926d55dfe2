"""mmbroker: an alert broker for millimetre-wave galaxies.

What a survey's pipeline or a subscriber imports is here. It is loaded when it is first used, so
that importing this is fast:

    from mmbroker import Observation, Publisher, subscribe
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmbroker.processors.validation import InvalidObservation
    from mmbroker.schemas import __version__
    from mmbroker.schemas.events import (
        Acquisition,
        Alert,
        BandMeasurement,
        ContinuumMap,
        Document,
        Observation,
        Outcome,
        PhotometricRedshift,
        Photometry,
        ScoredGalaxy,
        Spectrum,
    )
    from mmbroker.streams.publishing.publisher import Publisher, PublishingError
    from mmbroker.streams.settings import Settings, SettingsError
    from mmbroker.streams.subscribing.read import Read, subscribe

_EVENTS = (
    "Acquisition",
    "Alert",
    "BandMeasurement",
    "ContinuumMap",
    "Document",
    "Observation",
    "Outcome",
    "PhotometricRedshift",
    "Photometry",
    "ScoredGalaxy",
    "Spectrum",
)
_PLACES = {
    **dict.fromkeys(_EVENTS, "schemas.events"),
    "InvalidObservation": "processors.validation",
    "Publisher": "streams.publishing.publisher",
    "PublishingError": "streams.publishing.publisher",
    "Read": "streams.subscribing.read",
    "Settings": "streams.settings",
    "SettingsError": "streams.settings",
    "__version__": "schemas",
    "subscribe": "streams.subscribing.read",
}
"""In which module of this package each name is."""


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(__all__)


__all__ = [
    "Acquisition",
    "Alert",
    "BandMeasurement",
    "ContinuumMap",
    "Document",
    "InvalidObservation",
    "Observation",
    "Outcome",
    "PhotometricRedshift",
    "Photometry",
    "Publisher",
    "PublishingError",
    "Read",
    "ScoredGalaxy",
    "Settings",
    "SettingsError",
    "Spectrum",
    "__version__",
    "subscribe",
]
