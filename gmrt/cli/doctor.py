"""``gmrt doctor``: what this environment has, and what in it would go wrong."""

from __future__ import annotations

import json
import platform
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

import gmrt
from gmrt.cli.options import BundleOption, FormatOption
from gmrt.runtime.errors import GmrtError

if TYPE_CHECKING:
    from gmrt.runtime.manifest import Manifest

# What the int8 kernels use when it is there, by the name that Linux gives it in /proc/cpuinfo.
_INT8_FEATURES = {
    "avx2": "avx2",
    "avx512_vnni": "avx512_vnni",
    "avx_vnni": "avx_vnni",
    "amx_int8": "amx_int8",
    "asimddp": "dotprod",
    "i8mm": "i8mm",
}


@dataclass(frozen=True)
class Check:
    """One line of the report."""

    name: str
    status: Literal["ok", "note", "wrong"]
    detail: str


def doctor(bundle: BundleOption = None, output_format: FormatOption = "text") -> None:
    """Report on this environment; exit with 1 when something in it is wrong."""
    checks = [
        Check("gmrt", "ok", gmrt.__version__),
        Check("python", "ok", f"{platform.python_version()} on {platform.machine()}"),
        _memory(),
        *jetson_checks(),
        *_packages(),
    ]
    if not any(check.status == "wrong" for check in checks):  # the rest imports those packages
        checks += [_onnxruntime(), _cpu(), _bundle(bundle)]
    wrong = any(check.status == "wrong" for check in checks)
    if output_format == "json":
        typer.echo(json.dumps({"ok": not wrong, "checks": [asdict(check) for check in checks]}))
    else:
        for check in checks:
            typer.echo(f"{check.status:5}  {check.name:12}  {check.detail}")
    if wrong:
        raise typer.Exit(1)


def _packages() -> list[Check]:
    """Versions of what the runtime imports, and of torch, which it never does."""
    from importlib.metadata import PackageNotFoundError, version

    checks = []
    for name in ("numpy", "tokenizers", "jinja2", "rasterio"):
        try:
            checks.append(Check(name, "ok", version(name)))
        except PackageNotFoundError:
            checks.append(Check(name, "wrong", f"not installed: run pip install {name}"))
    try:
        checks.append(Check("torch", "note", f"{version('torch')}, which infer does not load"))
    except PackageNotFoundError:
        checks.append(Check("torch", "note", "not installed; only export, train and eval need it"))
    return checks


def _onnxruntime() -> Check:
    """Refuse none, two distributions that overwrite each other's files, and one that does not import."""
    from importlib.metadata import distributions

    found = sorted(
        {
            f"{dist.name} {dist.version}"
            for dist in distributions()
            if dist.name and dist.name.lower().replace("_", "-").startswith("onnxruntime")
        }
    )
    if not found:
        return Check("onnxruntime", "wrong", "not installed: install gmrt with the extra [cpu] or [gpu]")
    if len(found) > 1:
        return Check(
            "onnxruntime",
            "wrong",
            f"{' and '.join(found)} overwrite each other's files: uninstall both, then install one of them",
        )
    try:
        import onnxruntime
    except ImportError as error:
        return Check("onnxruntime", "wrong", f"{found[0]} does not import ({error}): reinstall it")
    from gmrt.runtime.backends.machine import int8_products_saturate

    providers = ", ".join(onnxruntime.get_available_providers())
    sums = "are exact up to 16 bits here, which a bundle may be fitted to" if int8_products_saturate() else "are exact"
    return Check("onnxruntime", "ok", f"{found[0]}; {providers}; sums of 8-bit products {sums}")


def _cpu() -> Check:
    """Count cores and name the instructions that int8 arithmetic is fast with."""
    from gmrt.runtime.backends.machine import physical_cores

    cores = f"{physical_cores()} physical cores to use"
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return Check("cpu", "note", f"{cores}; features unavailable on {sys.platform}")
    lines = [line for line in text.splitlines() if line.lower().startswith(("flags", "features"))]
    words = {word for line in lines for word in line.split()}
    features = [name for flag, name in _INT8_FEATURES.items() if flag in words]
    names = ", ".join(features) or f"none of {', '.join(_INT8_FEATURES.values())}"
    return Check("cpu", "ok", f"{cores}; for int8: {names}")


