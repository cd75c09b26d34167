"""wasmer as an engine of `replicate`, inside this process; `replicate.load_engine("wasmer")` gives it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .engine import WasmerEngine

__all__ = ["WasmerEngine"]


def __getattr__(name: str) -> Any:
    """Import the engine, and wasmer with it, when it's asked for: `environment` has to be readable without."""
    if name != "WasmerEngine":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .engine import WasmerEngine

    return WasmerEngine
