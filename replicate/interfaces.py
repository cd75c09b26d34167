"""The contract between the core and a Wasm runtime: all that the author of a backend has to read.

A backend subclasses `Engine`, `Module` and `Instance`, registers the engine under the entry point group
``replicate.engines``, and subclasses `replicate.testing.EngineTests`, which checks every promise made here and every claim
in `EngineTraits`.

Indices are the module's own index spaces, imports first. An *instance* here is the object a user holds: the runtime's own
instance behind it may be replaced (`Instance.rebuild`), since a memory can't shrink and a dropped segment doesn't come back.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import attrs

from replicate.binary import GlobalType, ModuleInfo, Prepared, StatePlan, TableSlot
from replicate.errors import (
    ArgumentTypeError,
    MissingExportError,
    NotReplicableError,
    StateError,
    TableAccessError,
    UnsupportedError,
)
from replicate.gate import Gate
from replicate.handles import Global, Guest, Memory, Table, no_name, outside
from replicate.limits import NO_LIMITS, Limit, ResourceLimits, check_timeout, ticker
from replicate.linking import Linkage, link
from replicate.plaindata import copy_plain
from replicate.signals import deaf_entry
from replicate.source import read_source
from replicate.values import bits_to_value, value_to_bits

if TYPE_CHECKING:
    from replicate.adapter import Adapter
    from replicate.imports import Companion, Imports
    from replicate.snapshot import Snapshot

__all__ = ["Engine", "EngineTraits", "Instance", "LiveReference", "Module", "Reference", "Within"]


@attrs.frozen(kw_only=True)
class EngineTraits:
    """Say what an engine can do. Each claim is tested by `replicate.testing.EngineTests`, true or false."""

    multi_memory: bool
    """Modules with several memories."""
    memory64: bool
    """64-bit memories and tables."""
    tail_calls: bool
    exceptions: bool
    gc: bool
    extended_const: bool
    relaxed_simd: bool
    extern_elements: bool
    """Element segments of externref."""
    reference_values: bool
    """funcref and externref arguments and results, and host access to elements of tables. An engine without it carries
    references as state all the same: see `replicate.binary.HostAccess` and `replicate.helped`."""
    releases_gil: bool
    """Guest calls let other Python threads run, so replicas in threads use several cores."""
    thread_bound: bool
    """Instances may only be used on the thread that made them, `close` apart; elsewhere uses raise `ThreadBoundError`."""
    interruptible: bool
    """A running guest can be stopped from another thread."""
    resource_limits: bool
    """`ResourceLimits` are kept; where they aren't, asking for any raises `UnsupportedError`."""
    companions: bool
    """`replicate.imports.Companion` functions are called without Python."""
    stable_memory: bool
    """A 32-bit memory keeps its page-aligned address for life, so pages may be mapped over it."""


@attrs.frozen
class LiveReference:
    """Stand for a reference that can't be carried to another instance; `reason` says why."""

    reason: str


Reference = int | None | LiveReference
"""A reference as state: a function's index, null, or something that can't be carried."""


class Engine(abc.ABC):
    """Be one Wasm runtime. Engines are stateless to their users: every method may be called from any thread."""

    __slots__ = ("__weakref__",)

    name: ClassVar[str]
    traits: ClassVar[EngineTraits]

    @property
    @abc.abstractmethod
    def version(self) -> str:
        """Give the runtime's name and version, such as ``"wasmtime 50.0.1"``."""

    @abc.abstractmethod
    def wat_to_wasm(self, text: str) -> bytes:
        """Assemble WAT; raise `InvalidModuleError` with the assembler's message."""

    @abc.abstractmethod
    def prepare(self, wasm: bytes) -> Prepared:
        """Read, scan and instrument a binary, reusing what an earlier run kept; `replicate.binary.prepare` does the work.

        The runtime has to validate the binary as it was, too: instrumenting can make an invalid one valid, whose start
        function, called as if it had no parameters, would corrupt memory. Of what can't be read the runtime has to say whether
        it's invalid: what it takes, this library can't read yet, which is an `UnsupportedError`. Raises as `compile` does.
        """

    @abc.abstractmethod
    def compile_prepared(self, prepared: Prepared) -> Module:
        """Compile `prepared.wasm`; raise `InvalidModuleError` or `UnsupportedError` with the runtime's reason."""

    def tick(self) -> None:  # noqa: B027
        """Make every guest of this engine that is running look at its `Instance.limit` soon; called from any thread.

        An engine that claims `EngineTraits.interruptible` does it, and ends a guest whose `Limit.check` raises.
        """

    def uninterruptible(self) -> Engine:
        """Give an engine whose guests don't look at limits, where that makes them faster; else this one."""
        return self

    def compile(self, source: bytes | str | Path) -> Module:
        """Compile a module given as binary, as WAT text, or as a path to either.

        Raises `InvalidModuleError` (`ComponentError` for a component), or `UnsupportedError` for a proposal this engine
        doesn't have. A `str` is WAT when it starts with ``(`` or ``;;`` after white space, and a path otherwise.
        """
        return self.compile_wasm(read_source(source, self.wat_to_wasm))

    def compile_wasm(self, wasm: bytes) -> Module:
        """Compile a binary; an engine that keeps compiled modules looks there first."""
        return self.compile_prepared(self.prepare(wasm))


