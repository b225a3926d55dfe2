"""The page of the report on the parser."""

from __future__ import annotations

from typing import Any

from mmbroker.models.parser.judged.continuum_segments import GENERIC, MEDIAN, SEGMENTS
from mmbroker.models.parser.judged.line_purity import FEWEST_DETECTIONS
from mmbroker.models.simulation.line_profiles import SHAPE_SHARES, SHAPES
from mmbroker.processors.features import inputs
from mmbroker.processors.redshift.comb import EVIDENCE_WEIGHT
from mmbroker.schemas.wording import times

_BINS = ("3–4", "4–5", "5–6", "6–7", "7–8", "8–12", "12–25")


def page(numbers: dict[str, Any], real: bool) -> str:
    """The report as Markdown.

    Args:
        numbers: as in ``parser.json``.
        real: whether the real stacked spectra were looked at.
    """
    parts = [
        _head(numbers),
        _verdict(numbers),
        _limits(),
        _lines(numbers),
        _purity(numbers),
        _measurements(numbers),
        _shapes(numbers),
        _continuum(numbers),
    ]
    parts += [_redshift(numbers), _identifications(numbers), _maps(numbers), _real(real)]
    parts.append(_FINE_TUNING)
    return "\n\n".join(parts) + "\n"


def _head(numbers: dict[str, Any]) -> str:
    spectra = numbers["spectra"]
    return f"""# Parser: lines of spectra, morphology of maps

Asked: does a Transformer over patches of a spectrum find more lines than conventional finders, at
the same purity, and measure them well? **Everything that is counted here is simulated**:
{spectra["test"]} test spectra and their lines, after thresholds and calibrations were set on
{spectra["validation"]} others. The protocol is in `models/protocols/parser.md`.

{_openings(numbers)}

![completeness](parser_completeness.png)"""


def _openings(numbers: dict[str, Any]) -> str:
    openings = numbers["test_openings"]
    each = " and ".join(f"{times(count)} for {name}" for name, count in openings.items())
    return (
        f"The test part was opened {times(sum(openings.values()))} in all, {each}; version"
        f" {numbers['version']} is judged here. At its second opening figures were added to the"
        " page (purity by S/N, what specutils measures, continuum), at its third the errors of the"
        " continuum had been made larger, at its fourth the comb, with which redshifts are"
        " compared, had been made more cautious, both on other simulated spectra: nothing was"
        " chosen on the test part. What the former comb reached stands in"
        " `models/protocols/parser.md`."
    )


def _interval(three: list[float], digits: int = 3) -> str:
    middle, low, high = three
    return f"{middle:+.{digits}f} ({low:+.{digits}f} to {high:+.{digits}f})"


def _verdict(numbers: dict[str, Any]) -> str:
    """What the protocol asked for, and what came of it."""
    least = {
        group: min(
            (
                entry[key][1]
                for entry in numbers["lines"][group].values()
                for key in ("parser_minus_this", "at_this_purity")
                if key in entry
            ),
        )
        for group in ("all", "receiver", "ideal")
    }
    pulls = [
        value
        for each in numbers["measurements"]["parser"].values()
        for value in each["pulls"].values()
    ]
    redshift = numbers["redshift"]["all"]["parser's list"]
    rows = [
        (
            "completeness from S/N 4 to 8 above each baseline at the same purity, all regimes",
            f"lowest end of an interval {least['all']:+.3f}",
            least["all"] > 0,
        ),
        (
            "the same in *receiver*",
            f"lowest end of an interval {least['receiver']:+.3f}",
            least["receiver"] > 0,
        ),
        (
            "in *ideal* no loss beyond 3 %",
            f"lowest end of an interval {least['ideal']:+.3f}",
            least["ideal"] > -0.03,
        ),
        (
            "pulls between 0.9 and 1.1",
            f"{min(pulls):.2f} to {max(pulls):.2f}",
            min(pulls) >= 0.9 and max(pulls) <= 1.1,
        ),
        (
            "redshifts not worse than the comb's",
            f"share right {_interval(redshift['right_minus_comb'])}",
            redshift["right_minus_comb"][1] > -0.01,
        ),
    ]
    table = ["| condition | found | |", "|---|---|---|"]
    table += [
        f"| {what} | {found} | {'holds' if ok else '**fails**'} |" for what, found, ok in rows
    ]
    return "\n".join(table)