def _memory() -> Check:
    """What the kernel says is available, which counts reclaimable caches; a container may allow less."""
    from gmrt.runtime.memory import read_status

    available, total = read_status("MemAvailable"), read_status("MemTotal")
    if available is None or total is None:
        return Check("memory", "note", f"unavailable on {sys.platform}")
    return Check("memory", "ok", f"{available / 2**30:.1f} GiB available of {total / 2**30:.1f} GiB")


def jetson_checks(root: Path = Path("/")) -> list[Check]:
    """What a Jetson says about itself, and what of it would cost speed or memory; nothing on another machine."""
    from gmrt.runtime.telemetry import Sensors, read_jetson

    found = read_jetson(root)
    if found is None:
        return []
    known = f"{found.board.title} in the table" if found.board else "not in the table of gmrt plan --board"
    checks = [Check("board", "ok" if found.board else "note", f"{found.model}; {known}")]
    if found.l4t is None:
        checks.append(Check("jetpack", "note", "no /etc/nv_tegra_release: in a container, mount it to have it named"))
    else:
        checks.append(Check("jetpack", "ok", f"{found.jetpack or 'unknown JetPack'}, Jetson Linux {found.l4t}"))
    if found.mode is None:
        checks.append(Check("power mode", "note", "unknown: run sudo nvpmodel -q"))
    else:
        fast = "MAXN" in found.mode
        advice = "" if fast else "; the fastest is MAXN: sudo nvpmodel -m 0, where the power supply allows it"
        checks.append(Check("power mode", "ok" if fast else "note", found.mode + advice))
    swap = f"{found.swap / 2**30:.1f} GiB{' of compressed memory (zram)' if found.swap_is_zram else ''}"
    few = found.memory < 8 << 30 and (found.swap == 0 or found.swap_is_zram)
    advice = "; engines of larger models need a swap file while they are built" if few else ""
    checks.append(Check("swap", "note" if few else "ok", swap + advice))
    if found.cma is not None:
        free = "" if found.cma_free is None else f", {found.cma_free / 2**20:.0f} free"
        checks.append(Check("cma", "ok", f"{found.cma / 2**20:.0f} MiB reserved for devices{free}"))
    reading = Sensors(root).read()
    watts = reading.total_watts
    hottest = max(reading.celsius.values(), default=None)
    said = [f"{watts:.1f} W now" if watts is not None else "no power monitor"]
    said += [f"{hottest:.0f} °C at most"] if hottest is not None else []
    said += [f"{name} at {hertz / 1e6:.0f} MHz" for name, hertz in reading.hertz.items()]
    checks.append(Check("sensors", "ok" if watts is not None else "note", ", ".join(said)))
    return checks


def _bundle(path: Path | None) -> Check:
    """Open the bundle as `gmrt infer` would, which hashes every file of it."""
    from gmrt.runtime.bundle import verify
    from gmrt.runtime.model import SHIPPED

    try:
        manifest = verify(path or SHIPPED)
    except GmrtError as error:
        return Check("bundle", "wrong", str(error))
    detail = f"{manifest.name} {manifest.id}, {manifest.precision}; every file has its hash"
    detail += _speed(manifest)
    if manifest.familiar is None:
        detail += "; no profile of what it was calibrated on, so it flags no image as unfamiliar"
    return Check("bundle", "ok", detail)


def _speed(manifest: Manifest) -> str:
    """How the sums of an int8 tower run here, where the kernels add them up in 16 bits."""
    from gmrt.runtime.backends.machine import int8_products_saturate

    if manifest.precision not in ("int8", "int4") or manifest.target == "tensorrt" or not int8_products_saturate():
        return ""
    if manifest.vision.fits_16_bits:
        return "; its tower's sums fit the 16 bits of this CPU, so it runs in the fast mode"
    return "; its tower's sums pass the 16 bits of this CPU, so it runs in a slower, exact mode: export it again"
