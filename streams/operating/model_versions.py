"""Shows, adds, switches and removes versions of the models on Triton."""

from __future__ import annotations

from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock
from rich.table import Table
from rich.text import Text

from mmbroker.models.packaged import networks
from mmbroker.models.packaged.refined import COLOURS, GATE
from mmbroker.models.serving import repository, triton
from mmbroker.models.serving.critic import CriticClient
from mmbroker.models.serving.errors import ModelUnavailable
from mmbroker.models.serving.parsers import MapParserClient, ParserClient, SpectrumParserClient
from mmbroker.models.serving.refined import RefinedNetworkClient
from mmbroker.models.serving.triton import Model, Version
from mmbroker.streams.settings import Settings, SettingsError
from mmbroker.streams.stages.clients import asked_models
from mmbroker.streams.store import FIRST_VERSION, Reading, open_store, read_store, store_exists

LOCK = "models.lock"
SHA256_SHOWN = 12


@dataclass(frozen=True)
class Served:
    """A version of a model on Triton.

    Attributes:
        model: name of the model.
        version: number of the version.
        in_force: whether the stages ask this version.
        served: whether Triton serves it.
        sha256: SHA-256 of the network.
        calibration_id: id of its calibration; empty without one.
        code_version: version of mmbroker that trained it.
        trained_on: what it was trained on.
    """

    model: str
    version: int
    in_force: bool
    served: bool = True
    sha256: str = ""
    calibration_id: str = ""
    code_version: str = ""
    trained_on: str = ""


def served(settings: Settings) -> list[Served]:
    """All versions that Triton serves, and those in force that it does not serve.

    Raises:
        ModelUnavailable: Triton does not answer.
        StoreError: the store cannot be read.
    """
    found = []
    with closing(read_store(settings)) as store, store.reading() as reading:
        chosen = reading.model_versions()
        names = {*triton.served(**settings.triton.control()), *chosen}
        in_force = {name: _number_in_force(settings, reading, name) for name in sorted(names)}
    for name, number in in_force.items():
        with _model(settings, name) as model:
            try:
                numbers = model.versions()
            except ModelUnavailable:
                numbers = []
            if number is not None and number not in numbers:
                found.append(Served(name, number, in_force=True, served=False))
            found += [_described(name, model.version(each), each == number) for each in numbers]
    return found


@dataclass(frozen=True)
class Added:
    """The result of adding a version.

    Attributes:
        version: the version.
        new: whether it is new; False if the same content had been added before.
        in_force: whether the stages ask this version.
    """

    version: Version
    new: bool
    in_force: bool


def add(settings: Settings, name: str, source: Path) -> Added:
    """Write the next version of a model to the model repository, and have Triton load it.

    If something fails, the repository stays as it was, and Triton goes on serving what it served.

    Args:
        settings: the settings.
        name: name of the model and of its files.
        source: folder with NAME.onnx, its card NAME.json, and NAME_calibration.json if it has one.

    Returns:
        The version, which answers. If the same content had been added before, that version.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: the files do not belong together, or have other inputs or outputs than the
            model.
        SettingsError: the settings do not name the folder that Triton reads.
        ModelUnavailable: Triton is away or does not accept the version.
    """
    directory = _repository(settings)
    triton.served(
        **settings.triton.control()
    )  # raises if Triton is away, before anything is written
    with FileLock(directory / LOCK), _model(settings, name) as model:
        before = repository.versions(directory, name)
        number = repository.add_version(directory, name, source)
        cards = repository.versions(directory, name)
        try:
            triton.load(model=name, **settings.triton.control())
            if not model.ready(number):
                raise ModelUnavailable(
                    f"Triton at {model.url} does not serve version {number} of model {name!r}, "
                    f"which was written to {directory}: is that the folder it reads?"
                )
            _require_answer(model, number)
            version = model.version(number)
            if networks.identity(version.card) != networks.identity(cards[number]):
                raise ModelUnavailable(
                    f"Triton at {model.url} serves another version {number} of model {name!r} than "
                    f"the one in {directory}: is that the folder it reads?"
                )
        except BaseException:
            if number not in before:
                served_already = model.ready(number)
                repository.remove_version(directory, name, number)
                if served_already:
                    _follow(settings, directory, name)
            raise
    return Added(version, number not in before, number == _in_force(settings, name))


@dataclass(frozen=True)
class Used:
    """A version that was put in force.

    Attributes:
        model: name of the model.
        version: the version.
        before: number of the version that was in force before.
    """

    model: str
    version: Version
    before: int


def use(settings: Settings, name: str, number: int) -> list[Used]:
    """Put a version of a model in force: the stages ask it from their next batch on.

    The refined redshift has two networks. With one, the other of the same training is put in force,
    in the same transaction.

    Returns:
        What was put in force: one version, or two for the refined redshift.

    Raises:
        ModelUnavailable: Triton does not serve it, or it does not answer; nothing is changed.
        StoreError: the store cannot be written.
    """
    there = triton.served(**settings.triton.control())
    if name not in there:
        raise ModelUnavailable(
            f"Triton at {settings.triton.url} does not serve a model {name!r}, but "
            f"{', '.join(there) or 'none'}"
        )
    with ExitStack() as stack:
        chosen = [(stack.enter_context(_model(settings, name)), number)]
        _require_answer(*chosen[0])
        if name in (COLOURS, GATE):
            other = stack.enter_context(_model(settings, GATE if name == COLOURS else COLOURS))
            chosen.append((other, _other_of_training(chosen[0][0], number, other)))
        versions = [model.version(each) for model, each in chosen]
        with closing(open_store(settings)) as store, store.writing() as writing:
            before = [writing.model_version(model.model) for model, _ in chosen]
            for model, each in chosen:
                writing.use_model(model.model, each)
        return [
            Used(model.model, version, former)
            for (model, _), version, former in zip(chosen, versions, before, strict=True)
        ]


