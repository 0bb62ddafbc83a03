"""NVIDIA's Jetson boards: what their published data sheets say, and what follows from it for a model.

Every board has one memory for CPU and GPU (unified): weights are not copied from a host's to a device's, and what
the desktop takes is missing to the model. Sizes, bandwidths, numbers of multiprocessors and clocks are those of the
modules' data sheets (`SOURCES`), at the highest power mode, for Orin Nano and NX in the "Super" mode of JetPack 6.2.

The peak rates are computed, so that dense and sparse numbers are not mixed: an Orin multiprocessor (compute capability
8.7) does 4096 INT8 operations a clock, dense, and half as many in FP16; 8 of them at 1.02 GHz make 33 TOPS, of which
NVIDIA's "67 TOPS (sparse)" is the double. DLA and PVA, which add up to 105 TOPS to the larger boards' headlines, are
not counted: nothing here runs on them. Thor's multiprocessor (11.0) does 16384 FP8 operations a clock, dense: 20 at
1.575 GHz make 516 TFLOPS, a quarter of the "2070 TFLOPS (FP4 sparse)"; its INT8 rate is taken to be that of FP8.
"""

from __future__ import annotations

from dataclasses import dataclass

from gmrt.runtime.errors import MemoryLimitError

SOURCES = (
    "NVIDIA Jetson Orin Nano Series Modules Data Sheet, DS-11105-001",
    "NVIDIA Jetson Orin NX Series Modules Data Sheet, DS-10712-001",
    "NVIDIA Jetson AGX Orin Series Modules Data Sheet, DS-10662-001",
    "NVIDIA Jetson Orin Nano Super Developer Kit, datasheet of December 2024",
    "NVIDIA Jetson Thor Series Modules Data Sheet, and https://developer.nvidia.com/embedded/jetson-modules",
)

SYSTEM_BYTES = 1 << 30
"""What kernel, carve-outs and a system without a desktop are taken to hold of a board's memory; an assumption, because
no board was at hand. ``gmrt plan`` on the board reads what is available instead."""


@dataclass(frozen=True)
class Board:
    """One module: ``memory`` in bytes, ``bandwidth`` in bytes/s, multiprocessors, highest GPU clock in Hz.

    ``ops_per_clock`` counts 8-bit operations (a product and its sum are two) of a multiprocessor, dense.
    """

    name: str
    title: str
    memory: int
    bandwidth: float
    multiprocessors: int
    clock: float
    ops_per_clock: int
    capability: str

    @property
    def int8(self) -> float:
        """Peak 8-bit operations per second, dense."""
        return self.multiprocessors * self.clock * self.ops_per_clock

    @property
    def fp16(self) -> float:
        """Peak half-precision operations per second, dense."""
        return self.int8 / 2

    @property
    def available(self) -> int:
        """Bytes that are taken to be left for a process."""
        return self.memory - SYSTEM_BYTES


def _orin(name: str, title: str, gib: int, gb_per_s: float, multiprocessors: int, mhz: int) -> Board:
    return Board(name, f"Jetson {title} {gib} GB", gib << 30, gb_per_s * 1e9, multiprocessors, mhz * 1e6, 4096, "8.7")


BOARDS = {
    board.name: board
    for board in (
        _orin("orin-nano-4gb", "Orin Nano", 4, 51, 4, 1020),
        _orin("orin-nano", "Orin Nano", 8, 102, 8, 1020),
        _orin("orin-nx-8gb", "Orin NX", 8, 102.4, 8, 1173),
        _orin("orin-nx", "Orin NX", 16, 102.4, 8, 1173),
        _orin("agx-orin-32gb", "AGX Orin", 32, 204.8, 14, 930),
        _orin("agx-orin", "AGX Orin", 64, 204.8, 16, 1300),
        Board("thor", "Jetson AGX Thor (T5000) 128 GB", 128 << 30, 273e9, 20, 1.575e9, 16384, "11.0"),
    )
}


def find_board(name: str) -> Board:
    """Return the board of that name; raises `MemoryLimitError` for one that is not in the table."""
    if name not in BOARDS:
        raise MemoryLimitError(f"no board {name!r} in the table: choose one of {', '.join(BOARDS)}")
    return BOARDS[name]


def identify(model: str, memory: int) -> Board | None:
    """Return the board that a device tree's ``model`` and the memory that Linux counts, in bytes, speak of.

    Linux counts less than what is soldered on, so the smallest size of the family that holds it is the board's.
    """
    words = model.lower()
    family = next((key for key in ("orin nano", "orin nx", "agx orin", "thor") if key in words), None)
    if family is None:
        return None
    fitting = [board for board in BOARDS.values() if family in board.title.lower() and board.memory >= memory]
    return min(fitting, key=lambda board: board.memory, default=None)
