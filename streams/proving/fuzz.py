"""Throws strange input at what reads the writing of strangers: ``make bench FUZZ=1``.

Each entry is fuzzed in a process of its own, whose memory is limited, so that a crash within C code
or a hang is seen as what it is. An input is made of the seed and its number alone. So
``python -m mmbroker.streams.proving.fuzz ENTRY --seed S --first N --inputs 1`` repeats one.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import dataclasses
import faulthandler
import hashlib
import io
import itertools
import json
import logging
import os
import re
import resource
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import fastavro
from astropy.wcs import WCS
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from mmbroker.models.packaged.networks import CALIBRATION_ID, WEIGHTS
from mmbroker.models.serving.repository import CONFIGURATION, add_version
from mmbroker.models.simulation.observations import simulate
from mmbroker.processors.features.inputs import source_in_map, spectrum_input
from mmbroker.processors.fingerprint import merge as fingerprints
from mmbroker.processors.fingerprint.errors import UnusableError
from mmbroker.processors.fingerprint.map_wcs import celestial_wcs
from mmbroker.processors.ingest.tables import MappingError, load_mapping, read_table
from mmbroker.processors.validation import fingerprint_problems
from mmbroker.schemas.codec import Codec, Framing, manifest
from mmbroker.schemas.events import Fingerprint, Observation, Source
from mmbroker.schemas.records import to_record
from mmbroker.streams.stages.base import RefusedError
from mmbroker.streams.stages.build_fingerprints import prepare

MEMORY_LIMIT_MB = 4096
"""Address space of a process that is fuzzed; libraries take half of it."""

HANG_S = 20.0
"""A process is ended as hung when it takes so much longer than it was told to."""

SLOWEST_S = 2.0
"""No input may take longer than this."""

GROWTH_LIMIT_MB = 200
"""Memory may grow by so much over all inputs."""


@dataclass(frozen=True)
class Entry:
    """One way in.

    Attributes:
        good: inputs that are taken. They are read first, because libraries load parts of them late.
        make: makes an input from random numbers.
        accepts: reads an input and says whether it is taken; a strange one is refused without an
            exception.
    """

    good: Sequence[bytes]
    make: Callable[[Random], bytes]
    accepts: Callable[[bytes], bool]


@dataclass(frozen=True)
class Fuzzed:
    """What came of an entry.

    Attributes:
        inputs: how many inputs were read.
        accepted: how many of them were taken; the others were refused.
        slowest_ms: the longest time for one.
        growth_mb: by how much the memory of the process grew.
        fault: what went wrong, and how to repeat it; empty if nothing did.
    """

    inputs: int
    accepted: int
    slowest_ms: float
    growth_mb: float
    fault: str = ""

    @property
    def wrong(self) -> str:
        """Why this does not hold; empty if it does."""
        if self.fault:
            return self.fault
        if self.slowest_ms > SLOWEST_S * 1000:
            return f"an input took {self.slowest_ms:.0f} ms"
        if self.growth_mb > GROWTH_LIMIT_MB:
            return f"memory grew by {self.growth_mb:.0f} MB"
        return ""


# Entries ------------------------------------------------------------------------------------------

_NUMBERS = (
    1e308, -1e308, 1e-308, 5e-324, 0.0, -0.0, 2.0**63, 1e6, 1e-15, -1.0, 360.0, 90.0,
    float("nan"), float("inf"), float("-inf"),
)  # fmt: skip
_DOUBLES = tuple(struct.pack("<d", each) for each in _NUMBERS)
_LENGTHS = tuple(bytes.fromhex(each) for each in ("00", "01", "feffffffffffffffff01", "ffffffff0f"))
"""Avro's numbers that are lengths and counts: 0, -1, 2**63 - 1, -2**31."""


