"""How a score came about, in words and numbers; and the same score made again."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from models.refined import REFINED_ROLE
from processors.features.observed import FREQUENCIES_HZ, WIDEST_CHANNEL_KM_S
from processors.fingerprint import MAX_PARSED
from processors.scoring import fingerprint_hash
from schemas.codec import Codec
from schemas.events import (
    Fingerprint,
    ParsedObservation,
    RecoveredLines,
    RedshiftPosterior,
    ScoredGalaxy,
)
from schemas.records import to_rows

from .build_fingerprints import NotArchivedError, archived_observations, rebuild
from .parsing import parsed_again
from .registry import make_codec
from .score_galaxies import ScoreGalaxies
from .scorer import Scorers, make_critic, make_refined
from .serving import version_that_scored, versions_that_refined
from .settings import Settings, SettingsError
from .store import Reading, Store, open_store
from .subscribe import read

PROVENANCE_SHOWN = 5
CANDIDATES_SHOWN = 2


@dataclass(frozen=True)
class Comparison:
    """One comparison of what was published with what was made again.

    Attributes:
        subject: what was compared.
        same: whether it is the same, bit for bit.
        detail: the hash, or where it differs.
    """

    subject: str
    same: bool
    detail: str


def published(settings: Settings, galaxy_id: str) -> ScoredGalaxy:
    """The newest published score of a galaxy, read from Kafka.

    Raises:
        SettingsError: there is none.
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
    """Make a galaxy's fingerprint and score again from the archived observations and compare.

    The critic is asked in the version that the score came from, as long as Triton serves it; so are
    the networks of the refined redshift, if it was asked for one, whether it would be now or not.

    Raises:
        SettingsError: the galaxy is unknown.
        InfrastructureError: Kafka, the schema registry, Triton or the store is away.
    """
    codec = make_codec(settings)
    store = open_store(settings)
    try:
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
                # Stored by an earlier version of mmbroker, the same may stand there in other bytes.
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
        yield _compare_scores(score, _scored_again(settings, store, codec, score, again))
    finally:
        store.close()


def _rebuilt(
    settings: Settings, reading: Reading, codec: Codec, encoded: bytes
) -> tuple[bytes, list[str]]:
    """The galaxy's fingerprint from its archived observations, under the version it stands at.

    Returns:
        That, and the parsers whose feature trees it has as they were, for they are not served.
    """
    stored = codec.decode_as(Fingerprint, encoded)
    observations = [tree.observation_id for tree in stored.parsed]
    again = parsed_again(
        settings, stored.parsed, archived_observations(reading, codec, observations)
    )
    rebuilt = rebuild(reading, codec, dataclasses.replace(stored, parsed=again.trees))
    return codec.encode(dataclasses.replace(rebuilt, version=stored.version)), again.gone


def _scored_again(
    settings: Settings, store: Store, codec: Codec, score: ScoredGalaxy, encoded: bytes
) -> ScoredGalaxy:
    """The score of a fingerprint by the models that made a score, as far as they are served."""
    critic = make_critic(settings)
    version = None
    if critic is not None and score.provenance.model_hash:
        provenance = score.provenance
        version = version_that_scored(critic, provenance.model_hash, provenance.calibration_id)
    scorers = Scorers(settings)
    refined = refined_versions = None
    if _refined_by(score):
        refined = make_refined(settings, scorers.redshift)
        refined_versions = versions_that_refined(refined, score.models)
    if refined_versions is None:
        refined = None
    stage = ScoreGalaxies(store, settings.topics, codec, scorers, critic, refined)
    fingerprint = codec.decode_as(Fingerprint, encoded)
    return stage.score([(fingerprint, encoded)], version, refined_versions)[0]


def _refined_by(score: ScoredGalaxy) -> list[str]:
    """Hashes of the models that were asked for its refined redshift."""
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
        there = {each.sha256 for each in again.models} | {"", again.provenance.model_hash}
        asked = [score.provenance.model_hash, *_refined_by(score)]
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


def explain(galaxy: ScoredGalaxy) -> RenderableType:
    """A page on one scored galaxy."""
    return Group(
        _heading(galaxy),
        _redshift(galaxy),
        _features(galaxy),
        *(_parsed(each) for each in galaxy.parsed),
        *_unread(galaxy),
        *([] if galaxy.recovered_lines is None else [_recovered(galaxy.recovered_lines)]),
        _value(galaxy),
        _origin(galaxy),
    )


