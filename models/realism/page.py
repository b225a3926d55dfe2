"""The page of the report on the simulator."""

from __future__ import annotations

from typing import Any

from mmbroker.models.realism.former import NAME
from mmbroker.models.realism.two_sample import VIEWS, Interval
from mmbroker.models.simulation.line_emission import EXCITATION_DEX
from mmbroker.models.simulation.line_profiles import SHAPE_SHARES, SHAPES
from mmbroker.models.simulation.population import KIND_SHARES, KINDS

_CLOSE, USABLE = 0.65, 0.80
_APART = 0.15

_ULTRAVIOLET = (
    "sources faint in the ultraviolet are missing: it hangs on how dust and young stars are mixed, "
    "of which the templates know little"
)
_WHY = {
    "GOODS-N": {
        "SCUBA-2-850": "deblending loses and adds flux by amounts that no paper states; those "
        "assumed leave the bright end too bright",
    },
    "COSMOS": {
        **dict.fromkeys(("CFHT-u", "Subaru-B", "Subaru-g", "Subaru-V"), _ULTRAVIOLET),
        "CFHT-K": "stellar masses are a compromise: GOODS-N wants bright galaxies heavier, COSMOS "
        "lighter",
        "MIPS-70": "the table gives 70 µm fluxes of the brighter sources alone, and by what limit "
        "is not simulated",
        "PACS-100": "luminosities are a compromise between COSMOS and GOODS-N; in the training "
        "part, by which they were set, the band is nearly right",
    },
}
"""Why bands are off, as far as it is known."""

WHY_OFF = {"COSMOS": "it has fewer sources faint in the ultraviolet, which hangs on dust geometry"}
"""Why flux densities of a table are off, in short."""


def page(numbers: dict[str, Any]) -> str:
    """The page in Markdown, from the report's numbers."""
    parts = [_OPENING, _population(numbers["population"])]
    if "tables" not in numbers:
        return "\n".join([*parts, _WITHOUT_TABLES, _ASSUMED])
    tables = numbers["tables"]
    parts += [
        _two_samples(tables),
        _where_off(tables),
        *(_table(name, each) for name, each in tables.items()),
        _colours(tables["GOODS-N"]["colours"]),
        _published(numbers["published redshifts"]),
        _ASSUMED,
        _CAVEATS,
    ]
    return "\n".join(parts)


def word(area: Interval) -> str:
    """The protocol's word for an area under the curve."""
    if area.value < _CLOSE:
        return "close"
    return "usable" if area.value < USABLE else "off"


_OPENING = """# Simulated catalogues against the real tables

Asked: what tells a simulated catalogue from a real one, and by how much? Data: GOODS-N (Liu et al.
2018, ApJ 853 172), COSMOS (Drew & Casey 2022, ApJ 930 142; optical: Lilly et al. 2007, ApJS 172 70)
and SPT-SMG (Reuter et al. 2020, ApJ 902 78). The protocol is in
`models/protocols/simulator.md`; this page is rebuilt by
`python -m mmbroker.models.report simulator`. The test part was opened once for this simulator, and
once more for the first one beside it. """

_WITHOUT_TABLES = """
The tables of real galaxies were not at hand: nothing is compared. Set `MMBROKER_DATA` to their
folder.
"""

_TWO_SAMPLES = f"""## Classifier two-sample test

Area under the curve of boosted trees that tell held-out real from simulated sources, with 95 %
intervals; 0.5 is indistinguishable, below 0.65 is called close, below 0.80 usable.
{NAME.capitalize()} is judged by catalogues that were kept, of as many sources, on the same real
ones; it had no optical bands of COSMOS, and is judged without them there.

"""

_MILLIMETRE = ("ALMA-3mm", "SPT-150GHz")


def _shares(names: tuple[str, ...], shares: tuple[float, ...]) -> str:
    each = [f"{name} {100 * share:.0f} %" for name, share in zip(names, shares, strict=True)]
    return ", ".join(each)


_ASSUMED = f"""## What is assumed, and what that means for what is trained on it

The relations that have a paper are in `processors/relations.py` with it. Many constants of the
population have none: they are marked *Assumed* where they stand (`population.py`,
`line_emission.py`, `dust_emission.py`, `radio_emission.py`, `line_profiles.py`, `surveys.py`,
`spectrum_surveys.py`, `spectral_noise.py`, `radio_maps.py`, some in `relations.py`). The main ones:

* how common the kinds of galaxies are ({_shares(KINDS, KIND_SHARES)}), their
  luminosities with scatter and tail, their masses at given luminosity: set so that fluxes of the
  training part come out;
* the light of young stars and what dust takes of it, early templates, the parts of the mid-infrared
  that are aromatic bands, nuclei and silicate;
* shares and strengths of active nuclei, in the infrared and in the radio;
* the excitation of CO: its scatter of {EXCITATION_DEX:.2f} dex per decade of J, its growth
  with luminosity, the scatter of single CO lines, of \\[CI\\] and of \\[CII\\];
* shapes of lines ({_shares(SHAPES, SHAPE_SHARES)}),
  ripples, slopes and bad channels of spectra, morphologies of radio sources, what blending does
  to fluxes.

What is trained on it takes them over:

* **Critic and generator** begin with simulated galaxies, and half of each later batch is simulated.
  Real photometry corrects the assumptions where there is some; of spectra and of 8 and 22 GHz they
  know the assumptions alone. A galaxy with another excitation than assumed may look less genuine.
* **The parser** has seen nothing else. Its probabilities, errors and shapes are those of a world
  with these shares of lines and this noise; with other shares they shift.
* **Recovered lines** are fitted to real lines alone. Simulated spectra only judge them, and where
  both differ either may be wrong.
* **Redshifts**: the exponent of what lines say, and how often a feature is an artefact, were chosen
  on simulated spectra. The conventional redshift shares its relations with the simulator, so that
  redshifts of simulated galaxies are better than those of real ones.
* **Agreement above is partly made**: the constants were set with the same kind of classifier on the
  training part, in some ten rounds. Another kind of test may find more.
"""

