"""wasmtime as an engine of `replicate`; `replicate.load_engine("wasmtime")` gives it."""

from __future__ import annotations

from .engine import WasmtimeEngine

__all__ = ["WasmtimeEngine"]
