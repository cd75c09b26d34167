"""Modules under the bare runtime: as they are, without anything of ours around them."""

from __future__ import annotations

import functools
from typing import Any

import wasmtime

from replicate import HostFunction, HostGlobal, Trap, TrapCode
from replicate.binary import ModuleInfo
from replicate.testing import GeneratedModule
from replicate.testing.outcomes import HostLog

__all__ = ["BareGuest", "runs_bare"]

_INTEGERS = {"i32": 32, "i64": 64}


@functools.cache
def engine() -> wasmtime.Engine:
    config = wasmtime.Config()
    for proposal in [
        "memory64",
        "multi_memory",
        "tail_call",
        "function_references",
        "gc",
        "extended_const",
        "custom_page_sizes",
    ]:
        setattr(config, f"wasm_{proposal}", True)
    return wasmtime.Engine(config)


def runs_bare(info: ModuleInfo) -> bool:
    """Tell whether the runtime's Python binding can make the module's imports: it knows no vectors."""
    return not any(item.kind == "global" and item.type.value.text == "v128" for item in info.imports)  # type: ignore[union-attr]


class BareGuest:
    """Be an instance that calls and is called like ours, in integers."""

    def __init__(self, module: GeneratedModule, info: ModuleInfo, log: HostLog) -> None:
        self.state: dict[str, Any] = {}
        self.info = info
        self.functions = {item.name: info.function_type(item.index) for item in info.exports if item.kind == "func"}
        compiled = wasmtime.Module(engine(), module.wasm)
        self.store = wasmtime.Store(engine())
        given = log.wrap(module.imports(), info)
        imports = [
            self._import(item.type, str(declared.type), given[declared.module].get(declared.name))
            for item, declared in zip(compiled.imports, info.imports, strict=True)
        ]
        self.instance = wasmtime.Instance(self.store, compiled, imports)
        self.exports = self.instance.exports(self.store)

    def _import(self, kind: Any, declared: str, value: Any) -> Any:
        if isinstance(kind, wasmtime.FuncType):
            assert isinstance(value, HostFunction)
            fn = functools.partial(value.fn, self) if value.caller else value.fn
            return wasmtime.Func(self.store, kind, lambda *args: fn(*args))
        if isinstance(kind, wasmtime.GlobalType):
            assert isinstance(value, HostGlobal)
            return wasmtime.Global(self.store, kind, _value(declared, value.value))
        if isinstance(kind, wasmtime.MemoryType):
            return wasmtime.Memory(self.store, kind)
        assert isinstance(kind, wasmtime.TableType)
        return wasmtime.Table(self.store, kind, None)

    def takes_integers(self, name: str) -> bool:
        """Tell whether all that a function takes and gives are integers."""
        kind = self.functions[name]
        return all(value.text in _INTEGERS for value in (*kind.params, *kind.results))

    def call(self, name: str, *args: Any) -> Any:
        """Call an export with Python values; traps come as ours do."""
        function = self.exports[name]
        assert isinstance(function, wasmtime.Func)
        try:
            return function(self.store, *args)
        except wasmtime.Trap as trap:
            code = TrapCode.OTHER if trap.trap_code is None else TrapCode[trap.trap_code.name]
            raise Trap(str(trap), code=code) from None

    def call_bits(self, name: str, *bits: Any) -> Any:
        """Call an export with unsigned integers both ways."""
        kind = self.functions[name]
        signed = [
            value - (1 << _INTEGERS[param.text]) if value >> (_INTEGERS[param.text] - 1) else value
            for value, param in zip(bits, kind.params, strict=True)
        ]
        given = self.call(name, *signed)
        results = given if isinstance(given, list) else [given] if kind.results else []
        unsigned = [
            value & (1 << _INTEGERS[result.text]) - 1 for value, result in zip(results, kind.results, strict=True)
        ]
        return (unsigned[0] if len(unsigned) == 1 else tuple(unsigned)) if unsigned else None


def _value(declared: str, value: Any) -> wasmtime.Val:
    kind = declared.strip("()").split()[-1]
    if kind in _INTEGERS and value >> (_INTEGERS[kind] - 1):
        value -= 1 << _INTEGERS[kind]
    found: wasmtime.Val = getattr(wasmtime.Val, kind)(value)
    return found
