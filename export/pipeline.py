"""Checkpoint → bundle: check, calibrate, build, prove, publish.

The bundle is built under a temporary name beside its place and renamed when its gate is passed: at no time does a
bundle stand there that is not whole and proved.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timezone
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import torch

from gmrt.calibration import familiar
from gmrt.calibration.confidence import load_confidence
from gmrt.calibration.decoder import measure_decoder
from gmrt.calibration.familiar import Encode, Fitted, describe_images, fit_familiarity, load_fitted
from gmrt.calibration.images import ImageSet, generated_images, open_images
from gmrt.calibration.measure import measure
from gmrt.calibration.record import RECORD_NAME, Record, load_record
from gmrt.calibration.spoken import decoder_samples
from gmrt.calibration.suited import check_suited
from gmrt.calibration.vocabulary import check_size
from gmrt.export.checkpoint import Checkpoint, check_checkpoint, open_checkpoint, sha256_of
from gmrt.export.dialects import NOTHING, Cache, Prepared, bundle_profiles, decoder_spec, plain_decoder, prepare_decoder
from gmrt.export.gate import QUESTIONS, Report, golden_cases, require, run_gate
from gmrt.export.heads import build_heads
from gmrt.export.layers import layer_errors
from gmrt.export.operators import require_readable
from gmrt.export.plan import Bounds, Plan
from gmrt.export.precision import MIN_ONNXRUNTIME, Recipe, recipe_for
from gmrt.export.quantize import observed_tensors, quantise_tower
from gmrt.export.report import Findings, write_report
from gmrt.export.sensitivity import LayerScan, scan
from gmrt.export.tower import build_tower
from gmrt.export.w8a8 import Smoothing, static_tower
from gmrt.runtime.backends import create_backend
from gmrt.runtime.backends.int8_cache import require_int8_cache
from gmrt.runtime.bundle import open_bundle
from gmrt.runtime.errors import BundleError, GmrtError, MissingExtraError
from gmrt.runtime.image import ImageSpec
from gmrt.runtime.manifest import (
    COORDINATES,
    MANIFEST_NAME,
    SCHEMA_VERSION,
    CacheGeometry,
    EmbeddingsSpec,
    FileEntry,
    GraphSpec,
    HeadsSpec,
    Manifest,
    Precision,
    Target,
    TensorSpec,
    bundle_id,
    read_manifest,
)
from gmrt.runtime.scalar import Measure

FloatArray = npt.NDArray[np.float32]
Progress = Callable[[int, int], None]

VISION, DECODER, HEADS, LOCATOR = "vision.onnx", "decoder.onnx", "heads.onnx", "locator.npz"
TABLE, SCALE, VOCABULARY = "embeddings.npy", "embeddings_scale.npy", "vocabulary.npy"
TOKENIZER, TEMPLATE = "tokenizer.json", "chat_template.jinja"

# A protobuf message ends at 2 GiB; weights of more than this lie beside their graph.
_SINGLE_FILE = 1_500_000_000
_STEPS, _FINE = 6, 100
# Pictures that layers are scanned on, and that the report compares the tower's layers on.
_SCANNED, _LAYERED = 4, 4
_PROFILED = 800
# Pictures that the decoder is asked about while its inputs are measured.
_ASKED = 48


def export_bundle(
    checkpoint: Path | str,
    output: Path | str,
    *,
    precision: Precision,
    target: Target | None = None,
    calibration: Path | str | None = None,
    cache: Cache = "float",
    words: int | None = None,
    bounds: Bounds | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Report:
    """Export a checkpoint's directory as a bundle at ``output`` and return the report of its gate.

    ``target`` is cuda by default for fp16, else cpu. ``calibration`` is a folder of images, a parquet file, a raster,
    or a calibration record (.json); images unlike those of training are refused. Without it the record beside the
    checkpoint is used if it is of these weights, else generated scenes. Enough images also tell which images are to be
    flagged as unfamiliar; without them the profile beside the checkpoint does, if it is of these weights. ``cache``
    int8 keeps keys and values in 8 bits, which only newer releases of onnxruntime read. ``words`` is how many the head
    keeps (`gmrt.calibration.vocabulary`), None for all. With ``bounds`` every layer is scanned, and planned under them.
    ``progress`` is called with (steps done, of). A bundle that stands at ``output`` is replaced; a report is written
    into it.

    Raises `CheckpointError`, `SceneError`, `BundleError` or `MissingExtraError` before anything is computed, and
    `GateError` when the bundle does not agree with the checkpoint; in every case nothing is written.
    """
    step = _Steps(progress or (lambda _done, _total: None))
    output = Path(output)
    target = target or ("cuda" if precision == "fp16" else "cpu")
    recipe = recipe_for(precision, target)
    _check(Path(checkpoint), output, target, cache)
    if bounds is not None:
        _check_plannable(precision, target)
    source = open_checkpoint(checkpoint)
    if words is not None:
        check_size(source.model, source.processor, words)
    spec = source.model.config.image_spec
    given = None if calibration is None else _given(Path(calibration), source)
    strangeness = _check_suited(source, given) if isinstance(given, ImageSet) else None
    step()
    with _staging(output) as folder:
        tower, record = _measured_tower(source, recipe, given, seed, fused=target != "tensorrt")
        if record is not None and strangeness is not None:
            record = replace(record, strangeness=strangeness)
        step()

        shown, gate_images = (given if isinstance(given, ImageSet) else generated_images(seed)).split(seed)
        made = prepare_decoder(source, recipe, record, shown, cache=cache, words=words, seed=seed, progress=step.part)

        def compose(planned: Plan | None) -> Manifest:
            graph = tower
            if record is not None and recipe.static:
                graph = static_tower(source.model.config, source.weights(), record, _pixel_range(spec))
            elif record is not None:
                floats = () if planned is None else planned.floats
                graph = ir.from_proto(quantise_tower(tower, record, _pixel_range(spec), floats))
            manifest = _write(folder, source, precision, target, graph, record, planned, made)
            return _add_familiar(folder, manifest, source, given)

        manifest = compose(None)
        table: tuple[LayerScan, ...] = ()
        planned = None
        if bounds is not None and record is not None:
            pictures = shown.spread(_SCANNED).pixels(spec)
            table = scan(source, tower, record, _pixel_range(spec), pictures, QUESTIONS, precision, progress)
            planned = bounds.plan(table, _bytes(manifest))
            for file in folder.iterdir():
                file.unlink()
            manifest = compose(planned)
        step()
        report = run_gate(source, folder, gate_images.pixels(spec), gate_images.source)
        require(report, "so nothing was written")
        step()
        parity = dict(manifest.parity) | report.to_dict() | {"golden": golden_cases(folder, source)}
        _write_manifest(folder, replace(manifest, parity=parity))
        step()
        layers = layer_errors(source, open_bundle(folder), gate_images.spread(_LAYERED).pixels(spec))
        write_report(folder, manifest, Findings(report, layers, table, planned))
        step()
    return report


def calibrate(checkpoint: Path | str, images: Path | str, *, seed: int = 0) -> Record:
    """Measure a checkpoint's tower and decoder on images.

    Saved as ``calibration.json`` beside the checkpoint, the record makes exports without images.

    Raises `CheckpointError` or `SceneError` when one of the two cannot be used.
    """
    source = open_checkpoint(checkpoint)
    tower = build_tower(source.model.config, source.weights(), fused=True)
    given = open_images(images, source.model.config.image_spec)
    record = replace(_measured(source, tower, given, seed), strangeness=_check_suited(source, given))
    return _with_decoder(source, record, given)


def fit_familiar(
    checkpoint: Path | str, images: Sequence[Path | str | ImageSet], *, each: int = _PROFILED, seed: int = 0
) -> Fitted:
    """Fit the profile of what a checkpoint was trained on, from up to ``each`` images of every set.

    Saved beside the checkpoint (`Fitted.save`), it gives exports without images their flag for unfamiliar ones.
    Raises `CheckpointError`, or `SceneError` when a set cannot be read.
    """
    source = open_checkpoint(checkpoint)
    spec = source.model.config.image_spec
    sets = [one if isinstance(one, ImageSet) else open_images(one, spec) for one in images]
    described = [describe_images(one.source, _encoder(source), one.spread(each).pixels(spec)) for one in sets]
    return fit_familiarity(described, checkpoint=source.sha256, seed=seed)


def _encoder(source: Checkpoint) -> Encode:
    @torch.inference_mode()
    def encode(pixels: FloatArray) -> FloatArray:
        return source.model.encode_images(torch.from_numpy(pixels)).numpy()

    return encode


def _check_suited(source: Checkpoint, images: ImageSet) -> float | None:
    """Refuse images of another sensor than those of training; None where no profile of these weights can tell."""
    fitted = _beside(source)
    if fitted is None:
        return None
    return round(check_suited(images, source.model.config.image_spec, fitted.familiarity, _encoder(source)), 3)


def _beside(source: Checkpoint) -> Fitted | None:
    """The profiles beside a checkpoint, if they are of its weights."""
    if not (source.path / familiar.PROFILE_NAME).is_file():
        return None
    fitted = load_fitted(source.path, source.decoder.hidden)
    return fitted if fitted.checkpoint == source.sha256 else None


def _check(checkpoint: Path, output: Path, target: Target, cache: Cache) -> None:
    """Refuse what can be refused before the long work."""
    check_checkpoint(checkpoint)
    if find_spec("onnxruntime") is None:
        raise MissingExtraError(
            'an export is proved in onnxruntime, which is not installed: pip install "gmrt[export,cpu]"'
        )
    if cache == "int8":
        if target != "cpu":
            raise GmrtError(f"a cache of 8 bits was proved on the CPU only: leave --cache int8 out for {target}")
        require_int8_cache(str(output))
    parent = output.resolve().parent
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise BundleError(f"{output}: there is no folder {parent} that can be written to: make it first")
    if output.is_symlink() or (output.exists() and not _replaceable(output)):
        raise BundleError(f"{output}: exists and is not a bundle: choose another place for the bundle")


def _check_plannable(precision: Precision, target: Target) -> None:
    """Refuse a scan of layers where there is nothing to choose, or no other kernel to choose."""
    if not recipe_for(precision, target).integer_tower:
        raise GmrtError(f"{precision} quantises nothing, so there is nothing to scan or plan: ask for int8 or int4")
    if target == "tensorrt":
        raise GmrtError("a plan layer by layer is made for the targets cpu and cuda only: leave its limits out")


def _replaceable(output: Path) -> bool:
    return output.is_dir() and ((output / MANIFEST_NAME).is_file() or not any(output.iterdir()))


def _given(path: Path, source: Checkpoint) -> ImageSet | Record:
    """What the caller gave to calibrate with: images, or a record of these very weights."""
    if path.suffix.lower() != ".json":
        return open_images(path, source.model.config.image_spec)
    record = load_record(path)
    if record.checkpoint != source.sha256:
        raise GmrtError(f"{path}: was measured on other weights than those in {source.path}: calibrate again")
    return record


def _record(source: Checkpoint, tower: ir.Model, given: ImageSet | Record | None, seed: int) -> Record:
    """Ranges from what was given, else from the record beside the checkpoint if it fits, else from generated scenes."""
    if isinstance(given, Record):
        return given
    if given is not None:
        return _measured(source, tower, given, seed)
    beside = source.path / RECORD_NAME
    if beside.is_file() and (record := load_record(beside)).checkpoint == source.sha256:
        return record
    return _measured(source, tower, generated_images(seed), seed)


def _measured_tower(
    source: Checkpoint, recipe: Recipe, given: ImageSet | Record | None, seed: int, *, fused: bool
) -> tuple[ir.Model, Record | None]:
    """The tower in floats, and the record that an integer precision is made from."""
    config, weights = source.model.config, source.weights()
    if not recipe.integer_tower:
        return build_tower(config, weights, recipe.activations, between=recipe.between, fused=fused), None
    # Ranges are always measured on the same graph, whatever dialect is then made of them.
    tower = build_tower(config, weights, fused=True)
    record = _record(source, tower, given, seed)
    if recipe.decoder_statistics and record.decoder is None and not isinstance(given, Record):
        record = _with_decoder(source, record, given or generated_images(seed))
    return tower, record


def _measured(source: Checkpoint, tower: ir.Model, images: ImageSet, seed: int) -> Record:
    pictures = images.split(seed)[0]
    spec = source.model.config.image_spec
    return measure(
        tower,
        observed_tensors(tower),
        pictures.pixels(spec),
        source=images.source,
        seed=seed,
        checkpoint=source.sha256,
        sensors=pictures.sensors,
    )


def _with_decoder(source: Checkpoint, record: Record, images: ImageSet) -> Record:
    """Add what goes through the decoder when it makes up text, and when it is shown and asked about images."""
    shown = images.split(record.seed)[0].spread(_ASKED)
    samples = decoder_samples(source.model, source.processor, shown, record.seed)
    return replace(record, decoder=measure_decoder(source.model.decoder, samples, f"made-up text; {images.source}"))


def _pixel_range(spec: ImageSpec) -> tuple[float, float]:
    """What preprocessing can give at most: black and white in the channel where they are farthest from the mean."""
    pairs = list(zip(spec.mean, spec.std, strict=True))
    return min(-mean / std for mean, std in pairs), max((1 - mean) / std for mean, std in pairs)


def _write(
    folder: Path,
    source: Checkpoint,
    precision: Precision,
    target: Target,
    tower: ir.Model,
    record: Record | None,
    planned: Plan | None = None,
    made: Prepared = NOTHING,
) -> Manifest:
    """Write every file of the bundle; its parity record holds the plan, if there is one, and nothing else."""
    recipe, spec, config = recipe_for(precision, target), decoder_spec(source, target), source.model.config
    calibration = None if record is None else record.summary() | {"tensors": record.ranges()}
    if made.static is None:
        decoder = plain_decoder(source, recipe, target, {} if planned is None else planned.layers, made)
        if calibration is not None and made.weights is not None:
            calibration["smoothing"] = Smoothing(recipe.smoothing).to_dict()
    else:
        decoder, calibration = made.static.graph, {**(calibration or {}), "smoothing": made.static.smoothing.to_dict()}
    stored = recipe.activations if made.scales is None else "int8"
    _save(tower, folder / VISION)
    _save(decoder, folder / DECODER)
    heads = build_heads(source.weights("regression."), config.measures, spec.hidden) if config.measures else None
    if heads is not None:
        _save(heads, folder / HEADS)
    if config.places:
        np.savez(folder / LOCATOR, **{k: v.astype(np.float16) for k, v in source.weights("locator.").items()})
    scale = _save_table(source, recipe, folder)
    if made.kept is not None:
        np.save(folder / VOCABULARY, made.kept.ids.astype(np.int32))
        calibration = {**(calibration or {}), "vocabulary": made.kept.to_dict()}
    source.processor.backend.save(str(folder / TOKENIZER))
    (folder / TEMPLATE).write_text(str(source.processor.chat_template), encoding="utf-8")
    files = {file.name: _entry(file) for file in sorted(folder.iterdir())}
    manifest = Manifest(
        schema_version=SCHEMA_VERSION,
        id=bundle_id(files),
        name=source.path.resolve().name,
        created=datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        precision=precision,
        target=target,
        min_onnxruntime=MIN_ONNXRUNTIME,
        files=files,
        vision=replace(
            _graph_spec(tower, VISION, recipe.words["vision"]), fits_16_bits=recipe.integer_tower and not recipe.static
        ),
        decoder=_graph_spec(decoder, DECODER, recipe.words["decoder"]),
        heads=None if heads is None else _heads_spec(heads, config.measures),
        embeddings=EmbeddingsSpec(TABLE, scale, recipe.words["embeddings"]),
        tokenizer=TOKENIZER,
        template=TEMPLATE,
        cache=CacheGeometry(spec.layers, spec.kv_heads, spec.head_dim, stored, spec.max_length),
        hidden_size=spec.hidden,
        vocab_size=spec.vocab,
        image=config.image_spec,
        prompt=source.processor.prompt_layout,
        coordinates=COORDINATES,
        calibration=calibration,
        parity=made.plan_record(planned),
        provenance=_provenance(source),
        locator=LOCATOR if config.places else None,
        confidence=load_confidence(source.path, source.sha256),
        profiles=bundle_profiles(tower, heads, spec) if target == "tensorrt" else (),
        vocabulary=None if made.kept is None else VOCABULARY,
    )
    if target == "tensorrt":
        graphs = {"vision": tower, "decoder": decoder, **({} if heads is None else {"heads": heads})}
        require_readable({name: ir.to_proto(graph) for name, graph in graphs.items()}, manifest.profiles)
    _write_manifest(folder, manifest)
    return manifest


def _add_familiar(folder: Path, manifest: Manifest, source: Checkpoint, given: ImageSet | Record | None) -> Manifest:
    """Put profiles of familiar images into a bundle, where there are any to be had."""
    if isinstance(given, ImageSet) and len(given.pictures) >= familiar.MINIMUM:
        backend = create_backend(open_bundle(folder), "cpu")
        shown = given.spread(_PROFILED).pixels(manifest.image)
        described = describe_images(given.source, lambda pixels: backend.encode(pixels).embeds, shown)
        fitted: Fitted | None = fit_familiarity([described], checkpoint=source.sha256)
    else:
        fitted = _beside(source)
    if fitted is None:
        return manifest
    spec = fitted.save_arrays(folder)
    files = dict(manifest.files) | {part.file: _entry(folder / part.file) for part in (spec.embeddings, spec.pixels)}
    manifest = replace(manifest, files=files, id=bundle_id(files), familiar=spec)
    _write_manifest(folder, manifest)
    return manifest


def _bytes(manifest: Manifest) -> int:
    """Bytes of a bundle's files, without the manifest."""
    return sum(entry.bytes for entry in manifest.files.values())