def _observations() -> Entry:
    """Observations in both framings: damaged, and with numbers that cannot be measurements."""
    codec, samples = Codec(), _samples()
    framings: Sequence[Framing] = ("confluent", "container")
    encoded = [codec.encode(each, framing) for each in samples for framing in framings]
    schema = next(each for each in manifest() if each.name == "Observation")

    def make(random: Random) -> bytes:
        if random.random() < 0.5:
            return _damaged(random.choice(encoded), random, (*_DOUBLES, *_LENGTHS))
        record = to_record(random.choice(samples))
        for _ in range(random.randint(1, 3)):
            holder, key = random.choice(list(_numbers(record)))
            holder[key] = random.choice(_NUMBERS)
        buffer = io.BytesIO(struct.pack(">bI", 0, schema.id))
        buffer.seek(0, os.SEEK_END)
        fastavro.schemaless_writer(buffer, schema.definition, record)
        return buffer.getvalue()

    return Entry(encoded, make, lambda data: _is_taken_in(codec, data))


def _samples() -> list[Observation]:
    """One observation of each kind."""
    kinds = {str(each.payloads): each for each in simulate(60, seed=1)}
    return list(kinds.values())


def _numbers(part: Any) -> Iterator[tuple[Any, Any]]:
    """Where the floats of a record are."""
    for key, value in part.items() if isinstance(part, dict) else enumerate(part):
        if isinstance(value, float):
            yield part, key
        elif isinstance(value, dict | list):
            yield from _numbers(value)


def _is_taken_in(codec: Codec, data: bytes) -> bool:
    """Whether an observation is taken in; a fingerprint of it is one that can be scored."""
    prepared = prepare(codec, data)
    if isinstance(prepared, RefusedError) or prepared.contribution is None:
        return False
    observation = prepared.observation
    spectrum_input(observation)
    source_in_map(observation)
    source = Source(observation.observation_id, "", 0, 0)
    merged = fingerprints.merge(fingerprints.empty("mm-fuzz"), prepared.contribution, source)
    wrong = fingerprint_problems(codec.decode_as(Fingerprint, codec.encode(merged)))
    if wrong:
        raise AssertionError(f"what was taken in cannot be scored: {wrong}")
    return True


def _containers() -> Entry:
    """Headers of containers, damaged, and with schemas of many shapes."""
    codec = Codec()
    encoded = [codec.encode(each, "container") for each in _samples()]
    words = (b"avro.codec", b"avro.schema", b'{"type":', b"[", b'"null"', b'"doc":"', b"}", b",")

    def make(random: Random) -> bytes:
        data = random.choice(encoded)
        header = data.index(b"}]}") + 3
        nested = random.choice(words) * random.choice((1, 10, 3000))
        return _damaged(data[:header], random, (*words, *_LENGTHS, nested)) + data[header:]

    return Entry(encoded, make, lambda data: _is_taken_in(codec, data))