class Module(abc.ABC):
    """Be one compiled module, shared by all its instances and usable from any thread."""

    def __init__(self, engine: Engine, prepared: Prepared) -> None:
        self.engine = engine
        self.info: ModuleInfo = prepared.info
        """What the original binary declares."""
        self.plan: StatePlan = prepared.plan
        """Where each part of an instance's state is reached in the instrumented binary."""
        self._exports: dict[tuple[str, str], int] = {
            (export.kind, export.name): export.index for export in prepared.info.exports
        }
        self._readable_globals = {index: name for (kind, name), index in self._exports.items() if kind == "global"}
        self._readable_globals.update((slot.index, slot.export) for slot in prepared.plan.globals)
        self.default_memory = self._default_memory()
        """The memory that `Guest.memory` means, or None where the module doesn't say."""

    def _default_memory(self) -> int | None:
        named = self.find_export("memory", "memory")
        if named is not None:
            return named
        exported = {index for (kind, _), index in self._exports.items() if kind == "memory"}
        if len(exported) == 1:
            return exported.pop()
        return 0 if len(self.info.memories) == 1 else None

    def find_export(self, kind: str, name: str) -> int | None:
        """Give the index of what is exported as `name`, if it's of that kind."""
        return self._exports.get((kind, name))

    def missing_function(self, name: str) -> MissingExportError:
        """Make the error for a function that isn't exported."""
        known = ", ".join(sorted(export for kind, export in self._exports if kind == "func")) or "none"
        return MissingExportError(f"the module exports no function {name!r}; it exports {known:.1000}")

    def global_export(self, index: int) -> str:
        """Name an export of a global, or raise `MissingExportError` for a constant that the module keeps to itself."""
        name = self._readable_globals.get(index)
        if name is None:
            raise MissingExportError(
                f"global {index} is a constant that the module doesn't export, so no host can read it"
            )
        return name

    @abc.abstractmethod
    def create(self, linkage: Linkage, *, limits: ResourceLimits = NO_LIMITS) -> Instance:
        """Make an instance from checked imports, without running its start function."""

    def link(self, imports: Imports | None = None) -> Linkage:
        """Check `imports` against what the module declares; raise `MissingImportError` or `ImportTypeError`."""
        return link(self.info, imports or {})

    def instantiate(
        self,
        imports: Imports | None = None,
        *,
        limits: ResourceLimits = NO_LIMITS,
        initialize: bool = True,
        timeout: float | None = None,
    ) -> Instance:
        """Make an instance and start it, as a pool does its leader: run its start function, then ``_initialize`` if exported.

        WASI wants ``_initialize`` called once, before any other export; with ``initialize=False`` it isn't, for a module that
        was baked after it had run, for instance (see `Snapshot.to_wasm`). To run nothing, for a snapshot to be restored:
        ``module.create(module.link(imports))``. `timeout` bounds what is run, in seconds.

        Raises `MissingImportError`, `ImportTypeError`, `InstantiationError`, `Trap` for a segment that doesn't fit and for what
        is run here, or `GuestTimeoutError`.
        """
        instance = self.create(self.link(imports), limits=limits)
        try:
            with instance.within(timeout):
                instance.start(initialize=initialize)
        except BaseException:
            instance.close()
            raise
        return instance

    def check_replicable(self) -> None:
        """Raise `NotReplicableError` with everything in the module that can never be carried to a replica."""
        if self.plan.findings:
            raise NotReplicableError(self.plan.findings)


