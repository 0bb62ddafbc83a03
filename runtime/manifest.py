"""The bundle's manifest: ``bundle.json`` as frozen dataclasses, with a reader that trusts nothing.

The exporter writes through the same classes (`Manifest.to_dict`, `bundle_id`), so the schema is stated once. Within
major version 1 unknown keys are ignored; everything known must be there, of the right type and in range.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, cast, get_args

from gmrt.runtime.confidence import Knots, read_knots
from gmrt.runtime.errors import BundleError
from gmrt.runtime.fields import (
    MANIFEST_NAME,
    read_choice,
    read_field,
    read_number,
    read_object,
    read_path,
    read_text,
    read_version,
    read_whole,
    refusal,
)
from gmrt.runtime.image import ImageSpec
from gmrt.runtime.outputs import check_heads, check_hidden, check_logits, check_places
from gmrt.runtime.points import GRID
from gmrt.runtime.profiles import Profile, capacities, chunk_size, read_profiles
from gmrt.runtime.prompt import PromptLayout
from gmrt.runtime.scalar import Measure

SCHEMA_MAJOR = 1
SCHEMA_VERSION = "1.1"
ENGINES = "engines"
"""Folder of per-device caches beside the bundle: never hashed, never needed."""

Precision = Literal["fp32", "fp16", "int8", "int4"]
Target = Literal["cpu", "cuda", "tensorrt"]
COORDINATES: Mapping[str, Any] = {"grid": GRID, "origin": "top-left", "order": "x y", "cell": "centre"}
"""The one convention that `gmrt.runtime.points` implements; a bundle that states another is refused."""

_SHA256 = re.compile(r"[0-9a-f]{64}")
_LIMITS = {"layers": 512, "kv_heads": 512, "head_dim": 1024, "max_length": 1 << 20}
_MAX_HIDDEN, _MAX_VOCAB = 1 << 16, 1 << 22
_CACHE_BYTES = {"float32": 4, "float16": 2, "int8": 1}
_MAX_IMAGES, _MAX_SETS, _MAX_SCORE = 1 << 32, 64, 1e30


@dataclass(frozen=True)
class FileEntry:
    """What the manifest promises about one file: ``sha256`` in lower-case hex, and its size in ``bytes``."""

    sha256: str
    bytes: int

    def to_dict(self) -> dict[str, Any]:
        """Return the manifest's object."""
        return asdict(self)


@dataclass(frozen=True)
class TensorSpec:
    """``dtype`` as a numpy name, ``axes`` as sizes (int) or names (str) in order."""

    dtype: str
    axes: tuple[int | str, ...]


@dataclass(frozen=True)
class GraphSpec:
    """One ONNX graph: its file, its precision in words, and its inputs and outputs by name.

    ``fits_16_bits`` says that no sum of two of its 8-bit products passes 16 bits, so that kernels without VNNI are
    exact on it as they are.
    """

    file: str
    precision: str
    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
    fits_16_bits: bool = field(default=False, kw_only=True)

    def to_dict(self) -> dict[str, Any]:
        """Return the manifest's object."""

        def tensors(specs: Mapping[str, TensorSpec]) -> dict[str, Any]:
            return {name: {"dtype": spec.dtype, "axes": list(spec.axes)} for name, spec in specs.items()}

        return {
            "file": self.file,
            "precision": self.precision,
            "inputs": tensors(self.inputs),
            "outputs": tensors(self.outputs),
            "fits_16_bits": self.fits_16_bits,
        }


