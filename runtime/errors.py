"""Every error that the runtime raises on purpose.

One base class, so that a caller can catch everything of ours; each leaf also inherits the standard type that a
caller would expect, so that nobody has to import this module to handle it. A message says what, where, and what to
do next, in one sentence.
"""

from __future__ import annotations


class GmrtError(Exception):
    """Base of all errors raised on purpose. ``exit_code`` is what the command exits with: 2 bad input, 1 failed run."""

    exit_code: int = 2


class BundleError(GmrtError, ValueError):
    """A bundle that is malformed, altered, or asks for something outside itself."""


class BundleNotFoundError(GmrtError, FileNotFoundError):
    """No bundle at the given path, or one of its files is missing."""


class SceneError(GmrtError, ValueError):
    """An image or raster that cannot be turned into the three bands that the model sees."""


class NoDataError(SceneError):
    """A raster, or a window of one, in which every pixel is masked, transparent or nodata."""


class SceneNotFoundError(GmrtError, FileNotFoundError):
    """No file at the given path."""


class SceneReadError(GmrtError, OSError):
    """A file that opens, and then fails while its pixels are read."""

    exit_code = 1


class PromptError(GmrtError, ValueError):
    """A prompt that is empty, too long, or does not fit the number of images."""


class PointsError(GmrtError, ValueError):
    """A location that is not a well-formed set of points."""


class ConstraintError(GmrtError, ValueError):
    """A constraint on the answer that cannot be applied."""


class CacheFullError(GmrtError, RuntimeError):
    """The KV cache has no room for the rows that a step would add."""

    exit_code = 1

    def __init__(self, needed: int, capacity: int) -> None:
        super().__init__(
            f"the KV cache holds {capacity} tokens and this request needs {needed}: "
            "shorten the prompt, ask for fewer tokens, or allow more memory"
        )
        self.needed = needed
        self.capacity = capacity


class ProviderError(GmrtError, RuntimeError):
    """An execution provider that is not installed, not present on this machine, or too old."""


class MemoryLimitError(GmrtError, MemoryError):
    """A bundle that does not fit the memory that the caller allows."""


class BusyError(GmrtError, RuntimeError):
    """A model that is already answering in another thread."""

    exit_code = 1


class GateError(GmrtError, RuntimeError):
    """An export whose parity gate failed; nothing was written."""

    exit_code = 1


class MissingExtraError(GmrtError, ImportError):
    """A part of the package whose optional dependencies are not installed."""

    exit_code = 1


class CheckpointError(GmrtError, ValueError):
    """A checkpoint that is incomplete, or of a kind that cannot be exported."""