def _other_of_training(model: Model, number: int, other: Model) -> int:
    """The newest version of the other network of the refined redshift, of the same training.

    Raises:
        ModelUnavailable: Triton serves none, or it does not answer.
    """
    assert isinstance(model, RefinedNetworkClient)
    assert isinstance(other, RefinedNetworkClient)
    training = model.beside(number).training
    found = other.of_training(training)
    if not found:
        raise ModelUnavailable(
            f"{model.model} version {number} is of {training['name']} {training['version']}, and "
            f"Triton at {model.url} serves no {other.model} of it: first mmbroker models add "
            f"{other.model} DIRECTORY"
        )
    _require_answer(other, found[-1])
    return found[-1]


def remove(settings: Settings, name: str, number: int) -> None:
    """Remove a version that is not in force from Triton and from the model repository.

    Raises:
        SettingsError: it is in force, or it is not in the folder that Triton reads.
        ModelUnavailable: Triton is away.
    """
    directory = _repository(settings)
    triton.served(**settings.triton.control())
    with closing(read_store(settings)) as store, store.reading() as reading:
        if _number_in_force(settings, reading, name) == number:
            raise SettingsError(f"{name} version {number} is in force; first use another")
    with FileLock(directory / LOCK):
        if number not in repository.versions(directory, name):
            raise SettingsError(f"there is no version {number} of model {name!r} in {directory}")
        repository.remove_version(directory, name, number)
        _follow(settings, directory, name)


def render(versions: list[Served]) -> Table:
    """The versions as a table."""
    table = Table()
    for name in ("model", "version", "in force", "SHA-256"):
        table.add_column(name, no_wrap=True)
    table.add_column("trained on")
    for each in versions:
        state = Text("in force", "green") if each.served else Text("not served", "red")
        table.add_row(
            each.model,
            str(each.version),
            state if each.in_force else "",
            each.sha256[:SHA256_SHOWN],
            Text(each.trained_on),
        )
    return table


def as_json(version: Served) -> dict[str, Any]:
    """A version as plain JSON values."""
    return asdict(version)


def _in_force(settings: Settings, name: str) -> int | None:
    if not store_exists(settings):
        # Opening the store would make it.
        return FIRST_VERSION if name in asked_models(settings) else None
    with closing(read_store(settings)) as store, store.reading() as reading:
        return _number_in_force(settings, reading, name)


def _number_in_force(settings: Settings, reading: Reading, name: str) -> int | None:
    """The version in force; None of a model that no stage asks and that nobody chose."""
    if name in asked_models(settings) or name in reading.model_versions():
        return reading.model_version(name)
    return None


def _follow(settings: Settings, directory: Path, name: str) -> None:
    """Have Triton serve only the versions that are in the repository."""
    follow = triton.load if repository.versions(directory, name) else triton.unload
    follow(model=name, **settings.triton.control())


def _require_answer(model: Model, number: int) -> None:
    """Make sure that a version is served, answers, and can be used by the stages.

    Raises:
        ModelUnavailable: Triton does not serve it, it does not answer, or it cannot be used.
    """
    numbers = model.versions()
    if number not in numbers:
        raise ModelUnavailable(
            f"Triton at {model.url} does not serve version {number} of model {model.model!r}, but "
            f"{', '.join(map(str, numbers))}: mmbroker models add loads the next one"
        )
    model.probe(number)
    model.require_usable(number)


def _model(settings: Settings, name: str) -> Model:
    kinds: dict[str, type[CriticClient | ParserClient | RefinedNetworkClient]] = {
        COLOURS: RefinedNetworkClient,
        GATE: RefinedNetworkClient,
        settings.triton.parser: SpectrumParserClient,
        settings.triton.map_parser: MapParserClient,
        settings.triton.critic: CriticClient,
    }
    kind = kinds.get(name, Model)
    return kind(settings.triton.url, name, deadline_s=settings.triton.deadline_s, retries=0)


def _described(name: str, version: Version, in_force: bool) -> Served:
    return Served(
        name,
        version.number,
        in_force,
        sha256=version.sha256,
        calibration_id=version.calibration_id,
        code_version=version.code_version,
        trained_on=version.trained_on,
    )


def _repository(settings: Settings) -> Path:
    directory = settings.triton.model_repository
    if directory is None:
        raise SettingsError(
            "triton.model_repository is not set: the folder that Triton at "
            f"{settings.triton.url} reads its models from, as it is seen from here"
        )
    if not directory.is_dir():
        raise SettingsError(f"triton.model_repository = {directory}: there is no such folder")
    return directory
