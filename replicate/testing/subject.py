"""What is put to the proof: a compiled module, and what every instance of it is given."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import attrs

from replicate.binary import FuncType, GlobalType, Import, ModuleInfo
from replicate.errors import ImportTypeError, MissingImportError, UnsupportedError
from replicate.imports import HostFunction, HostGlobal, Imports
from replicate.interfaces import Engine, Instance, Module
from replicate.limits import NO_LIMITS, ResourceLimits
from replicate.linking import fit_function
from replicate.registry import load_engine
from replicate.source import read_source
from replicate.testing.outcomes import HostLog
from replicate.wasi import FixedClock, Wasi

__all__ = ["ImportSource", "Subject", "default_imports"]

_MOST_NEW_ELEMENTS = 1024

ImportSource: TypeAlias = "Imports | Callable[[], Imports] | None"
"""Imports, or a function that makes them afresh for each of the instances that are compared."""


@attrs.frozen(eq=False)
class Subject:
    """Be a module to try, with its imports. `make_imports` is called for each instance, and for each pool."""

    module: Module
    make_imports: Callable[[], Imports]
    wasm: bytes | None = attrs.field(default=None, repr=False)
    """The module's binary; None if it was given compiled."""
    limits: ResourceLimits = NO_LIMITS
    """What each instance may grow to."""

    @classmethod
    def of(
        cls,
        module: bytes | str | Path | Module,
        *,
        imports: ImportSource = None,
        engine: str | Engine = "wasmtime",
        max_growth: int | None = 1 << 20,
    ) -> Subject:
        """Compile `module` if it isn't yet, and fill in what `imports` leaves out; see `default_imports`.

        Memories may grow to `max_growth` bytes, and tables to 1024 elements, over what the largest of them is declared to
        start with, where the engine keeps limits: drawn calls ask for absurd amounts, and comparing copies all there is.

        Raises `InvalidModuleError`, `UnsupportedError`, `NotReplicableError` or `MissingImportError`.
        """
        wasm = None
        if isinstance(module, Module):
            compiled = module
        else:
            runtime = load_engine(engine) if isinstance(engine, str) else engine
            wasm = read_source(module, runtime.wat_to_wasm)
            compiled = runtime.compile(wasm)
        compiled.check_replicable()

        def make() -> Imports:
            given = imports() if callable(imports) else imports
            return default_imports(compiled.info, given or {})

        limits = NO_LIMITS
        if max_growth is not None and compiled.engine.traits.resource_limits:
            limits = _limits(compiled.info, max_growth)
        return cls(compiled, make, wasm, limits)

    def on(self, engine: str | Engine) -> Subject:
        """Give the same subject on another engine; raise `UnsupportedError` if only a compiled module was given."""
        if self.wasm is None:
            raise UnsupportedError(
                "a compiled module runs on its own engine only: give the binary, the text or a path to carry it to another"
            )
        return attrs.evolve(self, module=Subject.of(self.wasm, imports=self.make_imports, engine=engine).module)

    def create(self, log: HostLog) -> Instance:
        """Make an instance that hasn't started, for a snapshot to be restored in."""
        linkage = self.module.link(log.wrap(self.make_imports(), self.module.info))
        return self.module.create(linkage, limits=self.limits)

    def start(self, log: HostLog) -> Instance:
        """Make an instance and start it as a pool does its leader: start function, then ``_initialize`` if exported."""
        instance = self.create(log)
        try:
            instance.start()
        except BaseException:
            instance.close()
            raise
        log.take()
        return instance

    def function_types(self) -> dict[str, FuncType]:
        """Map the exported functions to their types."""
        info = self.module.info
        return {export.name: info.function_type(export.index) for export in info.exports if export.kind == "func"}

    @contextmanager
    def bounded(self, instance: Instance, seconds: float | None) -> Iterator[None]:
        """Bound what an instance does meanwhile; not where the engine can't interrupt."""
        with instance.within(seconds if self.module.engine.traits.interruptible else None):
            yield


def _limits(info: ModuleInfo, max_growth: int) -> ResourceLimits:
    memory = max((type_.minimum * type_.page_size for type_ in info.memories), default=0)
    table = max((type_.minimum for type_ in info.tables), default=0)
    return ResourceLimits(memory_bytes=memory + max_growth, table_elements=table + _MOST_NEW_ELEMENTS)


def default_imports(info: ModuleInfo, given: Imports) -> dict[str, dict[str, Any]]:
    """Complete `given` with stand-ins for what a module imports besides.

    WASI gets `replicate.wasi.Wasi` with a seed and a clock that depends on the guest alone. Other functions, and WASI's
    where a module gives them types of its own, take what they are declared to and return zeros and nulls; globals are zero or null; memories and tables are as declared. Raises
    `MissingImportError` for what has no stand-in: a result or global that is a reference and never null.
    """
    filled: dict[str, dict[str, Any]] = {module: dict(names) for module, names in given.items()}
    wasi: dict[str, Any] | None = None
    for wanted in info.imports:
        names = filled.setdefault(wanted.module, {})
        if wanted.name in names:
            continue
        if wanted.module in ("wasi_snapshot_preview1", "wasi_unstable"):
            wasi = dict(Wasi(seed=0, clock=FixedClock(step_ns=1000)).imports()) if wasi is None else wasi
            if wanted.name in wasi[wanted.module] and _fits(wanted, wasi[wanted.module][wanted.name]):
                names[wanted.name] = wasi[wanted.module][wanted.name]
                continue
        stand_in = _stand_in(wanted)
        if stand_in is not None:
            names[wanted.name] = stand_in
    return filled


def _fits(wanted: Import, function: HostFunction) -> bool:
    try:
        return isinstance(wanted.type, FuncType) and bool(fit_function(wanted.name, wanted.type, function))
    except ImportTypeError:
        return False


def _stand_in(wanted: Import) -> Any:
    kind = wanted.type
    if isinstance(kind, FuncType):
        values = tuple(_zero(value, wanted) for value in kind.results)
        result = values[0] if len(values) == 1 else values or None
        return lambda *args: result
    if isinstance(kind, GlobalType):
        return HostGlobal(_zero(kind.value, wanted))
    return None


def _zero(kind: Any, wanted: Import) -> Any:
    if kind.is_number:
        return 0.0 if kind.text in ("f32", "f64") else 0
    if kind.is_nullable:
        return None
    raise MissingImportError(
        f"{wanted.kind} {wanted.module}.{wanted.name} gives a {kind}, for which there's no stand-in: give it in imports"
    )
