"""What a Jetson says about itself: board, system and mode, and power, clocks and temperatures while it works.

Everything is read from /proc, /sys and /etc, without root and without NVIDIA's tools; `tegrastats` reads the same.
The layouts are those that NVIDIA's "Jetson Linux Developer Guide" (Platform Power and Performance) and the kernel's
ina3221 and devfreq drivers document; no board was at hand, so none of this has been read from one yet. ``root`` lets a
test, or someone with a copy of a board's files, read another tree.
"""

from __future__ import annotations

import re
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from gmrt.runtime.boards import Board, identify
from gmrt.runtime.memory import read_status

ROOT = Path("/")
_RELEASE = re.compile(r"#\s*R(\d+)\s*\(release\),\s*REVISION:\s*(\d+)\.(\d+)")
_MODES = re.compile(r"<\s*POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+)\s*>")
_JETPACK = {35: "JetPack 5", 36: "JetPack 6", 38: "JetPack 7", 39: "JetPack 7"}
_MODULE_INPUT = "VDD_IN"
"""The rail of Orin Nano and NX that feeds the whole module; the larger boards have none, and their rails are added."""
_FED_BY_OTHERS = ("VDDQ_VDD2_1V8AO",)
"""AGX Orin's rail that is fed by VIN_SYS_5V0: it would count twice."""


@dataclass(frozen=True)
class Jetson:
    """A board as its system describes it. Sizes in bytes; None where a file is not there.

    ``model`` is the device tree's, ``l4t`` the release of Jetson Linux, ``mode`` the name of the power mode.
    """

    model: str
    board: Board | None
    l4t: str | None
    jetpack: str | None
    mode: str | None
    memory: int
    swap: int
    swap_is_zram: bool
    cma: int | None
    cma_free: int | None


def read_jetson(root: Path = ROOT) -> Jetson | None:
    """Describe the board; None on a machine that is no Jetson."""
    model = _text(root / "proc/device-tree/model").rstrip("\0")
    if "jetson" not in model.lower():
        return None
    memory = read_status("MemTotal", root) or 0
    release = _RELEASE.search(_text(root / "etc/nv_tegra_release"))
    swaps = _text(root / "proc/swaps").splitlines()[1:]
    return Jetson(
        model=model,
        board=identify(model, memory),
        l4t=None if release is None else ".".join(release.groups()),
        jetpack=None if release is None else _JETPACK.get(int(release.group(1))),
        mode=_mode(root),
        memory=memory,
        swap=read_status("SwapTotal", root) or 0,
        swap_is_zram=bool(swaps) and all("zram" in line.split()[0] for line in swaps),
        cma=read_status("CmaTotal", root),
        cma_free=read_status("CmaFree", root),
    )


def _mode(root: Path) -> str | None:
    """The name of the power mode: its number in nvpmodel's status, its name in nvpmodel's table."""
    found = re.search(r"pmode:(\d+)", _text(root / "var/lib/nvpmodel/status"))
    if found is None:
        return None
    names: dict[int, str] = {int(number): name for number, name in _MODES.findall(_text(root / "etc/nvpmodel.conf"))}
    return names.get(int(found.group(1)), f"mode {int(found.group(1))}")


@dataclass(frozen=True)
class Reading:
    """One look: ``watts`` by rail, ``hertz`` by clock, ``celsius`` by zone, ``throttled`` a count of hold-backs."""

    watts: dict[str, float]
    hertz: dict[str, int]
    celsius: dict[str, float]
    throttled: int

    @property
    def total_watts(self) -> float | None:
        """What the module takes; None without a power monitor."""
        if _MODULE_INPUT in self.watts:
            return self.watts[_MODULE_INPUT]
        rails = [power for rail, power in self.watts.items() if rail not in _FED_BY_OTHERS]
        return sum(rails) if rails else None


class Sensors:
    """The sensors of a board, found once and read often; a machine without any gives empty readings."""

    def __init__(self, root: Path = ROOT) -> None:
        self._rails: dict[str, tuple[Path, Path]] = {}
        self._events: list[Path] = []
        for monitor in sorted((root / "sys/class/hwmon").glob("hwmon*")):
            kind = _text(monitor / "name").strip()
            if kind == "ina3221":
                for label in sorted(monitor.glob("in[1-3]_label")):
                    number = label.name[2]
                    self._rails[_text(label).strip()] = (monitor / f"in{number}_input", monitor / f"curr{number}_input")
            elif kind == "soctherm_oc":
                self._events += sorted(monitor.glob("oc*_event_cnt"))
        self._clocks = {
            f"gpu {path.name}": path / "cur_freq"
            for path in sorted((root / "sys/class/devfreq").glob("*"))
            if "gpu" in path.name or "ga10b" in path.name
        }
        cpu = root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq"
        if cpu.is_file():
            self._clocks["cpu0"] = cpu
        self._zones = {
            _text(path / "type").strip(): path / "temp"
            for path in sorted((root / "sys/class/thermal").glob("thermal_zone*"))
        }
        self._alerts = [
            path / "cur_state"
            for path in sorted((root / "sys/class/thermal").glob("cooling_device*"))
            if _text(path / "type").strip().endswith("throttle-alert")
        ]

    def read(self) -> Reading:
        """Read all sensors now; one that cannot be read is left out."""
        watts = {}
        for rail, (millivolts, milliamperes) in self._rails.items():
            volts, amperes = _number(millivolts), _number(milliamperes)
            if volts is not None and amperes is not None:
                watts[rail] = volts * amperes / 1e6
        # cpufreq counts in kHz, devfreq in Hz.
        clocks = {name: (_number(path), 1000 if name == "cpu0" else 1) for name, path in self._clocks.items()}
        zones = {zone: _number(path) for zone, path in self._zones.items()}
        return Reading(
            watts=watts,
            hertz={name: value * unit for name, (value, unit) in clocks.items() if value is not None},
            celsius={zone: value / 1000 for zone, value in zones.items() if value is not None and value > 0},
            throttled=sum(_number(path) or 0 for path in (*self._events, *self._alerts)),
        )


@dataclass
class Sampler:
    """Reads the sensors ten times a second between ``with`` and its end; does nothing where there are none."""

    sensors: Sensors
    seconds: float = 0.1
    readings: list[Reading] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Prepare the thread."""
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> Sampler:  # noqa: PYI034 - Self comes with Python 3.11
        self._started = time.perf_counter()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the last reading."""
        self._over.set()
        self._thread.join()
        self.elapsed = time.perf_counter() - self._started

    def _sample(self) -> None:
        while True:
            self.readings.append(self.sensors.read())
            if self._over.wait(self.seconds):
                self.readings.append(self.sensors.read())
                return

    @property
    def joules(self) -> float | None:
        """Mean power times the time that passed; None without a power monitor."""
        powers = [reading.total_watts for reading in self.readings]
        known = [power for power in powers if power is not None]
        return sum(known) / len(known) * self.elapsed if known else None

    @property
    def throttled(self) -> bool:
        """Whether the board was held back, by heat or by current, while it was sampled."""
        alerts = [reading.throttled for reading in self.readings]
        return max(alerts) > alerts[0]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _number(path: Path) -> int | None:
    try:
        return int(_text(path))
    except ValueError:
        return None