def _heading(galaxy: ScoredGalaxy) -> Text:
    lines = Text()
    lines.append(f"{galaxy.galaxy_id}", style="bold")
    lines.append(
        f"  version {galaxy.version}, "
        f"rank {galaxy.rank} of {galaxy.ranked_galaxies} by probability when it was scored\n"
        f"ICRS {galaxy.right_ascension_deg:.6f} {galaxy.declination_deg:+.6f} "
        f"± {galaxy.position_error_arcsec:.2g} arcsec\n"
    )
    if galaxy.simulated:
        lines.append("contains SIMULATED observations\n", style="yellow")
    if galaxy.ambiguous:
        others = ", ".join(galaxy.candidates)
        lines.append(f"ambiguous: may be confused with {others}\n", style="yellow")
    return lines


def _redshift(galaxy: ScoredGalaxy) -> RenderableType:
    posterior = galaxy.redshift
    table = Table(title="lines that fit", title_justify="left")
    for name in ("redshift", "probability", "lines"):
        table.add_column(name, justify="left" if name == "lines" else "right")
    for mode in posterior.identifications:
        pairs = zip(mode.lines, mode.observed_frequencies_hz, strict=True)
        lines = ", ".join(f"{line} at {frequency / 1e9:.2f} GHz" for line, frequency in pairs)
        table.add_row(f"{mode.redshift:.4f}", f"{mode.probability:.3f}", Text(lines or "no line"))
    text = Text(
        f"{_intervals(posterior)}\n"
        f"from {', '.join(posterior.inputs) or 'nothing'}; right within 0.05 (1 + z) "
        f"with probability {galaxy.probability:.3f}\n"
    )
    refined = galaxy.refined_redshift
    if refined is not None:
        text.append(f"refined, not in force: {_intervals(refined)}\n")
        text.append(f"from {', '.join(refined.inputs)}\n")
    elif galaxy.refined_redshift_reason:
        text.append(f"refined: none, it would be {galaxy.refined_redshift_reason}\n")
    return Group(text, table if posterior.identifications else Text("no line identified\n"))


def _intervals(posterior: RedshiftPosterior) -> str:
    return (
        f"z = {posterior.best:.4f}   68 % in [{posterior.interval_68.lower:.4f}, "
        f"{posterior.interval_68.upper:.4f}]   95 % in [{posterior.interval_95.lower:.4f}, "
        f"{posterior.interval_95.upper:.4f}]"
    )


def _features(galaxy: ScoredGalaxy) -> RenderableType:
    table = Table(title="features", title_justify="left")
    for name in ("kind", "name", "GHz", "mJy", "Jy km/s", "km/s", "S/N"):
        table.add_column(name, justify="left" if name in ("kind", "name") else "right")
    # Lines by their significance, as they are; then the continuum as a spectrum is read.
    lines = [each for each in galaxy.features if each.kind == "line"]
    others = [each for each in galaxy.features if each.kind != "line"]
    for feature in [*lines, *sorted(others, key=lambda each: each.frequency_hz or 0.0)]:
        table.add_row(
            feature.kind,
            Text(feature.name),
            _number(feature.frequency_hz, 1e-9),
            _number(feature.flux_density_jy, 1e3),
            _number(feature.line_flux_jy_km_s),
            _number(feature.line_width_km_s),
            _number(feature.signal_to_noise),
        )
    return table if galaxy.features else Text("no significant feature\n")


def _parsed(tree: ParsedObservation) -> RenderableType:
    """What the parser read off one spectrum or map."""
    if tree.morphology is not None:
        components = len(tree.morphology.components)
        probability = float(tree.morphology.probabilities.max())
        return Text(
            f"{tree.observation_id}: {tree.morphology.name} ({probability:.2f}), "
            f"{components} component{'' if components == 1 else 's'}, by {_model(tree.model)}\n"
        )
    table = Table(
        title=f"{tree.observation_id} as read by {_model(tree.model)}", title_justify="left"
    )
    for name in ("GHz", "km/s", "Jy km/s", "probability", "shape", "may be"):
        table.add_column(name, justify="left" if name in ("shape", "may be") else "right")
    for line in tree.lines:
        candidates = ", ".join(
            f"{each.name} at {each.redshift:.3f} ({each.probability:.2f})"
            for each in line.identifications[:CANDIDATES_SHOWN]
        )
        table.add_row(
            f"{line.frequency_hz / 1e9:.3f} ± {line.frequency_error_hz / 1e9:.3f}",
            f"{line.width_km_s:.0f} ± {line.width_error_km_s:.0f}",
            f"{line.flux_jy_km_s:.2f} ± {line.flux_error_jy_km_s:.2f}",
            f"{line.probability:.2f}",
            line.shape,
            Text(candidates),
        )
    return table if tree.lines else Text(f"{tree.observation_id}: no line found\n")


