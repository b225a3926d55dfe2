from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnxruntime", reason="networks in ONNX need onnxruntime")

import onnxruntime

from mmbroker.models.packaged.networks import WEIGHTS
from mmbroker.models.packaged.refined import COLOURS, GATE
from mmbroker.models.serving.repository import add_version
from mmbroker.processors.redshift import refined
from mmbroker.processors.redshift.refined_networks import WITH_PUBLISHED, NumpyNetworks


@pytest.fixture(scope="module")
def weights() -> dict[str, np.ndarray]:
    with np.load(WEIGHTS / "refined.npz") as arrays:
        return dict(arrays)


def run(name: str, **inputs: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(
        str(WEIGHTS / f"{name}.onnx"), providers=["CPUExecutionProvider"]
    )
    return np.asarray(session.run(None, inputs)[0])


def test_colours_are_the_same_in_onnx_and_in_numpy(weights: dict[str, np.ndarray]) -> None:
    size = (7, len(weights["intervals"]))
    given = np.random.default_rng(0).normal(size=size).astype(np.float32)
    found = run(COLOURS, fluxes=given).transpose(1, 0, 2, 3)
    assert found == pytest.approx(NumpyNetworks(weights).colours(given), abs=1e-4)


def test_without_a_published_redshift_its_components_have_no_share() -> None:
    told = np.random.default_rng(0).normal(size=(6, refined.FEATURES)).astype(np.float32)
    published = np.array([[1], [0]] * 3, np.float32)
    shares = run(GATE, features=told, published=published)
    assert shares.sum(axis=1) == pytest.approx(np.ones(6), abs=1e-5)
    assert (shares[1::2, WITH_PUBLISHED] == 0).all()
    assert (shares[::2, WITH_PUBLISHED].sum(axis=1) > 0).all()


@pytest.mark.parametrize("name", [COLOURS, GATE])
def test_triton_can_be_given_both(tmp_path: Path, name: str) -> None:
    assert add_version(tmp_path, name, WEIGHTS, "container") == 1
    assert (tmp_path / name / "1" / "model.onnx").exists()
    card = json.loads((WEIGHTS / f"{name}.json").read_text())
    configuration = (tmp_path / name / "config.pbtxt").read_text()
    assert all(f'name: "{tensor}"' in configuration for tensor in {**card["inputs"]})
