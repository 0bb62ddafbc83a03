"""What the TensorRT backend asks of a GPU and of an engine, so that all of it can be tried without either.

Work is queued on one stream and done in order; nothing is done, or can be read, before `Device.synchronise` returns.
The real side is `gmrt.runtime.backends.cuda`; its double in the tests queues and captures in host memory and runs the
graphs on onnxruntime.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from gmrt.runtime.profiles import Shape


@dataclass(frozen=True, eq=False)
class Memory:
    """Memory of a device, given back when nothing refers to this object any more."""

    address: int
    nbytes: int


class Device(Protocol):
    """Memory and one stream of a device."""

    def allocate(self, nbytes: int) -> Memory:
        """Allocate memory of the device, filled with zeros; raises `MemoryLimitError` where there is none left."""

    def pinned(self, shape: Shape, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """Allocate an array of zeros in host memory that the device reads and writes without a copy in between."""

    def copy(self, target: int, source: int, nbytes: int) -> None:
        """Queue a copy from address to address, of host or device; either end must live until it is done."""

    def copy_rows(
        self, target: int, target_pitch: int, source: int, source_pitch: int, *, width: int, rows: int
    ) -> None:
        """Queue one copy of ``rows`` rows of ``width`` bytes that begin a pitch of bytes apart."""

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        """Record what ``work`` queues, without doing it; returns what queues all of it again at once."""

    def synchronise(self) -> None:
        """Wait until all that was queued is done; raises `ProviderError` where something of it failed."""


class Engine(Protocol):
    """An engine of one graph."""

    def run(self, profile: int, shapes: Mapping[str, Shape], addresses: Mapping[str, int]) -> None:
        """Queue a run under an optimisation profile; ``shapes`` of the inputs, ``addresses`` of inputs and outputs.

        Raises `ProviderError` when the engine refuses the shapes.
        """


def address_of(array: npt.NDArray[Any]) -> int:
    """Where a contiguous array begins."""
    assert array.flags.c_contiguous
    return int(array.ctypes.data)


class Tensor:
    """One input or output of an engine: memory of the device and pinned memory of the host, for its largest shape."""

    def __init__(self, device: Device, shape: Shape, dtype: npt.DTypeLike) -> None:
        self._device = device
        self.host = device.pinned(shape, dtype)
        self.memory = device.allocate(self.host.nbytes)

    @property
    def address(self) -> int:
        """Its place in the device's memory."""
        return self.memory.address

    def view(self, shape: Shape) -> npt.NDArray[Any]:
        """The host's side in a shape that is no larger than the largest."""
        flat: npt.NDArray[Any] = self.host.reshape(-1)[: int(np.prod(shape))]
        return flat.reshape(shape)

    def upload(self, shape: Shape | None = None) -> None:
        """Queue the copy to the device, of the whole or of a smaller shape."""
        self._device.copy(self.address, address_of(self.host), self._bytes(shape))

    def download(self, shape: Shape | None = None) -> None:
        """Queue the copy from the device."""
        self._device.copy(address_of(self.host), self.address, self._bytes(shape))

    def _bytes(self, shape: Shape | None) -> int:
        return self.host.nbytes if shape is None else int(np.prod(shape)) * self.host.itemsize
