"""Remote-sensing vision-language models on small devices: GeoTIFF and words in, text and places out.

``gmrt.load`` is the way in; see `gmrt.runtime.model`. It is looked up on first use, so that ``import gmrt``, and the
command with it, costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gmrt.runtime.model import load

__all__ = ["__version__", "load"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name == "load":
        from gmrt.runtime.model import load

        return load
    raise AttributeError(f"module 'gmrt' has no attribute {name!r}")
