"""4-bit weights that make up for each other's rounding: GPTQ (Frantar et al. 2022, arXiv 2210.17323).

Rounding a weight to the nearest code is best for that weight and not for the product. With inputs x, what a row's
errors e do to the output is e H eᵀ, where H is the mean of x xᵀ: GPTQ rounds one column after the other and moves each
error, weighted by the inverse of H, onto the columns that are still to be rounded.

Columns go by descending diagonal of H, so that the channels that carry most are rounded first, while all others can
still make up for them. Scales and zero points are of the blocks in memory order and are fixed beforehand ("static
groups"): the order changes what is stored in no other way, and MatMulNBits reads it as it reads any other blocks.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from gmrt.calibration.blocks import BLOCK, Blocks, block_ranges

FloatArray = npt.NDArray[np.float32]

# Share of the mean diagonal that is added to the diagonal: the paper's 1 %.
DAMP = 0.01

# Columns whose errors are handed on together, as one product: the paper's lazy batch.
_LAZY = 128


def gptq(weight: FloatArray, hessian: npt.NDArray[Any], bits: int) -> Blocks:
    """Quantise a weight [N, K] for inputs whose mean of x xᵀ is ``hessian`` [K, K].

    A channel that was always zero (nothing on the diagonal) is rounded to nearest. Raises ValueError for a Hessian of
    another shape, or values that are not finite.
    """
    rows, columns = weight.shape
    if hessian.shape != (columns, columns):
        raise ValueError(f"a weight of {columns} columns needs a Hessian of {columns}², got {hessian.shape}")
    if not (np.isfinite(weight).all() and np.isfinite(hessian).all()):
        raise ValueError("the weight or its Hessian holds values that are not finite")
    diagonal = np.diag(hessian).astype(np.float64)
    scales, zeros = block_ranges(weight, bits)
    order = np.argsort(-diagonal, kind="stable")
    inverse = _inverse_root(hessian[np.ix_(order, order)]).astype(np.float32)
    # One row per column of the weight from here on: what the loop reads lies together.
    work, block_of = weight.T[order].astype(np.float32), order // BLOCK
    step, zero = scales.T, zeros.T.astype(np.float32)
    codes = np.repeat(zeros[:, :, None], BLOCK, axis=2)  # behind the last column: the code of 0
    flat = codes.reshape(rows, -1)
    for start in range(0, columns, _LAZY):
        stop = min(start + _LAZY, columns)
        errors = np.empty((stop - start, rows), np.float32)
        for j in range(start, stop):
            s, z = step[block_of[j]], zero[block_of[j]]
            code = np.clip(np.round(work[j] / s) + z, 0, 2**bits - 1)
            flat[:, order[j]] = code
            error = (work[j] - (code - z) * s) / inverse[j, j]
            work[j + 1 : stop] -= inverse[j, j + 1 : stop, None] * error
            errors[j - start] = error
        work[stop:] -= inverse[start:stop, stop:].T @ errors
    return Blocks(codes, scales, zeros, bits, columns)


def _inverse_root(hessian: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Upper triangular U with Uᵀ U = (H + damping)⁻¹.

    The Cholesky factor of H read backwards is an upper R with H = R Rᵀ, and U is its inverse.
    """
    damped = hessian.astype(np.float64)
    diagonal = np.diag(damped).copy()
    mean = float(diagonal.mean()) or 1.0
    np.fill_diagonal(damped, np.where(diagonal == 0, mean, diagonal) + DAMP * mean)
    root = np.linalg.cholesky(damped[::-1, ::-1])[::-1, ::-1]
    upper: npt.NDArray[np.float64] = np.triu(np.linalg.inv(root))
    return upper
