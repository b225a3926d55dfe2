"""Shows how a score came about, in words and numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from mmbroker.processors.features.inputs import FREQUENCIES_HZ, WIDEST_CHANNEL_KM_S
from mmbroker.processors.fingerprint.merge import MAX_PARSED
from mmbroker.schemas.codec import Codec
from mmbroker.schemas.events import (
    ParsedObservation,
    RecoveredLines,
    RedshiftPosterior,
    RedshiftReliability,
    ScoredGalaxy,
)

MODES_SHOWN = 5
PROVENANCE_SHOWN = 5
CANDIDATES_SHOWN = 2
HASH_SHOWN = 16

REASONS_SHOWN = 3
WORTH_SAYING = 0.2
"""Terms of the ln of the odds that are smaller are not told in words."""

WORDS = {
    "posterior mass": ("its posterior is narrow", "its posterior is wide"),
    "published disagreement": (
        "published redshifts agree with each other",
        "published redshifts disagree with each other",
    ),
    "published width": ("published intervals are narrow", "published intervals are wide"),
    "mass by continuum": ("dust and radio agree with it", "dust and radio disagree with it"),
    "mass by templates": ("the colours agree with it", "the colours disagree with it"),
    "magnitude at 2.2 um": ("of its brightness at 2.2 um", "of its brightness at 2.2 um"),
    "1 + z": ("of its redshift", "of its redshift"),
    "bands": ("of how many bands it has", "of how many bands it has"),
    "S/N at 24 um": ("of its S/N at 24 um", "of its S/N at 24 um"),
    "far-infrared S/N": ("of its far-infrared S/N", "of its far-infrared S/N"),
    "radio S/N": ("of its radio S/N", "of its radio S/N"),
}
"""What is said of each thing that was looked at where it makes the probability higher, or lower."""


def explain(galaxy: ScoredGalaxy, codec: Codec | None = None) -> RenderableType:
    """A page about one scored galaxy, for the terminal.

    Args:
        galaxy: the galaxy.
        codec: knows the schemas by their ids; by default one with those of the manifest.
    """
    return Group(
        _heading(galaxy),
        _redshift(galaxy),
        _features(galaxy),
        *(_parsed(each) for each in galaxy.parsed),
        *_unread(galaxy),
        *([] if galaxy.recovered_lines is None else [_recovered(galaxy.recovered_lines)]),
        _value(galaxy),
        _origin(galaxy, codec or Codec()),
    )


def _heading(galaxy: ScoredGalaxy) -> Text:
    lines = Text()
    lines.append(f"{galaxy.galaxy_id}", style="bold")
    rank = (
        f"rank {galaxy.rank} of {galaxy.ranked_galaxies} by probability when it was scored"
        if galaxy.rank
        else "not ranked"
    )
    lines.append(
        f"  version {galaxy.version}, {rank}\n"
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
    posterior, probability = galaxy.redshift, galaxy.probability
    if posterior is None or probability is None:
        return Text(f"{galaxy.redshift_reason}\n", style="yellow")
    parts: list[RenderableType] = []
    text = Text(
        f"{_intervals(posterior)}\n"
        f"from {', '.join(posterior.inputs) or 'nothing'}; right within 0.05 (1 + z) "
        f"with probability {probability:.3f}\n"
    )
    refined = galaxy.refined_redshift
    if refined is not None:
        text.append(f"refined, not in force: {_intervals(refined)}\n")
        text.append(f"from {', '.join(refined.inputs)}\n")
    elif galaxy.refined_redshift_reason:
        text.append(f"refined: none, it would be {galaxy.refined_redshift_reason}\n")
    parts.append(text)
    if len(posterior.modes) > 1:
        parts.append(_modes(posterior))
    if galaxy.reliability is not None:
        parts += _reliability(galaxy.reliability)
    parts.append(_identifications(posterior))
    return Group(*parts)


def _identifications(posterior: RedshiftPosterior) -> RenderableType:
    """The redshifts at which lines fall on features of the spectrum."""
    if not posterior.identifications:
        return Text("no line identified\n")
    table = Table(title="lines that fit", title_justify="left")
    for name in ("redshift", "probability", "lines"):
        table.add_column(name, justify="left" if name == "lines" else "right")
    for mode in posterior.identifications:
        pairs = zip(mode.lines, mode.observed_frequencies_hz, strict=True)
        lines = ", ".join(f"{line} at {frequency / 1e9:.2f} GHz" for line, frequency in pairs)
        table.add_row(f"{mode.redshift:.4f}", f"{mode.probability:.3f}", Text(lines or "no line"))
    return table


def _modes(posterior: RedshiftPosterior) -> RenderableType:
    """The modes of a posterior that has several."""
    pieces = ", ".join(
        f"[{one.lower:.3f}, {one.upper:.3f}]" for one in posterior.interval_68_pieces
    )
    table = Table(title="modes", title_justify="left")
    for name in ("redshift", "from", "to", "probability"):
        table.add_column(name, justify="right")
    for mode in posterior.modes[:MODES_SHOWN]:
        numbers = (mode.median, mode.lower, mode.upper, mode.probability)
        table.add_row(*(f"{number:.3f}" for number in numbers))
    return Group(Text(f"68 % of the probability in {pieces}\n"), table)


def _reliability(reliability: RedshiftReliability) -> list[RenderableType]:
    """What makes the probability high or low, in words and numbers."""
    terms = sorted(reliability.terms, key=lambda each: -abs(each.log_odds))
    known = [each for each in terms if each.value is not None]
    said = []
    for word, sign in (("higher", 1), ("lower", -1)):
        reasons = [
            WORDS.get(each.name, (f"its {each.name}",) * 2)[sign < 0]
            for each in known
            if sign * each.log_odds >= WORTH_SAYING
        ]
        if reasons:
            said.append(f"{word} since {', '.join(reasons[:REASONS_SHOWN])}")
    words = "; ".join(said) or "nothing makes it much higher or lower"
    table = Table(title=f"why: {reliability.kind}", title_justify="left")
    for name in ("what was looked at", "value", "odds"):
        table.add_column(name, justify="left" if name == "what was looked at" else "right")
    for each in terms:
        missing = "" if each is reliability.terms[0] else "not known"
        value = missing if each.value is None else f"{each.value:.4g}"
        table.add_row(Text(each.name), value, f"× {math.exp(each.log_odds):.2f}")
    return [Text(f"the probability is {words}\n"), table]


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
    # First the lines, which are sorted by significance, then the continuum by frequency.
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
    """What a parser found in one spectrum or map."""
    if tree.morphology is not None:
        components = len(tree.morphology.components)
        probability = float(tree.morphology.probabilities.max())
        return Text(
            f"{tree.observation_id}: {tree.morphology.name} ({probability:.2f}), "
            f"{components} component{'' if components == 1 else 's'}, by {_model(tree.model)}\n"
        )
    read = f"{tree.observation_id} as read by {_model(tree.model)}"
    if not tree.lines:
        return Text(f"{read}: no line found\n")
    table = Table(title=Text(read), title_justify="left")
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
    return table


def _unread(galaxy: ScoredGalaxy) -> list[RenderableType]:
    """Says why no spectrum has a feature tree; empty if one has, or if no lines were used."""
    read = any(tree.morphology is None for tree in galaxy.parsed)
    observed = any(each.kind == "line" for each in galaxy.features)
    if read or not (observed or (galaxy.redshift and "lines" in galaxy.redshift.inputs)):
        return []
    low, high = FREQUENCIES_HZ
    outside = ", ".join(
        f"{each.frequency_hz / 1e9:.4g} GHz"
        for each in galaxy.features
        if each.kind == "line"
        and each.frequency_hz is not None
        and not low <= each.frequency_hz <= high
    )
    limits = f"within {low / 1e9:.0f} to {high / 1e9:.0f} GHz"
    why = (
        f"a line at {outside} lies outside"
        if outside
        else "which of these a spectrum is not, its score does not say"
    )
    return [
        Text(
            f"no spectrum was read by a parser: it reads those that are wholly {limits}, with "
            f"eight channels or more, of up to {WIDEST_CHANNEL_KM_S:.0f} km/s, as they come in; "
            f"trees of the newest {MAX_PARSED} observations are kept; {why}\n"
        )
    ]


def _recovered(recovered: RecoveredLines) -> RenderableType:
    """The lines that a model estimates from all that is known, measured or not."""
    table = Table(
        title=Text(f"lines as recovered by {_model(recovered.model)}"), title_justify="left"
    )
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
        f"critic: looks like a real galaxy with probability {said}\n"
        f"V = weighted mean of the scores present × critic = {galaxy.value:.4f}\n"
        f"HyperScore ({galaxy.hyperscore_form}) = {galaxy.hyperscore:.2f}\n"
    )
    return Group(table, text)


def _short(sha256: str) -> str:
    """The beginning of a hash, as ``mmbroker check`` shows it; alerts have the whole."""
    return f"{sha256[:HASH_SHOWN]}..." if len(sha256) > HASH_SHOWN else sha256


def _models(galaxy: ScoredGalaxy) -> Iterator[tuple[str, str]]:
    """(role, name and hash) of the models; older scores list no models and name only the critic."""
    for each in galaxy.models:
        yield each.role, f"{each.name} {each.version}, {_short(each.sha256)}"
    if not any(each.role == "critic" for each in galaxy.models):
        yield "critic", _short(galaxy.provenance.model_hash or "none")


def _origin(galaxy: ScoredGalaxy, codec: Codec) -> Table:
    provenance = galaxy.provenance
    table = Table(title="provenance", title_justify="left", box=None, show_header=False)
    table.pad_edge = False
    for name, value in (
        ("observations", f"{provenance.observation_count}, digest {provenance.observation_digest}"),
        ("fingerprint", provenance.fingerprint_hash),
        ("schema", codec.described(provenance.schema_id)),
        *_models(galaxy),
        ("calibration", provenance.calibration_id),
        ("scorer", provenance.scorer_hash),
        ("code", provenance.code_version),
    ):
        table.add_row(name, Text(value, overflow="fold"))
    shown = provenance.recent_sources[-PROVENANCE_SHOWN:]
    newest = f", newest {len(shown)}" if len(shown) < provenance.observation_count else ""
    for source in shown:
        place = f"{source.topic}/{source.partition}/{source.offset}"
        text = Text(f"{place}: {source.observation_id}", overflow="fold")
        table.add_row(f"read from{newest}", text)
    return table
