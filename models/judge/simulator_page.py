"""The page of the report on the simulator."""

from __future__ import annotations

from typing import Any

from .former_simulator import VERSION
from .two_sample import VIEWS, Interval

_CLOSE, _USABLE = 0.65, 0.80
_APART = 0.15


def page(numbers: dict[str, Any]) -> str:
    """The page in Markdown, from the report's numbers."""
    parts = [_OPENING, _population(numbers["population"])]
    if "tables" not in numbers:
        return "\n".join([*parts, _WITHOUT_TABLES])
    tables = numbers["tables"]
    parts += [
        _two_samples(tables),
        _where_off(tables),
        *(_table(name, each) for name, each in tables.items()),
        _colours(tables["GOODS-N"]["colours"]),
        _published(numbers["published redshifts"]),
        _CAVEATS,
    ]
    return "\n".join(parts)


def word(area: Interval) -> str:
    """The protocol's word for an area under the curve."""
    if area.value < _CLOSE:
        return "close"
    return "usable" if area.value < _USABLE else "off"


_OPENING = """# Simulated catalogues against the real tables

Asked: what tells a simulated catalogue from a real one, and by how much? Data: GOODS-N (Liu et al.
2018, ApJ 853 172), COSMOS (Drew & Casey 2022, ApJ 930 142; optical: Lilly et al. 2007, ApJS 172 70)
and SPT-SMG (Reuter et al. 2020, ApJ 902 78). The protocol is in `models/README.md`; this page is
rebuilt by `python -m models.judge simulator`. The test part was opened once for this simulator, and
once more for the former one beside it.
"""

_WITHOUT_TABLES = """
The tables of real galaxies were not at hand: nothing is compared. Set `MMBROKER_DATA` to their
folder.
"""

_TWO_SAMPLES = f"""## Classifier two-sample test

Area under the curve of boosted trees that tell held-out real from simulated sources, with 95 %
intervals; 0.5 is indistinguishable, below 0.65 is called close, below 0.80 usable. The simulator
of version {VERSION} is judged by catalogues that were kept, of as many sources, on the same real
ones; it had no optical bands of COSMOS, and is judged without them there.

"""

_CAVEATS = """## Read with care

* The classifier of COSMOS is shown no redshift, which a fifth of that table lacks.
* The real part that is judged is small; the intervals are of the sources judged, not of another
  training of the classifier. The classifier would find more with more real sources to learn from.
* All three tables are of sources somebody chose to publish. Redshifts of GOODS-N are spectroscopic
  where there are any, else photometric, and outliers among these blur its colours.
* The 16 and 24 µm columns of the GOODS-N table are exchanged, and are read so; see
  `models/catalogues.py`.
* Numbers are compared to hundredths: that tables print 2.7 or write zero as 1e-8 is not asked.
* Fluxes and errors of CANDELS, HSC and JWST, at 8 and 22 GHz, spectra, line shapes and maps are
  simulated from published depths and relations, and compared with nothing here.
* Positions are random: clustering, blends and what they do to fluxes are not simulated, but for
  noise that neighbouring bands share and the flux that deblending loses.
"""


def _population(numbers: dict[str, Any]) -> str:
    rows = "\n".join(
        f"| {name} | {values[0]:g} | {values[1]:g} | {values[2]:g} |"
        for name, values in numbers["percentiles 16, 50, 84"].items()
    )
    return f"""## The simulated population

{numbers["galaxies"]} galaxies. {numbers["share with radio excess"]:.0%} have a radio excess,
{numbers["share with torus"]:.0%} dust around an active nucleus. Sizes have
no table here to be compared with: they are those of the papers that are named in
`processors/relations.py`. Percentiles (simulated):

| | 16 % | 50 % | 84 % |
|---|---|---|---|
{rows}

![population](simulator_population.png)
"""


def _two_samples(tables: dict[str, Any]) -> str:
    head = "| table | judged on | " + " | ".join(VIEWS) + " |\n|---|---|" + "---|" * len(VIEWS)
    rows = []
    for name, each in tables.items():
        cells = [f"{each['area'][view]}, {word(each['area'][view])}" for view in VIEWS]
        rows.append(
            f"| **{name}** | {each['real']} ({each['parts']}) | " + " | ".join(cells) + " |"
        )
        halves = [_or_dash(each["area of real halves"][view]) for view in VIEWS]
        rows.append("| halves of the real table | | " + " | ".join(halves) + " |")
        former = [str(each["area of the former simulator"][view]) for view in VIEWS]
        rows.append(f"| simulator of version {VERSION} | | " + " | ".join(former) + " |")
    return (
        _TWO_SAMPLES
        + "\n".join([head, *rows])
        + "\n\n![two-sample test](simulator_two_sample.png)\n"
    )


