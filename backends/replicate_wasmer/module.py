"""A module compiled by wasmer: once for each thread that uses it, since what one thread has compiled no other may touch."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import attrs

from replicate.binary import FuncType, Prepared
from replicate.errors import UnsupportedError
from replicate.interfaces import Module
from replicate.limits import NO_LIMITS, ResourceLimits
from replicate.linking import Linkage

from ._runtime import wasmer
from .instance import WasmerInstance
from .maker import maker_of
from .shapes import Shape

if TYPE_CHECKING:
    from .engine import WasmerEngine

__all__ = ["Compiled", "WasmerModule"]


@attrs.frozen(eq=False)
class Compiled:
    """Be what one thread has compiled: a store and the module in it."""

    store: Any
    module: Any


class WasmerModule(Module):
    """Be one module compiled by wasmer."""

    engine: WasmerEngine

    def __init__(self, engine: WasmerEngine, prepared: Prepared, compiled: Compiled) -> None:
        super().__init__(engine, prepared)
        self._prepared = prepared
        self._threads = threading.local()
        self._threads.compiled = compiled
        self._shapes: dict[FuncType, Shape] = {}
        info = prepared.info
        self._functions = {
            export.name: info.function_type(export.index) for export in info.exports if export.kind == "func"
        }
        helpers = prepared.plan.helpers
        assert helpers is not None
        self._functions.update(helpers.types)
        actions = [name for slot in prepared.plan.segments for name in (slot.probe, slot.drop)]
        actions += [prepared.plan.start] if prepared.plan.start is not None else []
        self._functions.update(dict.fromkeys(actions, FuncType((), ())))
        self._exact = {
            export.name: helpers.bit_calls[export.index]
            for export in info.exports
            if export.kind == "func" and export.index in helpers.bit_calls
        }

    def create(self, linkage: Linkage, *, limits: ResourceLimits = NO_LIMITS) -> WasmerInstance:
        if limits != NO_LIMITS:
            raise UnsupportedError(
                f"wasmer can't keep resource limits: {limits}; leave them out, or use another engine"
            )
        return WasmerInstance(self, linkage, limits)

    def compiled(self) -> Compiled:
        """Give what the calling thread has compiled, compiling now if it hasn't."""
        compiled: Compiled | None = getattr(self._threads, "compiled", None)
        if compiled is None:
            compiled = self._threads.compiled = self.engine.compile_here(self._prepared)
        return compiled

    def maker(self, linkage: Linkage, store: Any) -> Any:
        """Give the module that makes what wasmer can't, compiled on this thread, or None if there's nothing to make."""
        wasm = maker_of(linkage)
        if wasm is None:
            return None
        known: dict[bytes, Any] | None = getattr(self._threads, "makers", None)
        if known is None:
            known = self._threads.makers = {}
        if wasm not in known:
            known[wasm] = wasmer.Module(store, wasm)
        return known[wasm]

    def shape(self, kind: FuncType) -> Shape:
        """Give the checks for a function type's values."""
        shape = self._shapes.get(kind)
        if shape is None:
            shape = self._shapes[kind] = Shape(kind)
        return shape

    def export_shape(self, name: str) -> Shape:
        """Give the checks for an exported function, or raise `MissingExportError`."""
        kind = self._functions.get(name)
        if kind is None:
            raise self.missing_function(name)
        return self.shape(kind)

    def exact_export(self, name: str) -> str | None:
        """Name the function that calls the export `name` with every bit of its f32 values, if it has any."""
        return self._exact.get(name)