def _write_manifest(folder: Path, manifest: Manifest) -> None:
    read_manifest(json.loads(json.dumps(manifest.to_dict())))
    (folder / MANIFEST_NAME).write_text(json.dumps(manifest.to_dict(), indent=2) + "\n", encoding="utf-8")


def _save(model: ir.Model, path: Path) -> None:
    size = sum(value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value is not None)
    ir.save(model, path, external_data=f"{path.name}.data" if size > _SINGLE_FILE else None)


def _save_table(source: Checkpoint, recipe: Recipe, folder: Path) -> str | None:
    """Write the token table; returns the name of the file of scales of an int8 one."""
    rows = source.table()
    if recipe.table != "int8":
        np.save(folder / TABLE, rows.astype(recipe.table))
        return None
    scale = np.abs(rows).max(axis=1) / np.float32(127)
    scale[scale == 0] = 1
    np.save(folder / TABLE, np.round(rows / scale[:, None]).astype(np.int8))
    np.save(folder / SCALE, scale.astype(np.float32))
    return SCALE


def _entry(file: Path) -> FileEntry:
    return FileEntry(sha256_of(file), file.stat().st_size)


def _graph_spec(model: ir.Model, file: str, words: str) -> GraphSpec:
    def tensors(values: Any) -> dict[str, TensorSpec]:
        return {
            str(v.name): TensorSpec(
                v.dtype.numpy().name, tuple(axis if isinstance(axis, int) else str(axis.value) for axis in v.shape)
            )
            for v in values
        }

    return GraphSpec(file, words, tensors(model.graph.inputs), tensors(model.graph.outputs))