class Instance(abc.ABC):
    """Be one running copy of a module.

    Hazards: one thread at a time (a second one gets `ConcurrentUseError`); close it, or use ``with``, to free its memory
    at once.
    """

    enters_itself: ClassVar[bool] = False
    """Every method goes through `gate`, not only calls: handles needn't see to it."""

    def __init__(self, module: Module, linkage: Linkage, limits: ResourceLimits) -> None:
        self.module = module
        self.linkage = linkage
        self.limits = limits
        self.limit: Limit | None = None
        """What the present transaction is bounded by; looked at when the engine ticks, and when a host function returns."""
        self.discarded = False
        """Whoever uses it has changed it, and wants it reset."""
        self.state: dict[str, Any] = {}
        self.state_shared = False
        """A mutable value of `state` was handed out since this was last cleared."""
        self.local: dict[str, Any] = {}
        self.ask_pool: Callable[..., Any] | None = None
        """In a worker process, what has the pool's own adapter answer; see `Adapter.answer`."""
        self.cut_short: str | None = None
        """What ended a guest call, since the transaction began, before the guest had done what it was doing; see `note_cut`."""
        self.gate = Gate()
        self.generation = 0
        """Counts the transactions and rebuilds so far: references remember it and die when it moves on."""
        self.written_tables: set[int] = set()
        """Tables that only the host could have changed, and did."""
        self.overlays: dict[int, Any] = {}
        """What a `MemorySnapshot` has laid over the memories of the present runtime instance, by index."""
        self._functions: dict[str, Callable[..., Any]] = {}
        self.guest = Guest(self)

    # -- what a backend provides ---------------------------------------------------------------------------------------

    @abc.abstractmethod
    def bind(self, name: str) -> Callable[..., Any]:
        """Give a callable for the exported function `name` (reserved exports included), as fast as the runtime allows.

        It checks its arguments before entering the guest, goes through `gate`, re-raises a host function's exception as
        it was, and raises `Trap` with code and frames; of whatever ends a call once the guest was entered it tells `note_cut`
        first. Raises `MissingExportError` for an unknown name. A reference to a
        function must be of the parameter's type, as `replicate.binary.Subtypes` tells; what host functions return likewise.
        """

    @abc.abstractmethod
    def call_bits(self, name: str, *bits: Any) -> Any:
        """Call `name` with numbers given and returned as unsigned bit patterns."""

    @abc.abstractmethod
    def memory_view(self, index: int) -> memoryview:
        """Give a writable byte view of a memory as it is now; it's invalid after the next call or growth."""

    @abc.abstractmethod
    def memory_address(self, index: int) -> int:
        """Give the host address of a memory's first byte as it is now."""

    @abc.abstractmethod
    def memory_grow(self, index: int, pages: int) -> int:
        """Grow a memory by Wasm pages and give its old size; raise `MemoryAccessError` when refused."""

    @abc.abstractmethod
    def global_bits(self, index: int) -> int:
        """Read a number global's bit pattern, unchanged by any conversion."""

    @abc.abstractmethod
    def set_global_bits(self, index: int, bits: int) -> None:
        """Set a mutable number global's bit pattern."""

    @abc.abstractmethod
    def global_reference(self, index: int) -> Reference:
        """Read a reference global as state."""

    @abc.abstractmethod
    def set_global_reference(self, index: int, reference: int | None) -> None:
        """Set a reference global to a function of this instance, or null."""

    @abc.abstractmethod
    def global_object(self, index: int) -> Any:
        """Read a reference global as a Python value."""

    @abc.abstractmethod
    def set_global_object(self, index: int, value: Any) -> None:
        """Set a reference global from a Python value."""

    @abc.abstractmethod
    def table_size(self, index: int) -> int:
        """Give a table's number of elements."""

    @abc.abstractmethod
    def table_references(self, index: int) -> tuple[Reference, ...]:
        """Read a whole table as state."""

    @abc.abstractmethod
    def set_table_reference(self, index: int, position: int, reference: int | None) -> None:
        """Set a table element to a function of this instance, or null."""

    @abc.abstractmethod
    def table_value(self, index: int, position: int) -> Any:
        """Read a table element as a Python value; `position` has been checked."""

    @abc.abstractmethod
    def table_set(self, index: int, position: int, value: Any) -> None:
        """Set a table element from a Python value; `position` has been checked."""

    @abc.abstractmethod
    def table_grow(self, index: int, elements: int, reference: int | None = None) -> int:
        """Grow a table by nulls, or by a function of this instance, and give its old size.

        Raises `TableAccessError` when refused, as by nulls in a table whose elements can't be null.
        """

    @abc.abstractmethod
    def replace(self) -> None:
        """Throw the runtime's instance away and make a fresh one from `linkage`, without running its start function."""

    @abc.abstractmethod
    def close(self) -> None:
        """Free the runtime's instance; every handle on it is dead. Closing twice is fine."""

    def companion_memory(self, companion: Companion, name: str) -> memoryview | None:
        """Give a view of a memory that a companion exports, or None on an engine that has no companions.

        Hazard: it's good for the present transaction, as long as the companion doesn't grow that memory.
        """
        return None

    # -- what an instance in another process does otherwise ------------------------------------------------------------

    @property
    def is_lost(self) -> bool:
        """Tell whether the runtime's instance is gone though nobody closed it, so that this one is of no more use."""
        return False

    def memory_size(self, index: int) -> int:
        """Give a memory's size in bytes."""
        return len(self.memory_view(index))

    def memory_read(self, index: int, offset: int, length: int) -> bytes:
        """Copy bytes out of a memory; raise `MemoryAccessError` outside it."""
        view = self.memory_view(index)
        if offset < 0 or length < 0 or offset + length > len(view):
            raise outside(index, offset, length, len(view))
        return bytes(view[offset : offset + length])

    def memory_write(self, index: int, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Copy bytes into a memory; raise `MemoryAccessError` outside it, writing nothing."""
        view = self.memory_view(index)
        length = data.nbytes if isinstance(data, memoryview) else len(data)
        if offset < 0 or offset + length > len(view):
            raise outside(index, offset, length, len(view))
        view[offset : offset + length] = data

    def run(self, fn: Callable[[Guest], Any]) -> Any:
        """Call ``fn(guest)`` in the process where the guest is."""
        return fn(self.guest)

    def run_adapter(self, adapter: Adapter, method: str, *arguments: Any) -> Any:
        """Call a method of the adapter with the guest, and give what it returns."""
        return getattr(adapter, method)(self.guest, *arguments)

    def follow(self, adapter: Adapter, version: int) -> None:
        """Tell the adapter that this instance has been made equal to a pool's committed state of that version."""
        adapter.moved(self.guest, version)
        adapter.reseed(self.guest)

    def settle_state(self) -> bool:
        """See to it that no value of `state` that was handed out is a way into it; tell whether it's sound."""
        if self.state_shared:
            self.state_shared = False
            try:
                self.state = copy_plain(self.state)
            except StateError:
                return False
        return True

    # -- what follows from it ------------------------------------------------------------------------------------------

    def rebuild(self) -> None:
        """Replace the runtime's instance by a fresh one behind this object; its guest handles stay valid."""
        self.generation += 1
        self._functions.clear()
        self.written_tables.clear()
        self.local.clear()
        self.overlays.clear()
        self.replace()

    def run_start(self) -> None:
        """Run the start function, if the module has one."""
        if self.plan.start is not None:
            self.bind(self.plan.start)()

    def note_cut(self, error: BaseException) -> None:
        """Note that a call of the guest ended in this error, with what it was doing half done.

        A call that a host function makes doesn't count: what it catches, or lets on, is between it and the guest that called
        it. Emscripten's exceptions work like that.
        """
        if self.cut_short is None and not self.gate.host_thread:
            first, _, _ = str(error).partition("\n")
            self.cut_short = f"{type(error).__name__}: {first}" if first else type(error).__name__

    def start(self, *, initialize: bool = True) -> None:
        """Run what an instance runs before anything else: its start function, then ``_initialize`` if it's exported."""
        self.run_start()
        if initialize and self.module.find_export("func", "_initialize") is not None:
            self.call("_initialize")

    def _function(self, name: str) -> Callable[..., Any]:
        if not isinstance(name, str):
            raise no_name(name)
        function = self._functions[name] = self.bind(name)
        return function

    @property
    def plan(self) -> StatePlan:
        """Say where each part of this instance's state is reached."""
        return self.module.plan

    def global_value(self, index: int) -> Any:
        """Read a global as a Python value."""
        kind = self.module.info.globals[index].value
        return bits_to_value(self.global_bits(index), kind) if kind.is_number else self.global_object(index)

    def set_global_value(self, index: int, value: Any) -> None:
        """Set a mutable global from a Python value; raise an `ArgumentError` if it doesn't fit."""
        kind: GlobalType = self.module.info.globals[index]
        if not kind.mutable:
            raise ArgumentTypeError(
                f"global {index} is a constant of type {kind.value}; only mutable globals can be set"
            )
        if kind.value.is_number:
            self.set_global_bits(index, value_to_bits(value, kind.value, what=f"the value of global {index}"))
        else:
            self.set_global_object(index, value)

    def set_table_value(self, index: int, position: int, value: Any) -> None:
        """Set a table element from a Python value, and remember that the host changed this table."""
        self._note_table_write(index)
        self.table_set(index, position, value)

    def grow_table(self, index: int, elements: int) -> int:
        """Grow a table by nulls, and remember that the host changed it; give its old size."""
        self._note_table_write(index)
        return self.table_grow(index, elements)

    def _note_table_write(self, index: int) -> None:
        if any(slot.index == index and not slot.is_state for slot in self.plan.tables):
            raise TableAccessError(
                f"table {index} is hidden and the module's code never changes it: it's no part of the state that is carried, "
                "so the change would be lost. Export the table to change it from outside"
            )
        self.written_tables.add(index)

    def table_can_change(self, slot: TableSlot) -> bool:
        """Tell whether a table may differ from what the module makes of it: by its own code, or by the host."""
        return slot.changes or slot.index in self.written_tables

    def within(self, timeout: float | None) -> Within:
        """Bound the calls made inside a ``with``, all together: by seconds from its beginning on, and by what it gives.

        ::

            with instance.within(0.5) as limit:
                instance.call("step")

        That's a `Limit`: its `cancel`, called on any thread, ends the guest's call with `GuestInterruptedError`. A call that is
        still running when the time is over ends with `GuestTimeoutError`. None is no bound; one inside another can't be wider.
        See `call` for what a call leaves that was ended. Hazard: a host function isn't interrupted, its end counts; and guests
        of an engine without `EngineTraits.interruptible` aren't either.
        """
        return Within(self, timeout)

    # -- the same handle API as `Guest` --------------------------------------------------------------------------------

    def call(self, name: str, *args: Any) -> Any:
        """Call the exported function `name`; see `Guest.call`.

        Ctrl-C, or whatever a signal handler raises, ends a call that the main thread is in, as `within` and a host function's
        exception do. Outside a pool nothing is rolled back: the instance can be used, and its state is what the call has left
        at that point, as after a trap. `snapshot` before and `restore` after put it back.
        """
        try:
            function = self._functions.get(name)
        except TypeError as error:
            raise no_name(name) from error
        if function is None:
            function = self._function(name)
        return function(*args)

    @property
    def exports(self) -> Mapping[str, Any]:
        """Map each of the module's export names to a callable or a handle."""
        return self.guest.exports

    @property
    def memory(self) -> Memory:
        """Give the memory exported as ``"memory"``, or the module's only one."""
        return self.guest.memory

    @property
    def memories(self) -> Mapping[str | int, Memory]:
        """Map export names and memory indices to memories."""
        return self.guest.memories

    @property
    def globals(self) -> Mapping[str | int, Global]:
        """Map export names and global indices to globals."""
        return self.guest.globals

    @property
    def tables(self) -> Mapping[str | int, Table]:
        """Map export names and table indices to tables."""
        return self.guest.tables

    def snapshot(self) -> Snapshot:
        """Take the instance's whole state as a value.

        Raises `NotReplicableError` when part of it can't be carried, and `StateError` for a `state` that isn't plain data.
        """
        from replicate.snapshot import take

        return take(self)

    def restore(self, snapshot: Snapshot) -> None:
        """Make this instance's state equal to `snapshot`, replacing the runtime's instance where it has to shrink.

        Raises `SnapshotMismatchError`, changing nothing, for a snapshot of another module, and for sizes that this instance's
        imports or limits don't allow. Whatever else goes wrong (no memory, say) leaves it as new, and not started.
        """
        from replicate.snapshot import put_back

        put_back(self, snapshot)

    def __enter__(self) -> Instance:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.module.info.module_name or self.module.info.digest[:12]}>"


class Within:
    """Bound an instance's calls inside a ``with``; see `Instance.within`."""

    __slots__ = ("_instance", "_outer", "_timeout")

    def __init__(self, instance: Instance, timeout: float | None) -> None:
        self._instance = instance
        self._timeout = check_timeout(timeout)

    def __enter__(self) -> Limit:
        outer, timeout = self._instance.limit, self._timeout
        left = None if outer is None else outer.remaining
        if left is not None and (timeout is None or timeout > left):
            timeout = left
        limit = Limit(self._instance.module.engine, timeout, outer=outer)
        ticker.watch(limit)
        self._outer = outer
        self._instance.limit = limit
        return limit

    @deaf_entry
    def __exit__(self, *exc_info: object) -> None:
        try:
            self._instance.limit = self._outer
        finally:
            pass


def refuse_references(engine: Engine, what: str) -> UnsupportedError:
    """Make the error for a reference value on an engine without `EngineTraits.reference_values`."""
    return UnsupportedError(f"engine {engine.name!r} can't pass references to the host: {what}; see its traits")