_CAVEATS = """## Read with care

* The classifier of COSMOS is shown no redshift, which a fifth of that table lacks.
* The real part that is judged is small; the intervals are of the sources judged, not of another
  training of the classifier. The classifier would find more with more real sources to learn from.
* All three tables are of sources somebody chose to publish. Redshifts of GOODS-N are spectroscopic
  where there are any, else photometric, and outliers among these blur its colours.
* The 16 and 24 µm columns of the GOODS-N table are exchanged, and are read so; see
  `models/real_data/catalogues.py`.
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
        rows.append(f"| {NAME} | | " + " | ".join(former) + " |")
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
    rows, lines = [], []
    for name, each in tables.items():
        off = [
            f"{view} {area.value:.2f}, {area.value - USABLE:.2f} above what is called usable"
            for view, area in each["area"].items()
            if word(area) == "off"
        ]
        telling = ", ".join(each["telling"]["all"][:4])
        lines.append(
            f"* **{name}**: {'; '.join(off) or 'nothing is off'}. All together, the classifier "
            f"goes by {telling}."
        )
        for band, distance in each["distance"]["flux density"].items():
            if distance is not None and distance.low > _APART:
                why = _WHY.get(name, {}).get(band, "not known")
                rows.append(f"| {name} | {band} | {distance} | {_level(each, band)} | {why} |")
    return f"""## Where it is off, and why

{chr(10).join(lines)}

Bands whose flux densities are distributed differently, with the lower end of the interval of the
Kolmogorov–Smirnov distance above {_APART} (in SPT there are too few sources to say). Beside it what
the training part shows, by which the simulator was set: the distance there, the ratio of the
simulated median to the real one, and from the 16th to the 84th percentile, in depths.

| table | band | KS | KS, training part | ratio of medians | real | simulated | why |
|---|---|---|---|---|---|---|---|
{chr(10).join(rows)}

{_other_reasons(tables)}
"""


def _level(numbers: dict[str, Any], band: str) -> str:
    """What the training part shows of a band, as four cells."""
    found = numbers["training part"]["bands"].get(band)
    if found is None:
        return "– | – | – | –"
    (low, middle, high), (least, median, most) = found["real"], found["simulated"]
    ratio = f"{median / middle:.2f}" if middle > 0 else "–"
    return f"{found['distance']:.2f} | {ratio} | {low:.3g}–{high:.3g} | {least:.3g}–{most:.3g}"


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")


def _other_reasons(tables: dict[str, Any]) -> str:
    """Why the classifier tells them where single bands do not."""
    warm = [
        each
        for each in tables["GOODS-N"]["colours"]
        if each["colour"] == "MIPS-24/IRAC4" and each["redshift"][0] >= 1.5
    ]
    low, high = (pick(each["median difference"] for each in warm) for pick in (min, max))
    between = f"{warm[0]['redshift'][0]} < z < {warm[-1]['redshift'][1]}"
    errors = tables["GOODS-N"]["correlation"]["errors"]
    long, short = (
        median[1] / real[1]
        for real, median in (
            (each["real"], each["simulated"])
            for each in (tables["SPT"]["training part"]["bands"][band] for band in _MILLIMETRE)
        )
    )
    return f"""* MIPS-24 over IRAC4 of GOODS-N at {between} is too high in the simulation and
  scatters too much (real minus simulated {_signed(low)} to {_signed(high)} dex): aromatic bands of
  real galaxies at that redshift are weaker, or their stars brighter. IRAC and 24 µm fluxes follow
  each other more closely than in the simulation, presumably because that scatters masses, dust and
  nuclei about the luminosity each on its own.
* Errors are drawn band by band at given flux, and tied together by their ranks. Band by band they
  are nearly right in GOODS-N, but how they hang together is not caught by ranks: their correlations
  still differ by {errors["root mean square"]:.2f} r.m.s.
* ALMA 3 mm of SPT sources is too bright for their 2 mm, by the medians by a factor of
  {long / short:.1f} (training part, {tables["SPT"]["training part"]["real"]} sources): a single
  emissivity index and the published scatter do not give it.
* PACS-160, 850 µm and 1.16 mm of GOODS-N were given losses and scatter that no paper states,
  because the training part has more zeros than noise explains."""


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
