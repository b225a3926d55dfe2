"""What somebody gets who installs mmbroker: one package, whole, that is quick to import."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from dataclasses import asdict
from fnmatch import fnmatch
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import mmbroker
from mmbroker.processors.redshift.tuned import packaged
from mmbroker.streams.publishing.files import publish_files

REPOSITORY = Path(__file__).parents[1]
LINKED = ("schemas", "processors", "models", "streams", "deploy")
PICTURES = {".png", ".svg"}
"""Of pages; they stay in the repository."""

WORKING_COPY_ALONE = (
    "models/comparison/*",
    "models/reports/*.json",
    "models/weights/template_library.*",
    "models/weights/critic_curves.json",
)
"""What only training, judging and their reports read."""

PIPELINE = """
import json
import sys
from importlib import resources

import models
import schemas
import mmbroker
from mmbroker import BandMeasurement, Observation, Photometry, Publisher
from mmbroker.schemas.codec import Codec

observation = Observation(
    "survey-17/1", schemas.INSTRUMENT, 189.2, 62.2, 0.2, 61000.5,
    photometry=Photometry([BandMeasurement("ALMA-6", 233e9, models.flux_jy(), 1e-4)]),
)
decoded = Codec().decode_as(Observation, Codec().encode(observation))
print(json.dumps({
    "files": [models.__file__, schemas.__file__, mmbroker.__file__],
    "publisher": Publisher.__module__,
    "same": decoded.photometry == observation.photometry,
    "flux_jy": decoded.photometry.measurements[0].flux_density_jy,
}))
"""

DATA = """
import json
from dataclasses import asdict
from importlib import resources
from pathlib import Path

import mmbroker
from mmbroker.models.packaged.networks import WEIGHTS, read_model
from mmbroker.processors.ingest.mapping import included
from mmbroker.processors.redshift.tuned import packaged
from mmbroker.streams.publishing.files import publish_files

sample = Path(str(resources.files("mmbroker.deploy"))) / "demo" / "goodsn.ecsv"
print(json.dumps({
    "file": mmbroker.__file__,
    "sent": publish_files([sample], check=True, progress=False).sent,
    "mappings": included(),
    "tuned": asdict(packaged()),
    "critic": read_model(WEIGHTS, "critic")[1]["sha256"],
}))
"""


# Importing ----------------------------------------------------------------------------------------


def test_importing_it_loads_the_standard_library_alone() -> None:
    code = (
        "import sys; before = set(sys.modules); import mmbroker; "
        "print(*sorted({name.partition('.')[0] for name in set(sys.modules) - before}))"
    )
    loaded = set(
        python(sys.executable, "-c", code, PYTHONPATH=str(REPOSITORY / ".package")).split()
    )
    assert "mmbroker" in loaded
    assert loaded - {"mmbroker"} <= sys.stdlib_module_names


@pytest.mark.parametrize("name", mmbroker.__all__)
def test_every_public_name_is_that_of_its_place(name: str) -> None:
    place = import_module(f"mmbroker.{mmbroker._PLACES[name]}")
    assert getattr(mmbroker, name) is getattr(place, name)


def test_type_checkers_see_the_names_where_they_are_loaded_from() -> None:
    (typed,) = (
        statement
        for statement in ast.parse(Path(mmbroker.__file__).read_text()).body
        if isinstance(statement, ast.If)
    )
    seen = {
        name.asname or name.name: each.module
        for each in typed.body
        if isinstance(each, ast.ImportFrom)
        for name in each.names
    }
    assert seen == {name: f"mmbroker.{place}" for name, place in mmbroker._PLACES.items()}
    assert sorted(seen) == sorted(mmbroker.__all__) == dir(mmbroker)


def test_a_name_that_is_not_public_is_refused_as_of_any_module() -> None:
    with pytest.raises(AttributeError, match="module 'mmbroker' has no attribute 'publish'"):
        mmbroker.publish  # noqa: B018


# Installing ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of the files that git knows or would add, built in a copy of them.

    What an earlier build has left in ``build/`` would otherwise come along.
    """
    copy = tmp_path_factory.mktemp("checkout")
    for name in listed_by_git("--others", "--exclude-standard", "--cached"):
        target = copy / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(REPOSITORY / name, target, follow_symlinks=False)
    folder = tmp_path_factory.mktemp("wheel")
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, copy)
    (built,) = folder.iterdir()
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ``bin`` of a fresh virtual environment with the wheel, and the dependencies of ours."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder)
    bin_folder = folder / ("Scripts" if os.name == "nt" else "bin")
    # Before the dependencies can be seen: among them is mmbroker as it is installed here.
    pip("--python", bin_folder / "python", "install", "--no-deps", "--no-index", wheel)
    (own,) = folder.glob("lib/python*/site-packages")
    # Files that end in .pth are not read in a folder that one of them has named, so that the
    # checkout, which an editable installation adds in this way, is not found.
    paths = {sysconfig.get_path(kind) for kind in ("purelib", "platlib")}
    (own / "dependencies.pth").write_text("".join(f"{path}\n" for path in paths))
    return bin_folder