def _heads_spec(model: ir.Model, measures: Sequence[Mapping[str, Any]]) -> HeadsSpec:
    named = tuple(Measure(measure["name"], measure["unit"]) for measure in measures)
    return HeadsSpec(**vars(_graph_spec(model, HEADS, "float32")), measures=named)


def _provenance(source: Checkpoint) -> dict[str, Any]:
    tools = ("gmrt", "torch", "transformers", "onnx", "onnx_ir", "onnxruntime")
    return {
        "checkpoint": source.sha256,
        "data": source.provenance.get("data", "not stated"),
        "licence": source.provenance.get("licence", "not stated"),
        "tools": {name: str(import_module(name).__version__) for name in tools},
    }


@contextmanager
def _staging(output: Path) -> Iterator[Path]:
    """A folder beside ``output`` that takes its place when the block ends well, and disappears otherwise."""
    folder = output.with_name(f".{output.name}.{os.getpid()}.partial")
    folder.mkdir()
    try:
        yield folder
        if output.exists():
            old = output.with_name(f".{output.name}.{os.getpid()}.old")
            output.replace(old)
            folder.replace(output)
            shutil.rmtree(old)
        else:
            folder.replace(output)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Steps:
    """Counts the steps of an export out to whoever shows them."""

    def __init__(self, progress: Progress) -> None:
        self._progress, self._done = progress, 0

    def __call__(self) -> None:
        self._done += 1
        self._progress(_FINE * self._done, _FINE * _STEPS)

    def part(self, done: int, of: int) -> None:
        """A part of the step that is under way."""
        self._progress(_FINE * self._done + _FINE * done // (of + 1), _FINE * _STEPS)
