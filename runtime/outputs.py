"""Whether the outputs of a bundle's graphs, as the manifest lists them, are what the parts behind them read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gmrt.runtime.errors import BundleError
from gmrt.runtime.fields import MANIFEST_NAME

if TYPE_CHECKING:
    from gmrt.runtime.manifest import HeadsSpec, Manifest


def check_hidden(manifest: Manifest, reader: str) -> None:
    """Refuse a decoder that does not give the hidden state that one of the heads reads."""
    found = manifest.decoder.outputs.get("last_hidden")
    if found is None or found.dtype != "float32" or found.axes[-1:] != (manifest.hidden_size,):
        raise BundleError(
            f"{MANIFEST_NAME}: components.decoder.outputs needs last_hidden, float32 and {manifest.hidden_size} wide, "
            f"for {reader}: export the bundle again"
        )


def check_places(manifest: Manifest) -> None:
    """Refuse a tower that does not tell a locator what is where."""
    found = manifest.vision.outputs.get("image_places")
    sizes = () if found is None else tuple(axis for axis in found.axes[1:] if isinstance(axis, int) and axis > 0)
    if found is None or found.dtype != "float32" or len(found.axes) != 4 or len(sizes) != 3 or sizes[1] != sizes[2]:
        raise BundleError(
            f"{MANIFEST_NAME}: components.vision.outputs needs image_places, float32 [batch, P, G, G], for a locator: "
            "export the bundle again"
        )


def check_heads(heads: HeadsSpec, manifest: Manifest) -> None:
    """Refuse a head that does not take what the decoder gives, or that answers other than its measures."""
    names = [measure.name for measure in heads.measures]
    if not names or len(set(names)) != len(names):
        raise BundleError(f"{MANIFEST_NAME}: components.heads needs measures of different names, got {names}")
    check_hidden(manifest, f"{len(names)} measures")
    wanted = {
        "heads.inputs": (heads.inputs, "last_hidden", manifest.hidden_size),
        "heads.outputs": (heads.outputs, "values", len(names)),
    }
    for where, (tensors, name, width) in wanted.items():
        found = tensors.get(name)
        if found is None or found.dtype != "float32" or found.axes[-1:] != (width,):
            raise BundleError(
                f"{MANIFEST_NAME}: components.{where} needs {name}, float32 and {width} wide, for "
                f"{len(names)} measures: export the bundle again"
            )


def check_logits(manifest: Manifest) -> None:
    """Refuse a head for a part of the words that does not say how many columns its logits have."""
    if manifest.vocabulary is None:
        return
    found = manifest.decoder.outputs.get("logits")
    columns = None if found is None or not found.axes else found.axes[-1]
    if not isinstance(columns, int) or not 0 < columns <= manifest.vocab_size:
        raise BundleError(
            f"{MANIFEST_NAME}: components.decoder.outputs needs logits with 1 to {manifest.vocab_size} columns for a "
            f"vocabulary, got {columns!r}: export the bundle again"
        )