def _limits() -> str:
    """What the parser is not asked to read."""
    low, high = (each / 1e9 for each in inputs.FREQUENCIES_HZ)
    return f"""## Where it says nothing

A spectrum that reaches below {low:g} or above {high:g} GHz, has channels wider than
{inputs.WIDEST_CHANNEL_KM_S:g} km/s, or fewer than eight of them, gets no tree; nor does a map
that fills less than {100 * inputs.LEAST_OBSERVED:g} % of the network's square, has fewer than
{inputs.FEWEST_PIXELS_PER_BEAM:g} pixels across a beam, or no pixel above
{inputs.FAINTEST_PEAK:g} σ (`processors/features/inputs.py`). The networks were trained within
these limits alone, and what they would say beyond has not been judged: no tree is better than one
that means nothing. Nothing on this page holds there."""


def _lines(numbers: dict[str, Any]) -> str:
    rows = [
        "## Lines found",
        "",
        "Each method at its own threshold for 90 % purity on validation, set anew in each regime;"
        " 'all' has one threshold for all regimes. The last columns are the parser's completeness"
        " from S/N 4 to 8 minus the method's, paired, with its 95 % interval: at these thresholds,"
        " and with the parser's moved to the purity that the method has on the test part.",
        "",
        "| regime | method | purity (test) | " + " | ".join(_BINS) + " | 4–8 | parser minus this |"
        " at this purity |",
        "|---" * (len(_BINS) + 6) + "|",
    ]
    for group, methods in numbers["lines"].items():
        for name, entry in methods.items():
            cells = [group, name, f"{entry['purity']:.3f}"]
            cells += [f"{share:.2f}" for share in entry["completeness"]]
            cells.append(f"{entry['completeness_4_8']:.3f}")
            for key in ("parser_minus_this", "at_this_purity"):
                cells.append(_interval(entry[key]) if key in entry else "")
            rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def _purity(numbers: dict[str, Any]) -> str:
    purities = numbers["purity_by_ratio"]
    labels = list(next(iter(purities.values())))
    rows = [
        "## Purity by signal-to-noise ratio",
        "",
        "Test part, all regimes together, each method at its threshold for 90 % purity on"
        " validation. The ratio is the one that the method itself measured of what it found: flux"
        " over its error for the parser, which in white noise is a fifth lower than a filter's"
        " since the width has to be found as well; the filter's output for matched filters; the"
        " peak of the smoothed spectrum in units of its scatter for specutils. Share that is true,"
        " 95 % interval over spectra, and of how many; none where there are fewer than"
        f" {FEWEST_DETECTIONS}.",
        "",
        "| method | " + " | ".join(labels) + " |",
        "|---" * (len(labels) + 1) + "|",
    ]
    for name, bins in purities.items():
        rows.append(f"| {name} | " + " | ".join(_purity_cell(bins[key]) for key in labels) + " |")
    return "\n".join([*rows, "", "![purity](parser_purity.png)"])


def _purity_cell(entry: dict[str, Any]) -> str:
    if entry["detections"] < FEWEST_DETECTIONS:
        return "–"
    share, low, high = entry["purity"]
    return f"{share:.2f} ({low:.2f}–{high:.2f}) of {entry['detections']}"


def _measurements(numbers: dict[str, Any]) -> str:
    rows = [
        "## Lines measured",
        "",
        "Lines that the parser and the other method both find, all regimes. Pulls are (measured −"
        " true) / error, robust scatter; 1 is right. The parser's errors were scaled on validation;"
        " the filter's are those of a fit in white noise. The finders of specutils tell where a"
        " line is; it is measured by `specutils.fitting.fit_lines`, a Gaussian over ±800 km/s"
        " weighted by the stated errors, with the errors of the fit's covariance (astropy scales it"
        " by the scatter that is left). The last column is the parser on the same lines: velocity"
        " error, scatter of ln width and of ln flux.",
        "",
        "| method | S/N | lines | median abs. velocity error, km/s | ln width: bias ± scatter |"
        " ln flux: bias ± scatter | pulls: frequency, width, flux | parser on these |",
        "|---|---|---|---|---|---|---|---|",
    ]
    unmeasured = 0
    for name, bins in numbers["measurements"].items():
        for label, each in bins.items():
            pulls = ", ".join(f"{value:.2f}" for value in each["pulls"].values())
            unmeasured += each.get("unmeasured", 0)
            rows.append(
                f"| {name} | {label} | {each['lines']} | {_measured(each)} | {pulls} | "
                f"{_on_these(each.get('parser_on_these'))} |"
            )
    if unmeasured:
        rows += ["", f"{unmeasured} fits came to nothing; they are left out."]
    rows += ["", "![pulls](parser_pulls.png)", "", "![examples](parser_examples.png)"]
    return "\n".join(rows)