def _map_headers() -> Entry:
    """Headers of maps: cards changed, added, left out and damaged."""
    headers = []
    for longitude, latitude in (
        ("RA---SIN", "DEC--SIN"), ("GLON-CAR", "GLAT-CAR"), ("RA---TAN", "DEC--TAN"),
    ):  # fmt: skip
        wcs = WCS(naxis=2)
        wcs.wcs.ctype, wcs.wcs.crval = [longitude, latitude], [150.0, 2.0]
        wcs.wcs.cdelt, wcs.wcs.crpix = [-5e-5, 5e-5], [8.5, 8.5]
        headers.append(wcs.to_header_string())
    keywords = (  # noqa: SIM905
        "CTYPE1 CTYPE2 CRVAL1 CRVAL2 CRPIX1 CDELT1 CDELT2 CUNIT1 CROTA2 PC1_1 PC1_2 PC2_1 CD1_1 "
        "CD2_2 CD1_2 PC001001 PV1_0 PV1_1 PV1_2 PV2_0 PV2_1 PV2_2 PV2_29 LONPOLE LATPOLE RADESYS "
        "EQUINOX WCSAXES CTYPE3 PS2_1 A_ORDER A_0_2 B_2_0 CPDIS1 DP1 CQDIS2 D2IMARR1 PROJP1"
    ).split()
    values = (  # noqa: SIM905
        "abc '' 'abc' 'RA---TAN-SIP' 'RA---ZPN' 'DEC--TPV' 'GLAT-CAR' 'FK4' 'arcsec' 1e9 1e400 "
        "nan inf 0 -0.0 1D-5 5e-324 1e-300 90 -90 180 360 1 99 2147483648 T 1.5e ( 150.0"
    ).split()

    def make(random: Random) -> bytes:
        header = random.choice(headers)
        cards = [header[start : start + 80] for start in range(0, len(header), 80)]
        for _ in range(random.randint(1, 8)):
            value = random.choice(values)
            if random.random() < 0.3:
                value = repr(random.choice((-1, 1)) * 10 ** random.uniform(-12, 12))
            card = f"{random.choice(keywords):<8}= {value:>20}".ljust(80)
            cards.insert(random.randrange(len(cards)), card)
        data = "".join(cards).encode()
        return (
            _damaged(data, random, (b"'", b"= ", b"END", b"\n")) if random.random() < 0.3 else data
        )

    def accepts(data: bytes) -> bool:
        try:
            wcs = celestial_wcs.__wrapped__(data.decode("latin-1"))
            wcs.angle_on_pixels_rad(30.0)
            wcs.pixel_of(150.0, 2.0)
        except UnusableError:
            return False
        return True

    return Entry([each.encode() for each in headers], make, accepts)


_TABLE = """\
ID,MJD,RAh,RAm,RAs,DE-,DEd,DEm,DEs,S850,e_S850,l_S850,CO32,z
A1,57000.5,12,36,34.5,+,62,12,41,1.3,0.43,<,1.1,2.1
A2,57001.5,12,36,37.0,+,62,11,56,5.2,0.43,,-99,1.9
"""
_MAPPING = """\
name = "survey"
id = "{ID}"
time = "MJD"
missing = [-99]
[table]
format = "ascii.csv"
[position]
right_ascension = ["RAh", "RAm", "RAs"]
declination = ["DE-", "DEd", "DEm", "DEs"]
error_arcsec = 0.3
frame = "fk5"
equinox = "J2000"
[[photometry]]
instrument = "SCUBA-2"
unit = "mJy"
limit_sigma = 3
acquisition = { project = "{ID}/7" }
bands = [
  { name = "850", wavelength = "850 um", flux = "S850", error = "e_S850", limit_flag = "l_S850" },
  { name = "2", frequency = "150 GHz", flux = "S850", error_where_missing = 1, unit = "ABmag" },
]
[[line_spectrum]]
instrument = "line flux"
redshift = ["z"]
fwhm_km_s = 300
noise_mjy = 2
channel_km_s = 50
window_km_s = 1500
lines = [{ name = "CO(3-2)", flux = "CO32" }]
[published.infrared]
redshift = "z"
"""
_TOML_VALUE = re.compile(rb'(?<== )("[^"]*"|[\d.]+|\[[^\]{]*\])')


