"""Names the code that scores: a hash over its sources, so that other code has another name.

A version number is the same for all that was built under it. The hash tells by content what scored
a galaxy.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from importlib import metadata, resources
from pathlib import Path

from mmbroker.schemas import __version__

ROOMS = (
    "processors",
    "processors/evaluations",
    "processors/features",
    "processors/fingerprint",
    "processors/lines",
    "processors/redshift",
    "processors/scoring",
    "models/packaged",
    "models/serving",
)
"""The folders whose modules a score depends on."""

STAGE = ("clients", "evaluating", "refining", "score_galaxies", "scorers")
"""The modules of ``streams/stages`` that a score depends on."""

LIBRARIES = ("astropy", "astropy-healpix", "numba", "numpy", "scipy", "tritonclient")
"""The libraries that these modules import: another version of one may have another cosmology, or
differ in the last bits."""


@lru_cache(maxsize=1)
def scoring_code() -> str:
    """A hexadecimal BLAKE2b-64 over the sources that score and the versions of their libraries.

    It is the same wherever the same files are installed. Files of weights and constants are not in
    it, because they have identities of their own.
    """
    digest = hashlib.blake2b(digest_size=8)
    for name in LIBRARIES:
        digest.update(f"{name} {metadata.version(name)}\n".encode())
    for path in sources():
        content = path.read_bytes()
        digest.update(f"{path.parent.name}/{path.name} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


def code_version() -> str:
    """The version of mmbroker and the code that scores, as ``0.1.0+0123456789abcdef``."""
    return f"{__version__}+{scoring_code()}"


def sources() -> list[Path]:
    """The files that are hashed, in a fixed order."""
    package = Path(str(resources.files("mmbroker")))
    found = [path for room in ROOMS for path in sorted((package / room).glob("*.py"))]
    return found + [package / "streams" / "stages" / f"{name}.py" for name in STAGE]
