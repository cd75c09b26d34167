"""The contract of a backend, for wasmtime."""

from __future__ import annotations

from replicate.testing import EngineTests


class TestWasmtime(EngineTests):
    engine_name = "wasmtime"
