"""wasmer as an engine: compilation, and the cache of compiled code."""

from __future__ import annotations

import hashlib
import json
import platform
from pathlib import Path
from typing import ClassVar

from replicate.binary import HostAccess, Prepared
from replicate.cache import ArtifactCache, cache_folder
from replicate.errors import EngineUnavailableError, InvalidModuleError, UnsupportedError
from replicate.interfaces import Engine, EngineTraits, Module
from replicate.known_modules import KnownModules
from replicate.preparing import prepare_for

from ._runtime import MISSING, compiler, wasmer
from .module import Compiled, WasmerModule

__all__ = ["WasmerEngine"]

_CACHE_FORMAT = 1
_SMALL = 1 << 12
_ACCESS = HostAccess(exact_f32=False, references=False, imported_tables=False)
# What wasmer says about modules that use what came after it.
_UNKNOWN_PROPOSALS = (
    "enabled",
    "multiple memories",
    "only one init_expr operator",
    "invalid leading byte in type definition",
    "subopcode",
    "limits flags",
    "element is not reference type",
    "unknown value type",
    "invalid value type",
    "invalid reference type",
    "Unsupported feature",
    "unknown opcode",
    "Unknown opcode",
)


class WasmerEngine(Engine):
    """Be wasmer 1.1 with its Cranelift compiler, inside this process.

    Every instance belongs to the thread that made it, calls keep the interpreter lock, and a running guest can't be stopped.
    Compiled code is kept in the user's cache folder; ``cache=False`` keeps nothing.
    """

    __slots__ = ("_artifacts", "_modules")

    name: ClassVar[str] = "wasmer"
    traits: ClassVar[EngineTraits] = EngineTraits(
        multi_memory=False,
        memory64=False,
        tail_calls=False,
        exceptions=False,
        gc=False,
        extended_const=False,
        relaxed_simd=False,
        extern_elements=False,
        reference_values=False,
        releases_gil=False,
        thread_bound=True,
        interruptible=False,
        resource_limits=False,
        companions=False,
        stable_memory=True,
    )

    def __init__(self, *, cache: bool = True) -> None:
        if MISSING is not None:
            raise EngineUnavailableError(MISSING)
        self._modules: KnownModules[WasmerModule] = KnownModules()
        self._artifacts = ArtifactCache(cache_folder() / "compiled") if cache else None

    @property
    def version(self) -> str:
        return f"wasmer {wasmer.__version__}"

    def wat_to_wasm(self, text: str) -> bytes:
        try:
            return bytes(wasmer.wat2wasm(text))
        except RuntimeError as error:
            raise InvalidModuleError(f"the WAT text isn't valid, or newer than wasmer's assembler: {error}") from error

    def prepare(self, wasm: bytes) -> Prepared:
        return prepare_for(self.version, wasm, self._validate, artifacts=self._artifacts, access=_ACCESS)

    def _validate(self, wasm: bytes) -> None:
        store = wasmer.Store(wasmer.engine.Universal(compiler))
        if not wasmer.Module.validate(store, wasm):
            self._compile(store, wasm)  # which says why
            raise InvalidModuleError("the module isn't valid Wasm, says wasmer")

    def compile_wasm(self, wasm: bytes) -> Module:
        module = self._modules.find(wasm)
        return super().compile_wasm(wasm) if module is None else module

    def compile_prepared(self, prepared: Prepared) -> WasmerModule:
        if prepared.plan.helpers is None:
            raise UnsupportedError("this module was prepared for another engine: prepare it with this one")
        return self._modules.keep(WasmerModule(self, prepared, self.compile_here(prepared)))

    def compile_here(self, prepared: Prepared) -> Compiled:
        """Compile for the calling thread, or load what has been compiled before."""
        store = wasmer.Store(wasmer.engine.Universal(compiler))
        if self._artifacts is None or len(prepared.wasm) < _SMALL:
            return self._compile(store, prepared.wasm)
        key = f"wasmer-{_cache_key(self.version, prepared.wasm)}"
        kept = self._artifacts.find(key)
        if kept is not None:
            try:
                return Compiled(store, wasmer.Module.deserialize(store, kept.read_bytes()))
            except (OSError, RuntimeError):
                kept.unlink(missing_ok=True)
        compiled = self._compile(store, prepared.wasm)
        self._artifacts.keep(key, bytes(compiled.module.serialize()))
        return compiled

    @staticmethod
    def _compile(store: object, wasm: bytes) -> Compiled:
        try:
            return Compiled(store, wasmer.Module(store, wasm))
        except RuntimeError as error:
            message = " ".join(str(error).split())
            if any(words in message for words in _UNKNOWN_PROPOSALS):
                raise UnsupportedError(f"wasmer doesn't run this module: {message}") from error
            raise InvalidModuleError(f"the module isn't valid Wasm: {message}") from error


def _cache_key(version: str, wasm: bytes) -> str:
    """Make a key of all that compiled code depends on; wasmer checks none of it when it loads code."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
        processor = next((line for line in lines if line.startswith("flags")), "")
    except OSError:
        processor = platform.processor()
    parts = [_CACHE_FORMAT, version, platform.system(), platform.machine(), processor, hashlib.sha256(wasm).hexdigest()]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
