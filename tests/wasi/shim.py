"""Run a guest that imports WASI on wasmtime directly, without the core."""

from __future__ import annotations

import struct
from typing import Any

import wasmtime

from replicate.errors import MemoryAccessError
from replicate.wasi import Wasi

__all__ = ["ShimGuest"]

_TYPES = {"i32": wasmtime.ValType.i32, "i64": wasmtime.ValType.i64}


class ShimGuest:
    """Be an instance and, for host functions, their caller."""

    def __init__(self, module: bytes | str, wasi: Wasi) -> None:
        engine = wasmtime.Engine()
        self.store = wasmtime.Store(engine)
        self.state: dict[str, Any] = {}
        self.local: dict[str, Any] = {}
        self.error: BaseException | None = None
        linker = wasmtime.Linker(engine)
        for api, functions in wasi.imports().items():
            for name, function in functions.items():
                assert function.params is not None
                assert function.results is not None
                kind = wasmtime.FuncType(
                    [_TYPES[param]() for param in function.params], [_TYPES[result]() for result in function.results]
                )
                linker.define_func(api, name, kind, self._bound(function.fn))
        self.instance = linker.instantiate(self.store, wasmtime.Module(engine, module))
        memory = self.instance.exports(self.store)["memory"]
        assert isinstance(memory, wasmtime.Memory)
        self._memory = memory

    def _bound(self, fn: Any) -> Any:
        def call(*args: int) -> Any:
            try:
                return fn(self, *args)
            except BaseException as error:
                self.error = error
                raise

        return call

    def call(self, name: str, *args: int) -> Any:
        function = self.instance.exports(self.store)[name]
        assert isinstance(function, wasmtime.Func)
        self.error = None
        try:
            return function(self.store, *args)
        except Exception:
            if self.error is not None:
                raise self.error from None
            raise

    @property
    def memory(self) -> ShimGuest:
        return self

    @property
    def size(self) -> int:
        return self._memory.data_len(self.store)

    def read(self, offset: int, length: int) -> bytes:
        if offset + length > self.size:
            raise MemoryAccessError("outside")
        return bytes(self._memory.read(self.store, offset, offset + length))

    def write(self, offset: int, data: bytes) -> None:
        if offset + len(data) > self.size:
            raise MemoryAccessError("outside")
        self._memory.write(self.store, data, offset)

    def unpack(self, layout: str, offset: int) -> tuple[Any, ...]:
        return struct.unpack(layout, self.read(offset, struct.calcsize(layout)))

    def pack(self, layout: str, offset: int, *values: Any) -> None:
        self.write(offset, struct.pack(layout, *values))
