"""The key-value guest under the bare runtime, for the tests of this folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import wasmtime

__all__ = ["BINARY", "HEAP_PAGE", "ROOT", "WASM_PAGE", "Guest", "MakeGuest", "signed"]

ROOT = Path(__file__).resolve().parents[2]
BINARY = (ROOT / "adapters" / "replicate_kv" / "kv.wasm").read_bytes()
FUEL = 2_000_000_000  # instructions, some seconds
HEAP_PAGE = 4096
WASM_PAGE = 65536


class Guest:
    """One instance, its memory limited to `limit` Wasm pages."""

    def __init__(
        self, engine: wasmtime.Engine, module: wasmtime.Module, *, limit: int | None = None, initialise: bool = True
    ) -> None:
        self.store = wasmtime.Store(engine)
        self.store.set_fuel(FUEL)
        if limit is not None:
            self.store.set_limits(memory_size=limit * WASM_PAGE)
        self.exports = wasmtime.Instance(self.store, module, []).exports(self.store)
        if initialise:
            self.call("_initialize")

    def call(self, name: str, *args: int) -> Any:
        function = self.exports[name]
        assert isinstance(function, wasmtime.Func)
        return function(self.store, *args)

    @property
    def memory(self) -> wasmtime.Memory:
        memory = self.exports["memory"]
        assert isinstance(memory, wasmtime.Memory)
        return memory

    def image(self) -> bytes:
        return bytes(self.memory.read(self.store))

    def read(self, at: int, length: int) -> bytes:
        return bytes(self.memory.read(self.store, at, at + length)) if length else b""

    def alloc(self, data: bytes) -> int:
        at: int = self.call("alloc", len(data)) & 0xFFFFFFFF
        assert at != 0
        if data:
            self.memory.write(self.store, data, at)
        return at

    def put_bytes(self, key: bytes, value: bytes) -> int:
        key_at, value_at = self.alloc(key), self.alloc(value)
        answer: int = self.call("put_bytes", key_at, len(key), value_at, len(value))
        self.call("release", key_at, len(key))
        self.call("release", value_at, len(value))
        return answer

    def get_bytes(self, key: bytes) -> bytes | None:
        at = self.alloc(key)
        span = self.call("get_bytes", at, len(key))
        self.call("release", at, len(key))
        return None if span == -1 else self.read(span >> 32 & 0xFFFFFFFF, span & 0xFFFFFFFF)

    def delete_bytes(self, key: bytes) -> int:
        at = self.alloc(key)
        answer: int = self.call("delete_bytes", at, len(key))
        self.call("release", at, len(key))
        return answer


MakeGuest: TypeAlias = "Callable[..., Guest]"


def signed(value: int) -> int:
    return (value + 2**63) % 2**64 - 2**63
