"""Weights in blocks: each run of 64 values along K has a scale (and, at 4 bits, a zero point) of its own.

The layout is that of onnxruntime's MatMulNBits: codes uint8 [N, blocks, 64 · bits / 8], scales float32 [N, blocks],
zero points packed like the codes. K is padded with zeros to whole blocks.

Rounding is to nearest. 8 bits are symmetric, because a zero point gains nothing there (cosine to the float product on
normal weights 0.999968 with it, 0.999965 without). 4 bits take the zero point (0.9958 against 0.9953) and span all of a
block: narrower ranges, which clip the largest weights, have a smaller mean square error and a larger perplexity
(docs/quantization.md). A method that chooses codes otherwise (`gmrt.calibration.gptq`) returns the same `Blocks`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
ByteArray = npt.NDArray[np.uint8]

# 64: at 32 the CPU kernel is markedly slower, at 128 four bits lose more.
BLOCK = 64


@dataclass(frozen=True)
class Blocks:
    """A weight [N, K] in blocks.

    ``codes`` uint8 [N, blocks, 64] not packed; ``scales`` float32 [N, blocks]; ``zeros`` uint8 [N, blocks], or None
    where every zero point is the middle code ``2 ** (bits - 1)``.
    """

    codes: ByteArray
    scales: FloatArray
    zeros: ByteArray | None
    bits: int
    columns: int

    def packed(self) -> ByteArray:
        """Codes as MatMulNBits reads them: uint8 [N, blocks, 64 · bits / 8], the first of a pair in the low half."""
        return self.codes if self.bits == 8 else _pack_nibbles(self.codes)

    def packed_zeros(self) -> ByteArray:
        """Zero points as MatMulNBits reads them: uint8 [N, ceil(blocks · bits / 8)]."""
        if self.zeros is None:
            raise ValueError("symmetric blocks have no zero points")
        return self.zeros if self.bits == 8 else _pack_nibbles(self.zeros)

    def dequantise(self) -> FloatArray:
        """Return the float32 weight [N, K] that these blocks stand for."""
        zeros: Any = 2 ** (self.bits - 1) if self.zeros is None else self.zeros[..., None]
        values = (self.codes.astype(np.float32) - zeros) * self.scales[..., None]
        out: FloatArray = values.reshape(len(values), -1)[:, : self.columns].astype(np.float32)
        return out


def quantise_blocks(weight: FloatArray, bits: int) -> Blocks:
    """Quantise a weight [N, K] to 8 or 4 bits; raise ValueError for other widths or values that are not finite."""
    if bits not in (4, 8):
        raise ValueError(f"blocks hold 4 or 8 bits, got {bits}")
    if not np.isfinite(weight).all():
        raise ValueError("the weight holds values that are not finite")
    values = _in_blocks(weight)
    if bits == 8:
        scales = np.abs(values).max(axis=-1) / np.float32(127)
        scales[scales == 0] = 1
        return Blocks(_codes(values, scales, 128, 255), scales, None, bits, weight.shape[1])
    scales, zeros = block_ranges(weight, bits)
    return Blocks(_codes(values, scales, zeros[..., None], 2**bits - 1), scales, zeros, bits, weight.shape[1])


def block_ranges(weight: FloatArray, bits: int) -> tuple[FloatArray, ByteArray]:
    """Scales float32 and zero points uint8 [N, blocks] that span each block of a weight [N, K], zero included."""
    top = 2**bits - 1
    values = _in_blocks(weight)
    low, high = np.minimum(values.min(axis=-1), 0), np.maximum(values.max(axis=-1), 0)
    scales = (high - low) * np.float32(1 / top)
    scales[scales == 0] = 1
    return scales, np.clip(np.round(-low / scales), 0, top).astype(np.uint8)


def _in_blocks(weight: FloatArray) -> FloatArray:
    """[N, K] → [N, blocks, 64], zeros behind the last column."""
    rows, columns = weight.shape
    count = -(-columns // BLOCK)
    padded = np.zeros((rows, count * BLOCK), dtype=np.float32)
    padded[:, :columns] = weight
    return padded.reshape(rows, count, BLOCK)


def _codes(values: FloatArray, scales: FloatArray, zeros: Any, top: int) -> ByteArray:
    codes: ByteArray = np.clip(np.round(values / scales[..., None]) + zeros, 0, top).astype(np.uint8)
    return codes


def _pack_nibbles(codes: ByteArray) -> ByteArray:
    if codes.shape[-1] % 2:
        codes = np.concatenate([codes, np.zeros_like(codes[..., :1])], axis=-1)
    packed: ByteArray = codes[..., 0::2] | np.left_shift(codes[..., 1::2], 4, dtype=np.uint8)
    return packed