def _mappings() -> Entry:
    """Mapping files beside a table: values exchanged, and text damaged."""
    folder = _folder()
    table, mapping = folder / "survey.csv", folder / "survey.toml"
    table.write_text(_TABLE)
    values = (
        b"0", b"-1", b"1e308", b"1e-320", b"nan", b"inf", b"true", b"[]", b"{}", b"2020-01-01",
        b"10000-01-01", b'""', b'"x"', b'"ID"', b'"S850"', b'"z"', b'"{ID}"', b'"{"',
        b'"{ID.real}"', b'"{ID:>999999999}"', b'"{S850:.999999999f}"', b'"{S850[0]}"', b'"mag"',
        b'"Jy**1e9"', b'"1e400 um"', b'"1 / (Jy Jy)"', b'"(((((((((((((((((("', b'"h:m:s"',
        b'"galactic"', b'"fk4"', b'"B1e9"', b'"J-99999"', b'"altaz"', b'"hdf5"', b'"ascii.latex"',
        b'"\\t"', b'"../../survey"', b"[1e999]", b'["z", "z"]', b'"' + b"A" * 100_000 + b'"',
        b"[" * 5000 + b"]" * 5000,
    )  # fmt: skip
    words = (
        b"[",
        b"]",
        b"{",
        b"}",
        b'"',
        b"=",
        b"\n",
        b"\\u0000",
        b"[[photometry]]\n",
        b"[table]\n",
    )

    def make(random: Random) -> bytes:
        data = _MAPPING.encode()
        for _ in range(random.randint(0, 3)):
            start, end = random.choice([each.span() for each in _TOML_VALUE.finditer(data)])
            data = data[:start] + random.choice(values) + data[end:]
        return _damaged(data, random, words) if random.random() < 0.3 else data

    def accepts(data: bytes) -> bool:
        mapping.write_bytes(data)
        try:
            rows = list(read_table(table, load_mapping(mapping)))
        except MappingError:
            return False
        return any(row.observations and not row.problems for row in rows)

    return Entry([_MAPPING.encode()], make, accepts)


def _cards() -> Entry:
    """Cards and calibrations of networks; of what is taken, nothing but its tensors is set up."""
    source, network = _folder(), b"a network"
    (source / "critic.onnx").write_bytes(network)
    card = json.loads((WEIGHTS / "critic.json").read_text())
    card |= {"sha256": hashlib.sha256(network).hexdigest()}
    calibration = (WEIGHTS / "critic_calibration.json").read_text()
    bare = {key: value for key, value in card.items() if key != CALIBRATION_ID}
    good = [json.dumps(bare).encode(), f"{json.dumps(card)}\f{calibration}".encode()]
    values = (
        b"0", b"-1", b"1e999", b"NaN", b"null", b"true", b"[]", b"{}", b'""', b'"critic"', b"[-1]",
        b'{"shape": [-1, 8], "dtype": "FP32", "probe": [2, 8]}', b'{"shape": [1]}', b"[1e9]",
        b"1" * 5000, b"[" * 5000 + b"]" * 5000, b'"x\\" } parameters { key: \\"y"', b'"\\ud800"',
        b'"' + b"A" * 100_000 + b'"',
    )  # fmt: skip
    words = (b"[", b"]", b"{", b"}", b'"', b":", b",", b"\f", b"\\", b'"]} ] instance_group [ {"')
    value = re.compile(rb'(?<=: )("[^"]*"|[-\d.]+|\[[^\[\]{]*\])|"(?=[^"]*": )')

    def make(random: Random) -> bytes:
        data = random.choice(good)
        for _ in range(random.randint(0, 3)):
            start, end = random.choice([each.span() for each in value.finditer(data)])
            data = data[:start] + random.choice(values) + data[end:]
        return _damaged(data, random, words) if random.random() < 0.3 else data

    def accepts(data: bytes) -> bool:
        stated, _, map_ = data.partition(b"\f")
        (source / "critic.json").write_bytes(stated)
        (source / "critic_calibration.json").write_bytes(map_)
        if not map_:
            (source / "critic_calibration.json").unlink()
        with tempfile.TemporaryDirectory() as repository:
            try:
                add_version(Path(repository), "critic", source, "container")
            except (ValueError, FileNotFoundError):
                return False
            _require_tensors_alone(Path(repository) / "critic" / CONFIGURATION)
        return True

    return Entry(good, make, accepts)


def _require_tensors_alone(path: Path) -> None:
    """Read Triton's configuration as Triton does; a card says the tensors and the batch in it."""
    found = text_format.Parse(path.read_text(), ModelConfig())
    if (found.name, found.backend) != ("critic", "onnxruntime") or len(found.instance_group) != 1:
        raise AssertionError(f"a card has become configuration: {found}")


