"""What alert streams say of a galaxy, and when."""

from __future__ import annotations

import dataclasses

from mmbroker.processors.alerts.decide import (
    AlertStream,
    LastAlert,
    Region,
    alert_id,
    decide,
    last_alert,
)
from mmbroker.schemas.events import ScoredGalaxy


def said(galaxy: ScoredGalaxy, stream: AlertStream) -> LastAlert:
    return LastAlert(
        alert_id(galaxy, stream, "INITIAL"),
        galaxy.version,
        True,
        galaxy.redshift.best,
        galaxy.probability,
        galaxy.hyperscore,
    )


def test_a_galaxy_that_passes_makes_an_initial_alert_that_says_why(scored: ScoredGalaxy) -> None:
    stream = AlertStream("s", minimum_probability=scored.probability - 0.01)
    decision = decide(scored, stream, None)
    assert decision is not None
    assert decision.alert_type == "INITIAL"
    assert decision.reasons[0].startswith(f"probability {scored.probability:.4g} is at least")


def test_an_insignificant_change_makes_no_alert(scored: ScoredGalaxy) -> None:
    stream = AlertStream("s")
    nearly = dataclasses.replace(scored, version=9, probability=scored.probability + 0.01)
    assert decide(nearly, stream, said(scored, stream)) is None


def test_a_significant_change_makes_an_update(scored: ScoredGalaxy) -> None:
    stream = AlertStream("s")
    changed = dataclasses.replace(scored, version=9, hyperscore=scored.hyperscore + 6)
    decision = decide(changed, stream, said(scored, stream))
    assert decision is not None
    assert (decision.alert_type, len(decision.reasons)) == ("UPDATE", 1)


def test_a_galaxy_that_ceases_to_pass_is_retracted_once(scored: ScoredGalaxy) -> None:
    stream = AlertStream("s", minimum_probability=0.0)
    gone = dataclasses.replace(scored, version=9, probability=-1.0)
    last = said(scored, stream)
    decision = decide(gone, stream, last)
    assert decision is not None
    assert decision.alert_type == "RETRACTION"
    assert "is below" in decision.reasons[0]
    assert decide(gone, stream, dataclasses.replace(last, active=False)) is None


def test_a_galaxy_without_observations_passes_nothing(scored: ScoredGalaxy) -> None:
    nothing = dataclasses.replace(scored.provenance, observation_count=0)
    emptied = dataclasses.replace(scored, version=9, provenance=nothing)
    stream = AlertStream("s")
    assert decide(emptied, stream, None) is None
    decision = decide(emptied, stream, said(scored, stream))
    assert decision is not None
    assert (decision.alert_type, decision.reasons) == ("RETRACTION", ["no observation remains"])


def test_limits_on_redshift_flux_and_region(scored: ScoredGalaxy) -> None:
    z = scored.redshift.best
    ra, dec = scored.right_ascension_deg, scored.declination_deg
    passing = [
        AlertStream("s", minimum_redshift=z - 0.1, maximum_redshift=z + 0.1),
        AlertStream("s", region=Region(ra, dec + 0.5, 0.6)),
        AlertStream("s", minimum_hyperscore=scored.hyperscore),
    ]
    failing = [
        AlertStream("s", maximum_redshift=z - 0.1),
        AlertStream("s", region=Region(ra, dec + 0.5, 0.4)),
        AlertStream("s", minimum_flux_density_jy=1e9),
        AlertStream("s", include_simulated=False),
    ]
    simulated = dataclasses.replace(scored, simulated=True)
    assert all(decide(simulated, stream, None) for stream in passing)
    assert not any(decide(simulated, stream, None) for stream in failing)


def test_an_alert_id_is_the_same_for_a_repeat_and_differs_for_all_else(
    scored: ScoredGalaxy,
) -> None:
    stream = AlertStream("s")
    again = dataclasses.replace(scored, rank=scored.rank + 1)
    assert alert_id(scored, stream, "INITIAL") == alert_id(again, stream, "INITIAL")
    others = {
        alert_id(scored, stream, "UPDATE"),
        alert_id(scored, AlertStream("t"), "INITIAL"),
        alert_id(dataclasses.replace(scored, version=99), stream, "INITIAL"),
    }
    assert len(others | {alert_id(scored, stream, "INITIAL")}) == 4


def test_a_galaxy_without_a_redshift_is_in_no_stream(scored: ScoredGalaxy) -> None:
    stream = AlertStream("s")  # without any limit
    why = "no redshift yet: no line of its spectrum was identified"
    without = dataclasses.replace(
        scored, version=9, redshift=None, probability=None, redshift_reason=why
    )
    assert decide(without, stream, None) is None
    decision = decide(without, stream, said(scored, stream))
    assert decision is not None
    assert (decision.alert_type, decision.reasons) == ("RETRACTION", [why])
    kept = last_alert(without, stream, decision)
    assert (kept.active, kept.redshift, kept.probability) == (False, 0.0, 0.0)
    again = dataclasses.replace(scored, version=10)
    back = decide(again, stream, kept)
    assert back is not None
    assert back.alert_type == "INITIAL"
