"""TensorRT engines of a bundle: what to build, where it goes, and whether what lies there is of any use here.

An engine is fit for one version of TensorRT, one GPU architecture, one graph and the shapes it was built for. All of
that makes its fingerprint, and the fingerprint names its folder: ``engines/<fingerprint>/engine.plan`` with the record
of what went into it as ``engine.json``. A folder is made under a temporary name and renamed when it is whole. Engines
are a cache beside the ONNX: never hashed into the bundle, and rebuilt by ``gmrt build`` whenever they do not fit.
"""

from __future__ import annotations

import hashlib
import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gmrt.runtime.errors import BundleError, ProviderError
from gmrt.runtime.fields import MANIFEST_NAME
from gmrt.runtime.files import sync
from gmrt.runtime.manifest import ENGINES, Manifest

PLAN, RECORD = "engine.plan", "engine.json"
TIMINGS = "timing.cache"

Progress = Callable[[int, int], None]
Shapes = Mapping[str, Sequence[Sequence[int]]]


@dataclass(frozen=True)
class Device:
    """What an engine is bound to: the version of TensorRT and the GPU's compute capability, for example 8.7."""

    tensorrt: str
    capability: str


@dataclass(frozen=True)
class EngineJob:
    """One engine: ``name`` as vision or decoder-256, the graph's file and hash, and its profiles in order.

    Each profile gives inputs by name their least, usual and largest shape. ``workspace`` is a limit in bytes.
    """

    name: str
    onnx: str
    sha256: str
    profiles: tuple[Shapes, ...]
    workspace: int

    def record(self, device: Device) -> dict[str, Any]:
        """All that the engine depends on."""
        return {
            "tensorrt": device.tensorrt,
            "capability": device.capability,
            "name": self.name,
            "onnx": self.onnx,
            "sha256": self.sha256,
            "flags": ["STRONGLY_TYPED"],
            "workspace": self.workspace,
            "profiles": [{name: [list(shape) for shape in trio] for name, trio in p.items()} for p in self.profiles],
        }

    def fingerprint(self, device: Device) -> str:
        """16 hex of the record's hash."""
        text = json.dumps(self.record(device), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def plan_engines(root: Path, manifest: Manifest, *, workspace: int) -> list[EngineJob]:
    """The engines of a bundle: one of each other graph, and one of the decoder for each capacity of its cache.

    Raises `BundleError` for a bundle that was not exported for TensorRT.
    """
    if manifest.target != "tensorrt":
        raise BundleError(
            f"{root}: a bundle for {manifest.target}, of which TensorRT builds no engine: export the checkpoint with "
            "--target tensorrt"
        )
    files = {"vision": manifest.vision, "decoder": manifest.decoder, "heads": manifest.heads}
    grouped: dict[str, tuple[str, list[Shapes]]] = {}
    for profile in manifest.profiles:
        component = profile.component
        bucket = profile.name.rpartition("-")[2]
        name = f"{component}-{bucket}" if component == "decoder" else component
        grouped.setdefault(name, (component, []))[1].append(profile.shapes)
    jobs = []
    for name, (component, shapes) in grouped.items():
        graph = files.get(component)
        if graph is None:
            raise BundleError(
                f"{MANIFEST_NAME}: a profile names {component}, which this bundle has not: export it again"
            )
        jobs.append(EngineJob(name, graph.file, manifest.files[graph.file].sha256, tuple(shapes), workspace))
    return jobs


def trtexec_line(root: Path, job: EngineJob) -> str:
    """The command that builds the same engine with NVIDIA's own tool, for a shell."""
    words = [
        "trtexec",
        f"--onnx={root / job.onnx}",
        f"--saveEngine={root / ENGINES / (job.name + '.plan')}",
        "--stronglyTyped",
        f"--memPoolSize=workspace:{job.workspace >> 20}M",
        f"--timingCacheFile={root / ENGINES / TIMINGS}",
        "--skipInference",
    ]
    for number, shapes in enumerate(job.profiles):
        words += [f"--profile={number}"] if len(job.profiles) > 1 else []
        for place, option in enumerate(("minShapes", "optShapes", "maxShapes")):
            listed = ",".join(f"{name}:{'x'.join(map(str, trio[place]))}" for name, trio in shapes.items())
            words.append(f"--{option}={listed}")
    return shlex.join(words)


def find_engine(root: Path, job: EngineJob, device: Device) -> Path:
    """Where an engine for this device lies; the workspace that it was built with makes no difference to its use.

    Raises `ProviderError` with the one command that helps: when there is none, or only for another version of
    TensorRT, another GPU, another export of the bundle or other shapes.
    """
    wanted = job.record(device)
    found = {folder: _record(folder) for folder in _folders(root)}
    for folder, record in found.items():
        fits = record is not None and {**record, "workspace": 0} == {**wanted, "workspace": 0}
        if fits and (folder / PLAN).is_file():
            return folder / PLAN
    reasons = [reason for record in found.values() if (reason := _mismatch(record, wanted))]
    why = f"the one there is for {reasons[0]}" if reasons else "none has been built"
    raise ProviderError(f"no engine of {job.name} for this device, {why}: run gmrt build {shlex.quote(str(root))}")


def _mismatch(found: Mapping[str, Any] | None, wanted: Mapping[str, Any]) -> str | None:
    """What an engine of the same part was built for instead."""
    if found is None or found.get("name") != wanted["name"]:
        return None
    if found.get("tensorrt") != wanted["tensorrt"]:
        return f"TensorRT {found.get('tensorrt')} and this is {wanted['tensorrt']}"
    if found.get("capability") != wanted["capability"]:
        return f"a GPU of compute capability {found.get('capability')} and this is {wanted['capability']}"
    if found.get("sha256") != wanted["sha256"]:
        return "another export of the bundle"
    return "other shapes"


def _folders(root: Path) -> list[Path]:
    place = root / ENGINES
    return sorted(path for path in place.iterdir() if path.is_dir()) if place.is_dir() else []


def _record(folder: Path) -> dict[str, Any] | None:
    try:
        data = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return data if isinstance(data, dict) else None


def this_device() -> Device:
    """The device here; raises `ProviderError` with one sentence when there is no TensorRT or no GPU."""
    try:
        import tensorrt as trt
    except ImportError:
        raise ProviderError(
            "TensorRT is not installed: on a Jetson it comes with JetPack (sudo apt install nvidia-jetpack), and a "
            "virtual environment sees it when made with python3 -m venv --system-site-packages (docs/jetson.md)"
        ) from None
    from gmrt.runtime.backends.cuda import import_cuda

    cuda = import_cuda()
    kinds = cuda.cudaDeviceAttr
    parts = (kinds.cudaDevAttrComputeCapabilityMajor, kinds.cudaDevAttrComputeCapabilityMinor)
    numbers = [cuda.cudaDeviceGetAttribute(part, 0)[1] for part in parts]
    return Device(str(trt.__version__), ".".join(map(str, numbers)))


def build_engine(
    root: Path, job: EngineJob, device: Device, progress: Progress, *, command: Sequence[str] | None = None
) -> Path:
    """Build one engine in a process of its own and publish it; returns the plan, at once when it is there already.

    ``command`` runs instead of `gmrt.runtime.enginebuild`, in tests. Raises `ProviderError` when the build fails; then
    nothing is left but the timing cache, which makes the next try faster.
    """
    folder = root / ENGINES / job.fingerprint(device)
    if (folder / PLAN).is_file() and _record(folder) == job.record(device):
        return folder / PLAN
    part = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        task = {
            "onnx": str(root / job.onnx),
            "plan": str(part / PLAN),
            "timing_cache": str(root / ENGINES / TIMINGS),
            "workspace": job.workspace,
            "profiles": job.record(device)["profiles"],
        }
        _run(job, task, progress, command or (sys.executable, "-m", "gmrt.runtime.enginebuild"))
        (part / RECORD).write_text(json.dumps(job.record(device), indent=1) + "\n", encoding="utf-8")
        sync(part / RECORD)
        sync(part)
        shutil.rmtree(folder, ignore_errors=True)  # one whose record does not fit
        part.rename(folder)
        sync(folder.parent)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder / PLAN


def _run(job: EngineJob, task: Mapping[str, Any], progress: Progress, command: Sequence[str]) -> None:
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(task))
            process.stdin.close()
            for line in process.stdout:
                said = json.loads(line)
                progress(said["done"], said["total"])
        except BaseException:
            process.kill()
            raise
    if process.returncode < 0:
        raise ProviderError(
            f"{job.name}: the builder was killed by signal {-process.returncode}, most often for want of memory: close "
            "the desktop, add a swap file, or give a smaller --workspace"
        )
    if process.returncode != 0 or not Path(task["plan"]).is_file():
        raise ProviderError(f"{job.name}: TensorRT built no engine of {job.onnx}; what it said stands above")
