"""wasmer as an engine of `replicate`, inside this process; `replicate.load_engine("wasmer")` gives it."""

from __future__ import annotations

from .engine import WasmerEngine

__all__ = ["WasmerEngine"]
