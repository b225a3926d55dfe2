"""Makes a galaxy's fingerprint and score again from its observations, and compares bit by bit."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

from mmbroker.models.packaged.refined import REFINED_ROLE
from mmbroker.models.serving import triton
from mmbroker.models.serving.critic import CriticClient
from mmbroker.models.serving.parsers import MapParserClient, SpectrumParserClient
from mmbroker.models.serving.refined import RefinedRedshiftClient
from mmbroker.models.serving.triton import Model
from mmbroker.processors.evaluations import EVALUATIONS, Evaluation
from mmbroker.processors.scoring.score import fingerprint_hash
from mmbroker.schemas.codec import Codec
from mmbroker.schemas.events import (
    Fingerprint,
    ModelUsed,
    Observation,
    ParsedObservation,
    ScoredGalaxy,
)
from mmbroker.schemas.records import to_rows
from mmbroker.streams.kafka.registry import make_codec
from mmbroker.streams.settings import Settings, SettingsError
from mmbroker.streams.stages.archive import NotArchivedError, archived_observations, rebuild
from mmbroker.streams.stages.clients import (
    make_critic,
    make_evaluation_models,
    make_parser,
    make_refined,
)
from mmbroker.streams.stages.evaluating import ROLE
from mmbroker.streams.stages.score_galaxies import ScoreGalaxies
from mmbroker.streams.stages.scorers import Scorers
from mmbroker.streams.store import Reading, Store, read_store
from mmbroker.streams.subscribing.read import read


@dataclass(frozen=True)
class Comparison:
    """The comparison of something published with the same thing made again.

    Attributes:
        subject: what was compared.
        same: whether it is the same, bit for bit.
        detail: the hash, or what differs.
    """

    subject: str
    same: bool
    detail: str


def published(settings: Settings, galaxy_id: str) -> ScoredGalaxy:
    """The newest published score of a galaxy, read from Kafka.

    Raises:
        SettingsError: no score of the galaxy was published.
        KafkaUnavailableError: Kafka cannot be reached.
    """
    found: ScoredGalaxy | None = None
    for each in read(settings, "scored", until_end=True, key=galaxy_id.encode()):
        galaxy = each.galaxy
        if galaxy is not None and (found is None or galaxy.version >= found.version):
            found = galaxy
    if found is None:
        raise SettingsError(
            f"no score of galaxy {galaxy_id!r} was published; mmbroker top lists galaxies"
        )
    return found


def verify(settings: Settings, galaxy_id: str) -> Iterator[Comparison]:
    """Make a galaxy's fingerprint and score again from its archived observations, and compare.

    The models are asked in the versions that made the score, as long as Triton serves them. The
    refined redshift is made again if it was asked for then, even if the settings switch it off now.

    Yields:
        One comparison after another.

    Raises:
        SettingsError: the galaxy is unknown.
        InfrastructureError: Kafka, the schema registry, Triton or the store is away.
        ModelUnavailable: Triton does not answer.
    """
    codec = make_codec(settings)
    with closing(read_store(settings)) as store:
        with store.reading() as reading:
            encoded = reading.fingerprint(galaxy_id)
            if encoded is None:
                raise SettingsError(f"the store knows no galaxy {galaxy_id!r}")
            try:
                again, gone = _rebuilt(settings, reading, codec, encoded)
            except NotArchivedError as error:
                yield Comparison("fingerprint", False, str(error))
                again = encoded
            else:
                # An earlier version of mmbroker may have stored the same content in other bytes.
                if again == codec.encode(codec.decode_as(Fingerprint, encoded)):
                    again = encoded
                yield _compare_fingerprints(encoded, again)
                if gone:
                    yield Comparison("feature trees", False, _not_served(gone))
        score = published(settings, galaxy_id)
        if score.provenance.fingerprint_hash != fingerprint_hash(encoded):
            detail = f"version {score.version} was scored and the store has moved on"
            yield Comparison("score", False, detail)
            return
        yield verify_score(settings, store, codec, score, again)


def verify_score(
    settings: Settings,
    store: Store,
    codec: Codec,
    score: ScoredGalaxy,
    encoded: bytes,
    evaluations: Sequence[Evaluation] = EVALUATIONS,
) -> Comparison:
    """Make a score again from its fingerprint, and compare.

    Args:
        settings: say where Triton is.
        store: says which versions of models are in force, for those that Triton serves no more.
        codec: events to bytes and back.
        score: the score.
        encoded: the fingerprint.
        evaluations: the evaluations of which the score consists.

    Raises:
        InfrastructureError: Triton does not answer.
        ModelUnavailable: Triton does not answer.
    """
    again = _scored_again(settings, store, codec, score, encoded, evaluations)
    return _compare_scores(score, again)


def _rebuilt(
    settings: Settings, reading: Reading, codec: Codec, encoded: bytes
) -> tuple[bytes, list[str]]:
    """Make a galaxy's fingerprint again from its archived observations, with the same version.

    Returns:
        The encoded fingerprint, and the labels of parsers that Triton does not serve any more. The
        feature trees by these parsers were not made again and are as they were.
    """
    stored = codec.decode_as(Fingerprint, encoded)
    observations = [tree.observation_id for tree in stored.parsed]
    again = parsed_again(
        settings, stored.parsed, archived_observations(reading, codec, observations)
    )
    rebuilt = rebuild(reading, codec, dataclasses.replace(stored, parsed=again.trees))
    return codec.encode(dataclasses.replace(rebuilt, version=stored.version)), again.gone


def _scored_again(
    settings: Settings,
    store: Store,
    codec: Codec,
    score: ScoredGalaxy,
    encoded: bytes,
    evaluations: Sequence[Evaluation],
) -> ScoredGalaxy:
    """Score a fingerprint with the models that made a score, as far as Triton serves them."""
    critic = make_critic(settings)
    version = None
    if critic is not None and score.provenance.model_hash:
        provenance = score.provenance
        version = version_that_scored(critic, provenance.model_hash, provenance.calibration_id)
    scorers = Scorers(settings, evaluations)
    refined = refined_versions = None
    if _refined_by(score):
        refined = make_refined(settings, scorers.redshift)
        refined_versions = versions_that_refined(refined, score.models)
    if refined_versions is None:
        refined = None
    models = make_evaluation_models(settings, scorers.evaluations)
    stage = ScoreGalaxies(store, settings.topics, codec, scorers, critic, refined, models)
    fingerprint = codec.decode_as(Fingerprint, encoded)
    answered = versions_that_answered(models, score.models)
    return stage.score([(fingerprint, encoded)], version, refined_versions, answered)[0]


def _refined_by(score: ScoredGalaxy) -> list[str]:
    """SHA-256 of the networks that were asked for the refined redshift of a score."""
    return [each.sha256 for each in score.models if each.role == REFINED_ROLE]


def _not_served(gone: list[str]) -> str:
    return (
        f"those by {', '.join(gone)} are as they were and cannot be made again: Triton does not "
        "serve it any more (mmbroker models list)"
    )


def _compare_fingerprints(stored: bytes, again: bytes) -> Comparison:
    same = stored == again
    detail = f"hash {fingerprint_hash(stored)}"
    if not same:
        detail += f", made again it is {fingerprint_hash(again)}"
    return Comparison("fingerprint", same, detail)


_RANKS = ("rank", "ranked_galaxies")


def _compare_scores(score: ScoredGalaxy, again: ScoredGalaxy) -> Comparison:
    """Compare everything but the ranks, which depend on the other galaxies."""
    if again.provenance.scorer_hash != score.provenance.scorer_hash:
        code = again.provenance.code_version
        if score.provenance.code_version != code:
            detail = (
                f"it was scored by code {score.provenance.code_version or 'unknown'}, and this is "
                f"{code}: have it scored again (mmbroker rescore), or verify with what was"
            )
            return Comparison("score", False, detail)
        there = {each.sha256 for each in again.models} | {"", again.provenance.model_hash}
        answered = [each.sha256 for each in score.models if each.role.startswith(ROLE)]
        asked = dict.fromkeys([score.provenance.model_hash, *_refined_by(score), *answered])
        gone = "".join(f" (model {each} is not)" for each in asked if each not in there)
        detail = (
            f"it was scored by {score.provenance.scorer_hash} and {again.provenance.scorer_hash} "
            f"is there{gone}: have it scored again (mmbroker rescore), or verify with what was"
        )
        return Comparison("score", False, detail)
    before, after = to_rows(score), to_rows(again)
    different = [
        name for name, value in before.items() if value != after[name] and name not in _RANKS
    ]
    detail = f"scorer {score.provenance.scorer_hash}"
    if different:
        detail = "different: " + ", ".join(
            f"{name} was {_short(before[name])}, is {_short(after[name])}" for name in different
        )
    return Comparison("score", not different, detail)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


@dataclass(frozen=True)
class Again:
    """The result of making feature trees again.

    Attributes:
        trees: the trees; a tree that cannot be made again is the old one.
        gone: the labels of parsers that Triton does not serve any more.
    """

    trees: list[ParsedObservation]
    gone: list[str]


def parsed_again(
    settings: Settings,
    trees: Sequence[ParsedObservation],
    observations: Sequence[Observation],
) -> Again:
    """Make feature trees again, each with the version of the parser that made it.

    Args:
        settings: say where Triton is.
        trees: the old trees.
        observations: their observations, in the same order.

    Raises:
        ModelUnavailable: Triton does not answer.
    """
    made: list[ParsedObservation] = []
    gone: set[str] = set()
    served = triton.served(**settings.triton.control()) if trees else []
    for tree, observation in zip(trees, observations, strict=True):
        name, number, _ = tree.model.split(" ")
        kind = SpectrumParserClient if tree.morphology is None else MapParserClient
        with make_parser(settings, kind, name) as parser:
            version = int(number)
            if (
                name not in served
                or version not in parser.versions()
                or parser.label(version) != tree.model
            ):
                gone.add(tree.model)
                made.append(tree)
                continue
            made += [each for each in parser.parse([observation], version) if each is not None]
    return Again(made, sorted(gone))


def version_that_scored(critic: CriticClient, model_hash: str, calibration_id: str) -> int | None:
    """The version of the critic that made a score; None if Triton does not serve it any more.

    Args:
        critic: the client of the critic.
        model_hash: ``provenance.model_hash`` of the score.
        calibration_id: ``provenance.calibration_id`` of the score, which ends with the id of the
            critic's calibration.

    Raises:
        ModelUnavailable: Triton does not answer.
    """
    versions = [critic.version(number) for number in critic.versions()]
    fits = [each for each in versions if each.sha256 == model_hash]
    fits.sort(key=lambda each: calibration_id.endswith(f"+{each.calibration_id}"))
    return fits[-1].number if fits else None


def versions_that_refined(
    refined: RefinedRedshiftClient, models: Sequence[ModelUsed]
) -> list[int] | None:
    """The versions of the networks that made a refined redshift.

    Args:
        refined: the client of the refined redshift.
        models: ``models`` of the scored galaxy.

    Returns:
        The versions, in the order of ``refined.networks``; None if Triton does not serve all of
        them any more.

    Raises:
        ModelUnavailable: Triton does not answer.
    """
    wanted = [each for each in models if each.role == REFINED_ROLE]
    numbers = {each.name: int(each.version) for each in wanted}
    found = [numbers.get(network.model, 0) for network in refined.networks]
    for network, number in zip(refined.networks, found, strict=True):
        if number not in network.versions():
            return None
    return found if refined.used(found) == wanted else None


def versions_that_answered(
    models: Mapping[str, Model], used: Sequence[ModelUsed]
) -> dict[str, int]:
    """The versions of the models that answered the evaluations of a score, as far as served.

    Args:
        models: the models that the evaluations ask, by name.
        used: ``models`` of the scored galaxy.

    Returns:
        The versions by name of the model, without those that Triton does not serve any more, or
        that are another network now.

    Raises:
        ModelUnavailable: Triton does not answer.
    """
    found = {}
    for each in used:
        if each.role.startswith(ROLE) and each.name in models:
            model, number = models[each.name], int(each.version)
            if number in model.versions() and model.version(number).sha256 == each.sha256:
                found[each.name] = number
    return found