def _unread(galaxy: ScoredGalaxy) -> list[RenderableType]:
    """Why no spectrum has a feature tree, if there is one."""
    read = any(tree.morphology is None for tree in galaxy.parsed)
    if read or "lines" not in galaxy.redshift.inputs:
        return []
    low, high = (round(edge / 1e9) for edge in FREQUENCIES_HZ)
    return [
        Text(
            f"no spectrum was read by a parser: it reads those that lie within {low} to {high} GHz "
            f"and have eight channels or more, of up to {WIDEST_CHANNEL_KM_S:.0f} km/s, as they "
            f"come in; trees of the newest {MAX_PARSED} observations are kept\n"
        )
    ]


def _recovered(recovered: RecoveredLines) -> RenderableType:
    """Lines from all that is known, measured or not."""
    table = Table(title=f"lines as recovered by {_model(recovered.model)}", title_justify="left")
    for name in ("line", "log L' / K km/s pc²", "68 %", "Jy km/s"):
        table.add_column(name, justify="left" if name == "line" else "right")
    columns = (recovered.log_luminosity, recovered.half_width_68, recovered.flux_jy_km_s)
    for name, luminosity, half_width, flux in zip(recovered.lines, *columns, strict=True):
        table.add_row(Text(name), f"{luminosity:.2f}", f"± {half_width:.2f}", f"{flux:.3g}")
    return table


def _model(label: str) -> str:
    """Name and version of a model, without its hash."""
    return " ".join(label.split()[:2])


def _number(value: float | None, factor: float = 1.0) -> str:
    if value is None:
        return ""
    scaled = value * factor
    return f"{scaled:,.0f}" if abs(scaled) >= 1e4 else f"{scaled:.4g}"


def _value(galaxy: ScoredGalaxy) -> RenderableType:
    table = Table(title="evaluations", title_justify="left")
    for name in ("evaluation", "score", "weight", "what it rests on"):
        table.add_column(name, justify="right" if name in ("score", "weight") else "left")
    for each in galaxy.evaluations:
        evidence = ", ".join(f"{name} {value:.3g}" for name, value in each.evidence.items())
        absent = each.score is None
        reason = each.reason.removeprefix("absent: ")
        table.add_row(
            each.name,
            "absent" if absent else f"{each.score:.3f}",
            "" if absent else f"{each.weight:.2f}",
            Text(f"{reason}: {evidence}" if evidence else reason),
        )
    critic = galaxy.critic
    said = (
        f"absent ({critic.reason})"
        if critic.genuine_probability is None
        else f"{critic.genuine_probability:.3f} (output {critic.output:.4g})"
    )
    text = Text(
        f"critic: real galaxy with probability {said}\n"
        f"V = weighted mean of the scores present × critic = {galaxy.value:.4f}\n"
        f"HyperScore ({galaxy.hyperscore_form}) = {galaxy.hyperscore:.2f}\n"
    )
    return Group(table, text)


def _models(galaxy: ScoredGalaxy) -> Iterator[tuple[str, str]]:
    """What made what; a galaxy that was scored before models were listed names its critic alone."""
    for each in galaxy.models:
        yield each.role, f"{each.name} {each.version}: {each.sha256}"
    if not any(each.role == "critic" for each in galaxy.models):
        yield "critic", galaxy.provenance.model_hash or "none"


def _origin(galaxy: ScoredGalaxy) -> Table:
    provenance = galaxy.provenance
    table = Table(title="provenance", title_justify="left", box=None, show_header=False)
    table.pad_edge = False
    for name, value in (
        ("observations", f"{provenance.observation_count}, digest {provenance.observation_digest}"),
        ("fingerprint", f"{provenance.fingerprint_hash}, schema {provenance.schema_id}"),
        *_models(galaxy),
        ("calibration", provenance.calibration_id),
        ("scorer", f"{provenance.scorer_hash}, code {provenance.code_version}"),
    ):
        table.add_row(name, Text(value, overflow="fold"))
    shown = provenance.recent_sources[-PROVENANCE_SHOWN:]
    newest = f", newest {len(shown)}" if len(shown) < provenance.observation_count else ""
    for source in shown:
        place = f"{source.topic}/{source.partition}/{source.offset}"
        text = Text(f"{place}: {source.observation_id}", overflow="fold")
        table.add_row(f"read from{newest}", text)
    return table
