"""Names of the stages."""

from __future__ import annotations

BUILD_FINGERPRINTS = "build-fingerprints"
SCORE_GALAXIES = "score-galaxies"
PUBLISH_ALERTS = "publish-alerts"

STAGE_NAMES = (BUILD_FINGERPRINTS, SCORE_GALAXIES, PUBLISH_ALERTS)
"""In the order of the flow."""
