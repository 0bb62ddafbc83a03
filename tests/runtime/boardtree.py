"""Trees of /proc, /sys and /etc as three Jetson boards have them.

CONSTRUCTED from NVIDIA's Jetson Linux Developer Guide and the kernel's drivers, not captured from boards: they show
that the reader understands the documented layout, not that a board has it.
"""

from __future__ import annotations

from pathlib import Path

TREES = {
    "orin-nano": {
        "model": "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super",
        "memory_kib": 7_802_000,
        "release": "# R36 (release), REVISION: 4.3, GCID: 1, BOARD: generic, EABI: aarch64",
        "modes": ("15W", "25W", "MAXN_SUPER"),
        "mode": 2,
        "rails": [{"VDD_IN": (4968, 1304), "VDD_CPU_GPU_CV": (4968, 304), "VDD_SOC": (4968, 368)}],
        "gpus": {"17000000.gpu": 1_020_000_000},
        "zones": {"cpu-thermal": 48_218, "gpu-thermal": 47_000, "cv0-thermal": -256_000},
        "zram": True,
    },
    "agx-orin": {
        "model": "NVIDIA Jetson AGX Orin Developer Kit",
        "memory_kib": 64_349_000,
        "release": "# R39 (release), REVISION: 2.0, GCID: 1, BOARD: generic, EABI: aarch64, DATE: Mon Jun  1 2026",
        "modes": ("MAXN", "15W", "30W", "50W"),
        "mode": 3,
        "rails": [
            {"VDD_GPU_SOC": (19_968, 200), "VDD_CPU_CV": (19_968, 100), "VIN_SYS_5V0": (4968, 1000)},
            {"VDDQ_VDD2_1V8AO": (4968, 300)},
        ],
        "gpus": {"17000000.gpu": 1_300_500_000},
        "zones": {"gpu-thermal": 51_500},
        "zram": False,
    },
    "thor": {
        "model": "NVIDIA Jetson AGX Thor Developer Kit",
        "memory_kib": 128_800_000,
        "release": "# R38 (release), REVISION: 2.0, GCID: 1, BOARD: generic, EABI: aarch64, DATE: Fri Aug 22 2025",
        "modes": ("MAXN", "120W"),
        "mode": 0,
        "rails": [{"VDD_GPU": (11_900, 1000), "VDD_CPU_SOC_MSS": (11_900, 500), "VIN_SYS_5V0": (5000, 1000)}],
        "gpus": {"gpu-gpc-0": 1_575_000_000, "gpu-nvd-0": 1_692_000_000},
        "zones": {"gpu-thermal": 40_000, "tj-thermal": 43_000},
        "zram": False,
    },
}


def make_tree(root: Path, name: str) -> Path:
    """Write the tree of a board below ``root`` and return it."""
    spec = TREES[name]
    kib = spec["memory_kib"]
    _write(root / "proc/device-tree/model", spec["model"] + "\0")
    meminfo = {
        "MemTotal": kib,
        "MemAvailable": kib // 2,
        "SwapTotal": 3_900_000,
        "CmaTotal": 262_144,
        "CmaFree": 131_072,
    }
    _write(root / "proc/meminfo", "".join(f"{key}: {value:>12} kB\n" for key, value in meminfo.items()))
    device = "/dev/zram0" if spec["zram"] else "/swapfile"
    _write(root / "proc/swaps", f"Filename\tType\tSize\tUsed\tPriority\n{device} partition 3900000 0 5\n")
    _write(root / "etc/nv_tegra_release", spec["release"] + "\n")
    modes = "".join(f"< POWER_MODEL ID={number} NAME={mode} >\n" for number, mode in enumerate(spec["modes"]))
    _write(root / "etc/nvpmodel.conf", modes)
    _write(root / "var/lib/nvpmodel/status", f"pmode:{spec['mode']:04d}")
    hwmon = root / "sys/class/hwmon"
    for number, rails in enumerate(spec["rails"]):
        _write(hwmon / f"hwmon{number}/name", "ina3221\n")
        for channel, (rail, (millivolts, milliamperes)) in enumerate(rails.items(), start=1):
            _write(hwmon / f"hwmon{number}/in{channel}_label", rail + "\n")
            _write(hwmon / f"hwmon{number}/in{channel}_input", f"{millivolts}\n")
            _write(hwmon / f"hwmon{number}/curr{channel}_input", f"{milliamperes}\n")
        _write(hwmon / f"hwmon{number}/in7_label", "sum of shunt voltages\n")
    _write(hwmon / "hwmon9/name", "soctherm_oc\n")
    _write(hwmon / "hwmon9/oc1_event_cnt", "0\n")
    for gpu, hertz in spec["gpus"].items():
        _write(root / f"sys/class/devfreq/{gpu}/cur_freq", f"{hertz}\n")
    _write(root / "sys/class/devfreq/15340000.vic/cur_freq", "115200000\n")
    _write(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq", "1728000\n")
    for number, (zone, millidegrees) in enumerate(spec["zones"].items()):
        _write(root / f"sys/class/thermal/thermal_zone{number}/type", zone + "\n")
        _write(root / f"sys/class/thermal/thermal_zone{number}/temp", f"{millidegrees}\n")
    _write(root / "sys/class/thermal/cooling_device0/type", "gpu-throttle-alert\n")
    _write(root / "sys/class/thermal/cooling_device0/cur_state", "0\n")
    return root


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
