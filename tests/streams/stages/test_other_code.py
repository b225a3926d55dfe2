"""Other code makes other scores under other names, and alerts follow."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmbroker.models.simulation.observations import simulate
from mmbroker.processors.alerts.decide import AlertStream
from mmbroker.processors.fingerprint.merge import build
from mmbroker.schemas.codec import Codec
from mmbroker.schemas.events import Alert, ScoredGalaxy
from mmbroker.streams.stages.messages import Received
from mmbroker.streams.stages.publish_alerts import PublishAlerts
from mmbroker.streams.store import LMDBStore
from mmbroker.streams.topics import Topics
from tests.code_copies import copy_package, run_in

SCORE = """
import sys
from pathlib import Path
from mmbroker.schemas.codec import Codec
from mmbroker.schemas.events import Fingerprint
from mmbroker.streams.settings import Settings
from mmbroker.streams.stages.scorers import Scorers
from mmbroker.streams.stages.score_galaxies import ScoreGalaxies
from mmbroker.streams.store import LMDBStore
from mmbroker.streams.topics import Topics

read, written, store = map(Path, sys.argv[1:])
codec, encoded = Codec(), read.read_bytes()
stage = ScoreGalaxies(LMDBStore(store), Topics(), codec, Scorers(Settings()), critic=None)
(galaxy,) = stage.score([(codec.decode_as(Fingerprint, encoded), encoded)])
written.write_bytes(codec.encode(galaxy))
"""
STREAM = AlertStream("any")
codec = Codec()


@pytest.fixture
def feed(tmp_path: Path) -> PublishAlerts:
    return PublishAlerts(LMDBStore(tmp_path / "store"), Topics(alert_streams=[STREAM]), codec)


def alerts(stage: PublishAlerts, offset: int, scored: bytes) -> list[Alert]:
    batch = [Received(stage.topics.scored, 0, offset, 0, scored, {})]
    (processed,) = stage.process(batch)
    processed.finish()
    return [codec.decode_as(Alert, each.value) for each in processed.messages]


@pytest.mark.slow
def test_other_code_has_new_ids_and_an_update_follows(tmp_path: Path, feed: PublishAlerts) -> None:
    observations = list(simulate(1, seed=5))
    (tmp_path / "fingerprint").write_bytes(codec.encode(build("mm-one", observations)))
    same = copy_package(tmp_path / "same")
    other = {"processors/scoring/hyperscore.py": ("KAPPA = 1.5", "KAPPA = 0.1")}
    changed = copy_package(tmp_path / "changed", other)

    def scored_by(copy: Path) -> bytes:
        written = tmp_path / "scored"
        run_in(copy, SCORE, tmp_path / "fingerprint", written, tmp_path / f"store of {copy.name}")
        return written.read_bytes()

    first, again, last = scored_by(same), scored_by(same), scored_by(changed)
    assert first == again
    one, two = (codec.decode_as(ScoredGalaxy, each) for each in (first, last))
    assert (one.galaxy_id, one.version) == (two.galaxy_id, two.version)
    assert one.hyperscore != two.hyperscore
    assert one.provenance.scorer_hash != two.provenance.scorer_hash
    assert one.provenance.code_version != two.provenance.code_version

    (initial,) = alerts(feed, 0, first)
    assert alerts(feed, 1, again) == []
    (update,) = alerts(feed, 2, last)
    assert (initial.alert_type, update.alert_type) == ("INITIAL", "UPDATE")
    assert update.alert_id != initial.alert_id
    assert update.supersedes == initial.alert_id
    assert update.galaxy.hyperscore == two.hyperscore