@dataclass(frozen=True)
class HeadsSpec(GraphSpec):
    """The regression head: last_hidden float32 [n, D] to values float32 [n, K], one for each of ``measures``."""

    measures: tuple[Measure, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the manifest's object."""
        return super().to_dict() | {"measures": [asdict(measure) for measure in self.measures]}


@dataclass(frozen=True)
class EmbeddingsSpec:
    """The token table: ``file`` [V, D]; ``scale`` names the float32 [V] file of an int8 table, else None."""

    file: str
    scale: str | None
    precision: str

    def to_dict(self) -> dict[str, Any]:
        """Return the manifest's object."""
        return asdict(self)


@dataclass(frozen=True)
class ProfileSpec:
    """Profiles of sets of images in ``file``, with their number of ``axes`` and the threshold of each one's score."""

    file: str
    axes: int
    thresholds: tuple[float, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the manifest's object."""
        return {"file": self.file, "axes": self.axes, "thresholds": list(self.thresholds)}


@dataclass(frozen=True)
class FamiliarSpec:
    """What was calibrated on (`gmrt.runtime.familiar`), to flag an image that is unlike it.

    Profiles of the tower's ``embeddings`` and of its input's ``pixels``, one for each of the ``sets``, which are named;
    the thresholds are the ``quantile`` of held-out scores, of ``images`` images in all.
    """

    embeddings: ProfileSpec
    pixels: ProfileSpec
    sets: tuple[str, ...]
    quantile: float
    images: int

    def to_dict(self) -> dict[str, Any]:
        """Return the manifest's object."""
        return {
            "embeddings": self.embeddings.to_dict(),
            "pixels": self.pixels.to_dict(),
            "sets": list(self.sets),
            "quantile": self.quantile,
            "images": self.images,
        }


@dataclass(frozen=True)
class CacheGeometry:
    """Shape of the KV cache: per layer K and V [batch, kv_heads, capacity, head_dim] of ``dtype``.

    int8 holds codes; the scales, one a channel, are the decoder graph's own.

    ``max_length`` is the largest capacity, in tokens, that the decoder's position table allows.
    """

    layers: int
    kv_heads: int
    head_dim: int
    dtype: str
    max_length: int

    @property
    def bytes_per_token(self) -> int:
        """2 (K and V) · layers · kv_heads · head_dim · bytes per number."""
        return 2 * self.layers * self.kv_heads * self.head_dim * _CACHE_BYTES[self.dtype]


@dataclass(frozen=True)
class Manifest:
    """Everything that ``bundle.json`` says. Build one with `read_manifest`, or directly when exporting."""

    schema_version: str
    id: str
    name: str
    created: str
    precision: Precision
    target: Target
    min_onnxruntime: str
    files: Mapping[str, FileEntry]
    vision: GraphSpec
    decoder: GraphSpec
    heads: HeadsSpec | None
    embeddings: EmbeddingsSpec
    tokenizer: str
    template: str
    cache: CacheGeometry
    hidden_size: int
    vocab_size: int
    image: ImageSpec
    prompt: PromptLayout
    coordinates: Mapping[str, Any]
    calibration: Mapping[str, Any] | None
    parity: Mapping[str, Any]
    provenance: Mapping[str, Any]
    familiar: FamiliarSpec | None = None
    locator: str | None = None
    confidence: Knots = ()
    profiles: tuple[Profile, ...] = ()
    vocabulary: str | None = None

    @property
    def logits_size(self) -> int:
        """Columns of the logits: all words of the table, or those that the file ``vocabulary`` lists."""
        return self.vocab_size if self.vocabulary is None else int(self.decoder.outputs["logits"].axes[-1])

    @property
    def buckets(self) -> tuple[int, ...]:
        """Capacities of the cache that the decoder's profiles allow, ascending; none in the onnxruntime dialect."""
        return capacities(self.profiles)

    @property
    def chunk(self) -> int:
        """The most new tokens that one run of a decoder with profiles takes."""
        return chunk_size(self.profiles)

    @property
    def places(self) -> tuple[int, int, int]:
        """Shape P, G, G of what the tower tells the locator of an image; a bundle with a locator has it."""
        numbers, rows, columns = (int(axis) for axis in self.vision.outputs["image_places"].axes[1:])
        return numbers, rows, columns

    def to_dict(self) -> dict[str, Any]:
        """Return the object to write as ``bundle.json``; the inverse of `read_manifest`."""
        components: dict[str, Any] = {"vision": self.vision.to_dict(), "decoder": self.decoder.to_dict()}
        if self.heads is not None:
            components["heads"] = self.heads.to_dict()
        if self.locator is not None:
            components["locator"] = {"file": self.locator}
        if self.vocabulary is not None:
            components["vocabulary"] = {"file": self.vocabulary}
        if self.familiar is not None:
            components["familiar"] = self.familiar.to_dict()
        components |= {
            "embeddings": self.embeddings.to_dict(),
            "tokenizer": {"file": self.tokenizer},
            "template": {"file": self.template},
        }
        return {
            "schema_version": self.schema_version,
            "id": self.id,
            "name": self.name,
            "created": self.created,
            "precision": self.precision,
            "target": self.target,
            "min_onnxruntime": self.min_onnxruntime,
            "files": {name: entry.to_dict() for name, entry in sorted(self.files.items())},
            "components": components,
            "cache": asdict(self.cache),
            "hidden_size": self.hidden_size,
            "vocab_size": self.vocab_size,
            "image": self.image.to_dict(),
            "prompt": self.prompt.to_dict(),
            "coordinates": dict(self.coordinates),
            "calibration": None if self.calibration is None else dict(self.calibration),
            "parity": dict(self.parity),
            "provenance": dict(self.provenance),
            **({"confidence": [list(knot) for knot in self.confidence]} if self.confidence else {}),
            **({"profiles": [profile.to_dict() for profile in self.profiles]} if self.profiles else {}),
        }


def bundle_id(files: Mapping[str, FileEntry]) -> str:
    """Name a bundle by its content: 16 hex of the sha256 over the sorted lines ``file:sha256``."""
    lines = sorted(f"{name}:{entry.sha256}" for name, entry in files.items())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def read_manifest(data: object) -> Manifest:
    """Read a decoded ``bundle.json``.

    Raises `BundleError` for another major schema version, a missing field, a wrong type, a number out of range, a
    path that is absolute or climbs out, a component without a file entry, or an id that does not fit the files.
    """
    if not isinstance(data, dict):
        raise BundleError(f"{MANIFEST_NAME}: expected an object, got {type(data).__name__}")
    version = read_text(data, "schema_version")
    if version.split(".", maxsplit=1)[0] != str(SCHEMA_MAJOR):
        raise BundleError(
            f"{MANIFEST_NAME}: schema version {version!r} is not one that this gmrt reads ({SCHEMA_MAJOR}.x): "
            "install the gmrt that wrote it, or export the bundle again"
        )
    files = {read_path(name, "files"): _file_entry(name, entry) for name, entry in read_object(data, "files").items()}
    components = read_object(data, "components")
    hidden_size, vocab_size = read_whole(data, "hidden_size", _MAX_HIDDEN), read_whole(data, "vocab_size", _MAX_VOCAB)
    calibration = data.get("calibration")
    manifest = Manifest(
        schema_version=version,
        id=read_text(data, "id"),
        name=read_text(data, "name"),
        created=read_text(data, "created"),
        precision=cast(Precision, read_choice(data, "precision", get_args(Precision))),
        target=cast(Target, read_choice(data, "target", get_args(Target))),
        min_onnxruntime=read_version(data, "min_onnxruntime"),
        files=files,
        vision=_graph(components, "vision"),
        decoder=_graph(components, "decoder"),
        heads=_heads(components) if "heads" in components else None,
        embeddings=_embeddings(components),
        tokenizer=_component_file(components, "tokenizer"),
        template=_component_file(components, "template"),
        cache=_cache(read_object(data, "cache")),
        hidden_size=hidden_size,
        vocab_size=vocab_size,
        image=ImageSpec.from_dict(read_object(data, "image")),
        prompt=PromptLayout.from_dict(read_object(data, "prompt")),
        coordinates=read_object(data, "coordinates"),
        calibration=None if calibration is None else read_object(data, "calibration"),
        parity=read_object(data, "parity"),
        provenance=read_object(data, "provenance"),
        familiar=_familiar(components) if "familiar" in components else None,
        locator=_component_file(components, "locator") if "locator" in components else None,
        confidence=_knots(data.get("confidence", [])),
        profiles=read_profiles(data),
        vocabulary=_component_file(components, "vocabulary") if "vocabulary" in components else None,
    )
    _check_consistent(manifest)
    return manifest


def _check_consistent(manifest: Manifest) -> None:
    """Refuse a manifest whose parts, each well-formed, do not fit each other or this runtime."""
    graphs = [graph.file for graph in (manifest.vision, manifest.decoder, manifest.heads) if graph is not None]
    known = manifest.familiar
    profiles = () if known is None else (known.embeddings.file, known.pixels.file)
    tables = (manifest.embeddings.file, manifest.embeddings.scale, manifest.locator, manifest.vocabulary)
    parts = (*tables, manifest.tokenizer, manifest.template, *profiles)
    for name in (*graphs, *parts):
        if name is not None and name not in manifest.files:
            raise BundleError(f"{MANIFEST_NAME}: {name} is used but has no entry under files: export the bundle again")
    if manifest.heads is not None:
        check_heads(manifest.heads, manifest)
    if manifest.locator is not None:
        check_hidden(manifest, "a locator")
        check_places(manifest)
    check_logits(manifest)
    if manifest.target == "tensorrt" and (not manifest.chunk or manifest.buckets[-1] < manifest.cache.max_length):
        raise BundleError(
            f"{MANIFEST_NAME}: a bundle for tensorrt needs profiles of its decoder up to {manifest.cache.max_length} "
            "tokens: export the bundle again"
        )
    if manifest.id != bundle_id(manifest.files):
        raise BundleError(f"{MANIFEST_NAME}: the id {manifest.id!r} does not fit the files: export the bundle again")
    for key, value in COORDINATES.items():
        if manifest.coordinates.get(key) != value:
            raise BundleError(
                f"{MANIFEST_NAME}: coordinates.{key} is {manifest.coordinates.get(key)!r} and this gmrt reads "
                f"{value!r}: install the gmrt that wrote the bundle"
            )
    for token in (manifest.prompt.image_token_id, *manifest.prompt.eos_token_ids):
        if not 0 <= token < manifest.vocab_size:
            raise BundleError(f"{MANIFEST_NAME}: prompt names token {token} of {manifest.vocab_size}")
    if not manifest.prompt.eos_token_ids or manifest.prompt.max_images < 1:
        raise BundleError(f"{MANIFEST_NAME}: prompt needs an end token and at least one image")


def _file_entry(name: str, entry: object) -> FileEntry:
    if not isinstance(entry, dict):
        raise refusal(f"files[{name!r}]", "an object", entry)
    size = read_field(entry, "bytes", int, "a whole number")
    digest = read_text(entry, "sha256")
    if size < 0 or not _SHA256.fullmatch(digest):
        raise refusal(f"files[{name!r}]", "a sha256 in lower-case hex and a size in bytes", entry)
    return FileEntry(digest, size)


def _component_file(components: Mapping[str, Any], name: str) -> str:
    return read_path(read_text(read_object(components, name), "file"), f"components.{name}")


def _graph(components: Mapping[str, Any], name: str) -> GraphSpec:
    data = read_object(components, name)
    return GraphSpec(
        file=_component_file(components, name),
        precision=read_text(data, "precision"),
        inputs={key: _tensor(key, value) for key, value in read_object(data, "inputs").items()},
        outputs={key: _tensor(key, value) for key, value in read_object(data, "outputs").items()},
        fits_16_bits=data.get("fits_16_bits") is True,
    )


def _heads(components: Mapping[str, Any]) -> HeadsSpec:
    graph, measures = (
        _graph(components, "heads"),
        read_field(read_object(components, "heads"), "measures", list, "a list"),
    )
    if not all(isinstance(measure, dict) for measure in measures):
        raise refusal("components.heads.measures", "a list of objects", measures)
    return HeadsSpec(
        **vars(graph), measures=tuple(Measure(read_text(m, "name"), read_text(m, "unit")) for m in measures)
    )


def _tensor(name: str, data: object) -> TensorSpec:
    if not isinstance(data, dict):
        raise refusal(name, "an object with dtype and axes", data)
    axes = read_field(data, "axes", list, "a list")
    if not all(isinstance(axis, (int, str)) and not isinstance(axis, bool) for axis in axes):
        raise refusal(f"{name}.axes", "sizes and names", axes)
    return TensorSpec(read_text(data, "dtype"), tuple(axes))


def _embeddings(components: Mapping[str, Any]) -> EmbeddingsSpec:
    data = read_object(components, "embeddings")
    scale = data.get("scale")
    return EmbeddingsSpec(
        file=_component_file(components, "embeddings"),
        scale=None if scale is None else read_path(scale, "components.embeddings"),
        precision=read_text(data, "precision"),
    )


def _familiar(components: Mapping[str, Any]) -> FamiliarSpec:
    data = read_object(components, "familiar")
    sets = read_field(data, "sets", list, "a list of names")
    if not 0 < len(sets) <= _MAX_SETS or not all(isinstance(name, str) for name in sets):
        raise refusal("components.familiar.sets", f"1 to {_MAX_SETS} names", sets)
    return FamiliarSpec(
        embeddings=_profile(data, "embeddings", len(sets)),
        pixels=_profile(data, "pixels", len(sets)),
        sets=tuple(sets),
        quantile=read_number("components.familiar.quantile", data.get("quantile"), 1),
        images=read_whole(data, "images", _MAX_IMAGES),
    )


def _profile(data: Mapping[str, Any], name: str, sets: int) -> ProfileSpec:
    profile = read_object(data, name)
    thresholds = read_field(profile, "thresholds", list, "a list of numbers")
    if len(thresholds) != sets:
        raise refusal(f"components.familiar.{name}.thresholds", f"{sets} numbers, one for each set", thresholds)
    return ProfileSpec(
        file=read_path(read_text(profile, "file"), f"components.familiar.{name}"),
        axes=read_whole(profile, "axes", _MAX_HIDDEN),
        thresholds=tuple(read_number(f"components.familiar.{name}.thresholds", t, _MAX_SCORE) for t in thresholds),
    )


def _knots(data: object) -> Knots:
    try:
        return read_knots(data)
    except (ValueError, TypeError) as error:
        raise BundleError(f"{MANIFEST_NAME}: confidence: {error}: export the bundle again") from None


def _cache(data: Mapping[str, Any]) -> CacheGeometry:
    sizes = {key: read_whole(data, key, limit) for key, limit in _LIMITS.items()}
    return CacheGeometry(dtype=read_choice(data, "dtype", tuple(_CACHE_BYTES)), **sizes)