ENTRIES: dict[str, Callable[[], Entry]] = {
    "observations": _observations,
    "containers": _containers,
    "map-headers": _map_headers,
    "mappings": _mappings,
    "cards": _cards,
}
"""What is fuzzed, by name."""


def _folder() -> Path:
    """A folder that is gone when the process ends."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _damaged(data: bytes, random: Random, words: Sequence[bytes]) -> bytes:
    """Some bytes with some of them flipped, left out, doubled, or replaced by words."""
    changed = bytearray(data)
    for _ in range(random.randint(1, 6)):
        start = random.randrange(len(changed) + 1)
        stop = min(start + random.choice((1, 2, 8, 80)), len(changed))
        word = random.choice(words)
        match random.randrange(5):
            case 0:
                changed[start : start + 1] = bytes([random.randrange(256)])
            case 1:
                changed[start : start + len(word)] = word
            case 2:
                changed[start:start] = word
            case 3:
                changed[start:stop] *= random.choice((2, 2, 100))
            case _:
                del changed[start:stop]
    return bytes(changed)


# Running ------------------------------------------------------------------------------------------


def fuzz(name: str, seed: int, seconds: float, inputs: int | None = None) -> Fuzzed:
    """Fuzz an entry in a process of its own.

    Args:
        name: one of ``ENTRIES``.
        seed: of the inputs.
        seconds: how long; the process may take longer to begin.
        inputs: how many at most; None for as many as there is time for.
    """
    with tempfile.NamedTemporaryFile() as number:
        command = [sys.executable, "-m", __spec__.name, name, "--seed", str(seed)]
        command += ["--seconds", str(seconds), "--number", number.name]
        command += [] if inputs is None else ["--inputs", str(inputs)]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=seconds + HANG_S, check=False
            )
        except subprocess.TimeoutExpired:
            ended = "hangs"
        else:
            if done.returncode == 0:
                return Fuzzed(**json.loads(done.stdout.splitlines()[-1]))
            # The error alone: a report names no folders of the machine that it was made on.
            said = "".join(done.stderr.strip().splitlines()[-1:])
            ended = f"ended with exit status {done.returncode}: {said}"
        at = int(Path(number.name).read_text() or 0)
    return Fuzzed(at, 0, 0.0, 0.0, f"{name}, seed {seed}, input {at}: {ended}")


def _run(
    entry: Entry, seed: int, first: int, inputs: int | None, seconds: float, at: int
) -> Fuzzed:
    """Fuzz an entry in this process.

    Args:
        entry: the entry.
        seed: of the inputs.
        first: number of the first input.
        inputs: how many at most; None for as many as there is time for.
        seconds: how long.
        at: file descriptor to which the number of each input is written before it is read.
    """
    if not all(map(entry.accepts, entry.good)):
        raise AssertionError("a good input is refused")
    until = time.monotonic() + seconds
    done, accepted, slowest, memory = 0, 0, 0.0, _peak_mb()
    for number in itertools.count(first) if inputs is None else range(first, first + inputs):
        data = entry.make(Random(f"{seed}/{number}"))
        os.pwrite(at, f"{number:020}".encode(), 0)
        started = time.perf_counter()
        accepted += entry.accepts(data)
        slowest = max(slowest, time.perf_counter() - started)
        done += 1
        if time.monotonic() > until:
            break
    return Fuzzed(done, accepted, 1000 * slowest, _peak_mb() - memory)


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Entry point of the process of one entry."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("entry", choices=ENTRIES)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--inputs", type=int)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--number", type=Path, default=Path(os.devnull))
    arguments = parser.parse_args()
    faulthandler.enable()
    logging.disable()
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT_MB * 2**20,) * 2)
    entry = ENTRIES[arguments.entry]()
    with contextlib.closing(arguments.number.open("r+b", buffering=0)) as number:
        result = _run(
            entry, arguments.seed, arguments.first, arguments.inputs, arguments.seconds,
            number.fileno(),
        )  # fmt: skip
    print(json.dumps(dataclasses.asdict(result)))


if __name__ == "__main__":
    main()
