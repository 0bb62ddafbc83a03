"""`gmrt.runtime.verify`: a bundle checked against itself, where there is no torch."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from gmrt.runtime.bundle import open_bundle
from gmrt.runtime.errors import BundleError
from gmrt.runtime.image import ImageSpec
from gmrt.runtime.manifest import Precision
from gmrt.runtime.verify import golden_pixels, verify_bundle

Exports = Callable[[str, str], tuple[Path, Any]]


@pytest.fixture
def altered(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A copy of the tiny bundle that a test may change."""
    return Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))


def edit(bundle: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the parity record, which no hash covers."""
    data = json.loads((bundle / "bundle.json").read_text())
    change(data["parity"])
    (bundle / "bundle.json").write_text(json.dumps(data))


@pytest.mark.parametrize("precision", get_args(Precision))
def test_fresh_bundle_verifies(precision: str, exports: Exports) -> None:
    """Guards against golden answers that the bundle itself does not give, in any precision."""
    found = verify_bundle(exports("tiny-llama", precision)[0])
    assert found.ok
    assert found.firm >= 8
    assert found.parity["passed"] is True


def test_another_answer_is_noticed(altered: Path) -> None:
    """Guards against a comparison that is never made."""

    def change(parity: dict[str, Any]) -> None:
        case = parity["golden"][0]
        case["top"][case["firm"].index(True)] += 1

    edit(altered, change)
    found = verify_bundle(altered)
    assert not found.ok
    assert found.matched == found.firm - 1


def test_close_calls_are_not_compared(altered: Path) -> None:
    """Guards against a failure on another CPU, where sums are rounded otherwise."""

    def change(parity: dict[str, Any]) -> None:
        case = parity["golden"][0]
        place = case["firm"].index(True)
        case["top"][place] += 1
        case["firm"][place] = False

    edit(altered, change)
    assert verify_bundle(altered).ok


@pytest.mark.parametrize(
    "change",
    [
        lambda parity: parity.pop("golden"),
        lambda parity: parity["golden"][0].pop("top"),
        lambda parity: parity["golden"][0]["firm"].pop(),
        lambda parity: parity["golden"][0]["answer"].__setitem__(0, 10**9),
        lambda parity: parity["golden"].__setitem__(0, "nothing"),
    ],
)
def test_untrusted_golden_cases_are_refused(altered: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Guards against a traceback, or an index out of the table, from a manifest that somebody wrote by hand."""
    edit(altered, change)
    with pytest.raises(BundleError, match="golden"):
        verify_bundle(altered)


def test_altered_graph_is_refused(altered: Path) -> None:
    """Guards against a verification that skips the hashes."""
    file = altered / "decoder.onnx"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(BundleError, match=r"decoder\.onnx"):
        verify_bundle(altered)


def test_golden_pictures_are_the_same_everywhere(tiny_bundle: Path) -> None:
    """Guards against a generator that a release of numpy changes: the sum over a picture is written down here."""
    spec = ImageSpec(16, 16, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), 1)
    picture = golden_pixels(1, spec)
    assert picture.shape == (3, 16, 16)
    assert picture.dtype == np.float32
    np.testing.assert_allclose(picture.sum(axis=(1, 2)), (-17.788233, -3.7647038, -1.6313734), rtol=1e-4)
    assert open_bundle(tiny_bundle).manifest.parity["golden"][0]["seed"] == 1
