"""The contract of pools, for wasmtime."""

from __future__ import annotations

from replicate.testing import PoolTests


class TestWasmtimePools(PoolTests):
    engine_name = "wasmtime"