def _table(name: str, numbers: dict[str, Any]) -> str:
    figure = {"GOODS-N": "goodsn", "COSMOS": "cosmos", "SPT": "spt"}[name]
    telling = "; ".join(
        f"{view}: {', '.join(numbers['telling'][view][:3])}" for view in VIEWS if view != "mask"
    )
    distance = numbers["distance"]
    rows = []
    for band, (real, simulated) in numbers["share of sources with the band"].items():
        cells = [_or_dash(distance[kind][band]) for kind in distance]
        rows.append(f"| {band} | {real:.0%} | {simulated:.0%} | " + " | ".join(cells) + " |")
    related = [
        f"{kind}: r.m.s. {each['root mean square']:.2f}, largest {each['largest']:+.2f} between "
        f"{' and '.join(each['largest between'])} ({each['pairs']} pairs)"
        for kind, each in numbers["correlation"].items()
        if each["pairs"]
    ]
    extra = "\n![correlations](simulator_correlations.png)\n" if name == "GOODS-N" else ""
    return f"""## {name}

{numbers["real"]} real sources ({numbers["parts"]} part), {numbers["simulated"]} simulated. What the
classifier goes by, most telling first: {telling}.

Rank correlations, real minus simulated: {"; ".join(related) or "too few sources"}.

| band | real sources with it | simulated | {" | ".join(f"KS {kind}" for kind in distance)} |
|---|---|---|{"---|" * len(distance)}
{chr(10).join(rows)}

![{name}](simulator_{figure}.png)
{extra}"""


def _colours(rows: list[dict[str, Any]]) -> str:
    lines = [
        f"| {each['colour']} | {each['redshift'][0]}–{each['redshift'][1]} "
        f"| {each['real sources']} | {each['median difference']:+.2f} "
        f"| {each['real half-width']:.2f} | {each['simulated half-width']:.2f} |"
        for each in sorted(rows, key=lambda row: -abs(row["median difference"]))[:12]
    ]
    return (
        f"""## Colours of GOODS-N

Logarithms of flux ratios where both bands exceed 2σ, in bins of redshift; of {len(rows)} colours
and bins with at least 10 real sources, those whose medians differ most:

| colour | redshift | real sources | median, real − simulated [dex] | real half-width | simulated |
|---|---|---|---|---|---|
"""
        + "\n".join(lines)
        + "\n\n![colours](simulator_colours.png)\n"
    )


def _where_off(tables: dict[str, Any]) -> str:
    lines = []
    for name, each in tables.items():
        apart = {
            band: distance
            for band, distance in each["distance"]["flux density"].items()
            if distance is not None and distance.low > _APART
        }
        bands = ", ".join(f"{band} {distance}" for band, distance in apart.items())
        telling = ", ".join(each["telling"]["all"][:4])
        lines.append(
            f"* **{name}**: {bands or 'no band (or too few sources)'}. All together, the "
            f"classifier goes by {telling}."
        )
    return f"""## Where it is off

Bands whose flux densities are distributed differently, with the lower end of the interval of the
Kolmogorov–Smirnov distance above {_APART}:

{chr(10).join(lines)}
"""


def _published(numbers: dict[str, dict[str, float]]) -> str:
    rows = [
        f"| {name} | {each['galaxies']} | {each['NMAD']:.3f} | {each['outliers']:.1%} "
        f"| {each['outliers of both']:.1%} | {each['correlation of the others']:.2f} |"
        for name, each in numbers.items()
    ]
    return f"""## Published redshifts of GOODS-N

Two photometric redshifts of a galaxy, EAZY (Skelton et al. 2014) and that of Liu et al. 2018,
against the spectroscopic one: Δ = (z − z_spec)/(1 + z_spec); outliers have |Δ| > 0.15.

| | galaxies | NMAD of EAZY | outliers of EAZY | of both | correlation of the other Δ |
|---|---|---|---|---|---|
{chr(10).join(rows)}
"""


def _or_dash(value: Interval | None) -> str:
    return "–" if value is None else str(value)