@pytest.mark.slow
def test_the_wheel_takes_no_name_but_its_own(wheel: Path) -> None:
    tops = {name.partition("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert tops == {"mmbroker", f"mmbroker-{mmbroker.__version__}.dist-info"}


@pytest.mark.slow
def test_the_wheel_has_every_file_that_is_of_use_where_it_is_installed(wheel: Path) -> None:
    held = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("mmbroker/")}
    linked = {
        f"mmbroker/{name}"
        for name in listed_by_git("--others", "--exclude-standard", "--cached", "--", *LINKED)
        if Path(name).suffix not in PICTURES
        and not any(fnmatch(name, each) for each in WORKING_COPY_ALONE)
    }
    # Some of what has to be there, should git ever list nothing.
    assert linked > {
        "mmbroker/schemas/avro/observation.v1.avsc",
        "mmbroker/processors/ingest/mappings/goodsn.toml",
        "mmbroker/processors/redshift/tuned.json",
        "mmbroker/models/weights/critic.onnx",
        "mmbroker/deploy/prometheus/alerts.yml",
    }
    own = {f"mmbroker/{name}" for name in ("__init__.py", "__main__.py", "py.typed")}
    assert held == linked | own


@pytest.mark.slow
def test_a_pipeline_has_models_and_schemas_of_its_own_beside_it(
    installed: Path, tmp_path: Path
) -> None:
    for package, content in (
        ("models", "def flux_jy() -> float:\n    return 1.25e-3\n"),
        ("schemas", 'INSTRUMENT = "ALMA"\n'),
    ):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text(content)
    (tmp_path / "pipeline.py").write_text(PIPELINE)
    said: dict[str, Any] = json.loads(python(installed / "python", "pipeline.py", folder=tmp_path))
    models, schemas, ours = map(Path, said["files"])
    assert models == tmp_path / "models" / "__init__.py"
    assert schemas == tmp_path / "schemas" / "__init__.py"
    assert ours.is_relative_to(installed.parent)
    assert said["publisher"] == "mmbroker.streams.publishing.publisher"
    assert said["same"]
    assert said["flux_jy"] == 1.25e-3


@pytest.mark.slow
def test_its_data_are_read_where_it_is_installed(installed: Path, tmp_path: Path) -> None:
    read = json.loads(python(installed / "python", "-c", DATA, folder=tmp_path))
    assert Path(read["file"]).is_relative_to(installed.parent)
    sample = REPOSITORY / "deploy" / "demo" / "goodsn.ecsv"
    assert read["sent"] == publish_files([sample], check=True, progress=False).sent > 200
    assert set(read["mappings"]) >= {"goodsn", "spt"}
    assert read["tuned"] == asdict(packaged())
    card = json.loads((REPOSITORY / "models" / "weights" / "critic.json").read_text())
    assert read["critic"] == card["sha256"]


@pytest.mark.slow
def test_the_command_is_there(installed: Path, tmp_path: Path) -> None:
    for command in ([installed / "mmbroker"], [installed / "python", "-m", "mmbroker"]):
        said = python(*command, "--version", folder=tmp_path)
        assert said == f"mmbroker {mmbroker.__version__}\n"


def python(*command: str | Path, folder: Path | None = None, **variables: str) -> str:
    """The output of a program that nothing of this environment tells where mmbroker is."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if name != "PYTHONPATH" and not name.startswith("MMBROKER_")
    }
    result = subprocess.run(
        command,
        cwd=folder,
        env={**environment, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def pip(*arguments: str | Path) -> None:
    python(sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments)


def listed_by_git(*arguments: str) -> list[str]:
    """Files of the repository, as paths from its top, without those that were deleted."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", *arguments],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\0")
    return [name for name in listed if os.path.lexists(REPOSITORY / name) and name]
