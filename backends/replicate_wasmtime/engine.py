"""wasmtime as an engine: configuration, compilation, and the cache of compiled code."""

from __future__ import annotations

import atexit
import ctypes
import hashlib
import json
import os
import platform
import threading
import weakref
from importlib import metadata
from typing import ClassVar

import wasmtime

from replicate.binary import Prepared
from replicate.cache import ArtifactCache, cache_folder
from replicate.errors import EngineUnavailableError, InvalidModuleError
from replicate.interfaces import Engine, EngineTraits, Module
from replicate.known_modules import KnownModules
from replicate.limits import ticker
from replicate.preparing import prepare_for

from . import _capi
from .cell import close_cells
from .faults import module_refusal
from .module import WasmtimeModule

__all__ = ["WasmtimeEngine"]

_PROPOSALS = (
    "wasm_bulk_memory",
    "wasm_exceptions",
    "wasm_function_references",
    "wasm_gc",
    "wasm_memory64",
    "wasm_multi_memory",
    "wasm_multi_value",
    "wasm_reference_types",
    "wasm_relaxed_simd",
    "wasm_simd",
    "wasm_tail_call",
    "wasm_threads",
    "wasm_wide_arithmetic",
    "wasm_custom_page_sizes",
)
_CACHE_FORMAT = 2
_FIRST_PROCESS = os.getpid()
_engines: weakref.WeakSet[WasmtimeEngine] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """Free what is left before the interpreter clears the names that wasmtime-py needs for it."""
    close_cells()
    for engine in list(_engines):
        for module in engine._modules:
            module.close()
        engine.native.close()


class WasmtimeEngine(Engine):
    """Be wasmtime, configured for replication.

    Epoch interruption is compiled in, so that a running guest can be stopped. The pooling allocator is never used: it
    reuses slots with mappings of its own. Compiled code is kept in the user's cache folder, since compiling takes about a
    second for 2.5 MB of Wasm and loading half a millisecond; ``cache=False`` keeps nothing. With ``interruptible=False``
    guests run without looking at the epoch, which is faster, and can't be stopped.
    """

    __slots__ = ("_artifacts", "_configuration", "_lock", "_modules", "_plain", "_pointer", "interrupts", "native")

    name: ClassVar[str] = "wasmtime"
    traits: ClassVar[EngineTraits] = EngineTraits(
        multi_memory=True,
        memory64=True,
        tail_calls=True,
        exceptions=True,
        gc=True,
        extended_const=True,
        relaxed_simd=True,
        extern_elements=True,
        reference_values=True,
        releases_gil=True,
        thread_bound=False,
        interruptible=True,
        resource_limits=True,
        companions=True,
        stable_memory=True,
    )

    def __init__(self, *, cache: bool = True, interruptible: bool = True) -> None:
        if _capi.UNFIT is not None:
            raise EngineUnavailableError(
                f"wasmtime {metadata.version('wasmtime')} doesn't fit this backend: {_capi.UNFIT}; "
                "install a release it was made for: pip install 'wasmtime>=50,<51'"
            )
        config = wasmtime.Config()
        for proposal in _PROPOSALS:
            setattr(config, proposal, True)
        config.epoch_interruption = interruptible
        # The threads that compile in parallel aren't there in a forked child, and would be waited for without end.
        config.parallel_compilation = os.getpid() == _FIRST_PROCESS
        self.interrupts = interruptible
        self._configuration = [*_PROPOSALS, f"epoch_interruption={interruptible}"]
        self.native = wasmtime.Engine(config)
        self._pointer = ctypes.cast(self.native.ptr(), ctypes.c_void_p).value
        self._plain: WasmtimeEngine | None = None
        _engines.add(self)
        self._lock = threading.Lock()
        self._modules: KnownModules[WasmtimeModule] = KnownModules()
        self._artifacts = ArtifactCache(cache_folder() / "compiled") if cache else None
        if interruptible:
            ticker.watch_main_thread(self)

    @property
    def version(self) -> str:
        return f"wasmtime {metadata.version('wasmtime')}"

    def tick(self) -> None:
        _capi.increment_epoch(self._pointer)

    def uninterruptible(self) -> WasmtimeEngine:
        if not self.interrupts:
            return self
        with self._lock:
            if self._plain is None:
                self._plain = WasmtimeEngine(cache=self._artifacts is not None, interruptible=False)
            return self._plain

    def wat_to_wasm(self, text: str) -> bytes:
        try:
            return bytes(wasmtime.wat2wasm(text))
        except wasmtime.WasmtimeError as error:
            raise InvalidModuleError(f"the WAT text isn't valid: {error}") from error

    def prepare(self, wasm: bytes) -> Prepared:
        return prepare_for(self.version, wasm, self._validate, artifacts=self._artifacts)

    def _validate(self, wasm: bytes) -> None:
        try:
            wasmtime.Module.validate(self.native, wasm)
        except wasmtime.WasmtimeError as error:
            raise module_refusal(error) from error

    def compile_wasm(self, wasm: bytes) -> Module:
        module = self._modules.find(wasm)
        return super().compile_wasm(wasm) if module is None else module

    def compile_prepared(self, prepared: Prepared) -> WasmtimeModule:
        return self._modules.keep(WasmtimeModule(self, prepared, self._native_module(prepared)))

    def _native_module(self, prepared: Prepared) -> wasmtime.Module:
        if self._artifacts is None or len(prepared.wasm) < 1 << 12:
            return self.compile_plain(prepared.wasm)
        # The code depends on the release, the configuration and the processor; wasmtime checks all three on loading,
        # and the key keeps code of several side by side.
        parts = [_CACHE_FORMAT, self.version, platform.system(), platform.machine(), self._configuration]
        parts.append(hashlib.sha256(prepared.wasm).hexdigest())
        key = "wasmtime-" + hashlib.sha256(json.dumps(parts).encode()).hexdigest()
        kept = self._artifacts.find(key)
        if kept is not None:
            try:
                return wasmtime.Module.deserialize_file(self.native, str(kept))
            except wasmtime.WasmtimeError:
                kept.unlink(missing_ok=True)
        native = self.compile_plain(prepared.wasm)
        self._artifacts.keep(key, bytes(native.serialize()))
        return native

    def compile_plain(self, wasm: bytes) -> wasmtime.Module:
        """Compile a binary as it is; raise `InvalidModuleError` or `UnsupportedError`."""
        try:
            return wasmtime.Module(self.native, wasm)
        except wasmtime.WasmtimeError as error:
            raise module_refusal(error) from error