def _measured(each: dict[str, Any]) -> str:
    return (
        f"{each['median_velocity_error_km_s']:.1f} | "
        f"{each['width_bias']:+.2f} ± {each['width_scatter']:.2f} | "
        f"{each['flux_bias']:+.2f} ± {each['flux_scatter']:.2f}"
    )


def _on_these(each: dict[str, Any] | None) -> str:
    if each is None:
        return ""
    return (
        f"{each['median_velocity_error_km_s']:.1f}, {each['width_scatter']:.2f}, "
        f"{each['flux_scatter']:.2f}"
    )


def _table(table: list[list[int]], names: list[str]) -> list[str]:
    rows = ["| true \\ said | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for name, counts in zip(names, table, strict=True):
        rows.append(f"| {name} | " + " | ".join(str(count) for count in counts) + " |")
    return rows


def _shapes(numbers: dict[str, Any]) -> str:
    shapes = numbers["shapes"]
    rows = ["## Shapes", "", "Of found lines, S/N above 10:", ""]
    rows += _table(shapes["above_10"], shapes["names"])
    rows += ["", "S/N above 20:", "", *_table(shapes["above_20"], shapes["names"]), ""]
    rows += ["![confusion](parser_confusion.png)", "", _blends(shapes)]
    return "\n".join(rows)


def _blends(shapes: dict[str, Any]) -> str:
    """What becomes of lines that are two, and why."""
    gaussian, horned, blended = range(3)
    table = shapes["above_10"]
    said = table[blended]
    count = max(sum(said), 1)
    bright = shapes["above_20"][blended]
    return (
        f"Of {sum(said)} blends at S/N above 10 {said[blended] or 'none'} is called so: "
        f"{100 * said[gaussian] / count:.0f} % are called {SHAPES[gaussian]}, "
        f"{100 * said[horned] / count:.0f} % {SHAPES[horned]}. Of {sum(bright)} above 20 it is "
        f"{bright[blended] or 'none'}. A blend is two Gaussians that overlap. Of like heights they "
        "look as a double-horned line does, of unlike ones as a Gaussian with a wing; and with "
        f"{100 * SHAPE_SHARES[blended]:.0f} % of the simulated lines against "
        f"{100 * SHAPE_SHARES[horned]:.0f} and {100 * SHAPE_SHARES[gaussian]:.0f} % they are the "
        "rarest. A network that gives each shape its probability, trained with these shares, "
        "hardly ever finds a blend the most probable. Its probability stands in the tree; whether "
        "a line is two galaxies has to be asked of that, or of the other lines."
    )


def _continuum(numbers: dict[str, Any]) -> str:
    rows = [
        "## Continuum",
        "",
        f"Segments of the first {numbers['spectra']['continuum']} test spectra: flux density minus"
        " the mean of the noiseless continuum over the same channels, which ripples and slopes left"
        " by calibration are no part of. Median and robust scatter, in errors of one channel; the"
        " pull in units of the error that the segment states, median ± robust scatter, of which"
        " 0 ± 1 is right. The others state no error.",
        "",
        "| regime | segments | parser | its pull | median of the channels |"
        " specutils `fit_generic_continuum` |",
        "|---|---|---|---|---|---|",
    ]
    for group, methods in numbers["continuum"].items():
        mine = methods.get(SEGMENTS)
        pull = "–" if mine is None else f"{mine['pull_bias']:+.2f} ± {mine['pull']:.2f}"
        cells = [_bias(mine), pull, _bias(methods.get(MEDIAN)), _bias(methods.get(GENERIC))]
        rows.append(f"| {group} | {methods['segments']} | " + " | ".join(cells) + " |")
    rows += [
        "",
        "The stated error knows how blocks of eight channels and more scatter about a straight"
        " line, and infers from that what ripples and slopes do to a whole segment, which cannot be"
        " seen within it.",
    ]
    return "\n".join(rows)


def _bias(entry: dict[str, Any] | None) -> str:
    return "–" if entry is None else f"{entry['bias']:+.3f} ± {entry['scatter']:.3f}"


def _redshift(numbers: dict[str, Any]) -> str:
    rows = [
        "## Redshifts",
        "",
        "Simulated galaxies with one spectrum and a redshift known beforehand to 10 % (as from the"
        " far infrared). Right: |Δz|/(1+z) < 0.005. ln p: of the posterior within that of the"
        " truth, mean. Differences from the comb as it is, paired, 95 % intervals.",
        "",
        "| regime | galaxies | redshift | right | minus comb | ln p | minus comb |",
        "|---|---|---|---|---|---|---|",
    ]
    for group, methods in numbers["redshift"].items():
        for name, each in methods.items():
            if name == "galaxies":
                continue
            first = "right_minus_comb" not in each
            rows.append(
                f"| {group} | {methods['galaxies']} | {name} | {each['right']:.3f} | "
                f"{'' if first else _interval(each['right_minus_comb'])} | {each['log']:.3f} | "
                f"{'' if first else _interval(each['log_minus_comb'])} |"
            )
    rows += [
        "",
        "**The stream does not use the parser's list.** Its redshifts come from the comb, with an"
        f" exponent of {EVIDENCE_WEIGHT:g} on the comb's likelihood; no redshift, score or alert"
        " depends on a feature tree. What is gained here is gained in the noise that the parser was"
        " trained on, and no real spectrum has confirmed it; how sure the stream's redshifts would"
        " be with the list has not been looked at, as it has for the comb.",
    ]
    return "\n".join(rows)


def _identifications(numbers: dict[str, Any]) -> str:
    each = numbers["identifications"]
    return f"""## Identifications

Candidates from the list alone, without any other redshift. Of {each["lines"]} found lines of the
ladder the first candidate is right for {each["first_right"]:.1%}, its mean probability is
{each["first_probability"]:.1%}, and the truth is among the candidates for
{each["among_candidates"]:.1%}. Where the spectrum shows at least two lines of the ladder
({each["lines_of_several"]} lines), the first is right for {each["first_right_of_several"]:.1%}.
A single line cannot be identified by itself: {each["share_of_commonest"]:.1%} are of the commonest
transition."""


def _maps(numbers: dict[str, Any]) -> str:
    maps = numbers["maps"]
    complete = ", ".join(
        f"{key}: {value:.2f}" for key, value in maps["component_completeness"].items()
    )
    rows = [
        "## Maps",
        "",
        f"{maps['maps']} simulated maps with a peak above 10 σ, the four morphologies alike. Right:"
        f" {maps['right']:.3f}; by counting peaks and comparing flux with peak"
        f" {maps['conventional_right']:.3f}; difference"
        f" {_interval(maps['right_minus_conventional'])}. Below 10 σ: {maps['right_below_10']:.3f}."
        f" Mean confidence minus share right, all maps: {maps['confidence_minus_right']:+.3f}.",
        "",
        "Parser:",
        "",
        *_table(maps["confusion"], maps["names"]),
        "",
        "Counting peaks:",
        "",
        *_table(maps["conventional_confusion"], maps["names"]),
        "",
        f"Components: purity {maps['component_purity']:.3f}; completeness by S/N of their own peak"
        f" {complete}; pull of the flux {maps['component_flux_pull']:.2f}."
        " No real map was looked at: there is none in the tables.",
    ]
    return "\n".join(rows)


def _real(real: bool) -> str:
    if not real:
        return (
            "## Real spectra\n\nThe tables with the real stacked spectra are missing here;"
            " only simulated data were looked at."
        )
    return """## Real spectra

Stacks of Reuter et al. 2023 (ApJ 948 44) and Spilker et al. 2014, real, at rest: looked at, not
counted. They are nothing like what the parser was trained on (channels of some 500 km/s, lines
much brighter than any single galaxy's, errors that vary with the number of galaxies).

![real](parser_real.png)"""


_FINE_TUNING = """## Fine-tuning

The parser was to be fine-tuned on what is real. It was not. The tables have two real spectra, the
stacks above, and lists of lines without spectra: fluxes and widths of lines of single galaxies
(DIGAME), ratios along the ladder. There is no spectrum of a single galaxy in them, and no map. A
list of lines says nothing of noise, ripples and channels, which are what a simulation may have
wrong. The channels of the stacks are wider than most lines of DIGAME, and the one list of lines
that goes with them was measured in them; fine-tuned on, they could not be looked at any more. So
weights, thresholds and errors are those of simulated spectra throughout, and how well they hold on
real ones is not known. Spectra of single galaxies whose lines are known from elsewhere would be
needed to find out, and to calibrate anew."""
