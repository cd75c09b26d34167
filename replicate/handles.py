"""What user code holds of an instance: memory, globals, tables, exports and host-side state.

Every handle goes through the `Guest` of its transaction and dies with it (promise P6).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from replicate.errors import (
    ArgumentTypeError,
    DeadHandleError,
    MemoryAccessError,
    MissingExportError,
    ReplicateError,
    StateError,
    TableAccessError,
)
from replicate.plaindata import PLAIN, copy_plain

if TYPE_CHECKING:
    from replicate.binary import GlobalType, MemoryType, TableType
    from replicate.gate import Gate
    from replicate.imports import Companion
    from replicate.interfaces import Instance

__all__ = ["Global", "Guest", "Memory", "Table", "no_name", "outside"]

_T = TypeVar("_T")
_NO_FUNCTIONS: Mapping[str, Callable[..., Any]] = MappingProxyType({})


class Guest:
    """Be the handle on one instance for the length of one transaction (or of the instance, outside a pool).

    Hazards: a handle used after its transaction raises `DeadHandleError`; using it from two threads at once raises
    `ConcurrentUseError`, since a Wasm instance is single-threaded.
    """

    __slots__ = ("_functions", "_instance", "_state")

    def __init__(self, instance: Instance) -> None:
        self._instance: Instance | None = instance
        self._functions: Mapping[str, Callable[..., Any]] = instance._functions
        self._state: _State | None = None

    def _live(self) -> Instance:
        instance = self._instance
        if instance is None:
            raise DeadHandleError(
                "this guest handle is dead: its transaction has ended or its instance was closed; "
                "open a new transaction and use the handle it gives"
            )
        return instance

    def _alone(self, method: str, *args: Any) -> Any:
        """Call a method of the instance while no other thread is in it: as a guest call would, for the same reasons.

        An instance that is being closed meanwhile would be freed memory, and one that serves somebody else by now their state.
        """
        instance = self._live()
        if instance.enters_itself:
            return getattr(instance, method)(*args)
        gate = instance.gate
        token = gate.token
        try:
            del token[0]
        except IndexError:
            gate.check_reentry()
            self._check_gate(gate)
            return getattr(instance, method)(*args)
        try:
            self._check_gate(gate)
            return getattr(instance, method)(*args)
        finally:
            token.append(None)

    def _check_gate(self, gate: Gate) -> None:
        if self._live().gate is not gate:
            raise DeadHandleError("this guest's instance was replaced meanwhile")

    def _kill(self) -> None:
        self._instance = None
        self._functions = _NO_FUNCTIONS

    @property
    def is_alive(self) -> bool:
        """Tell whether this handle's transaction is still open."""
        return self._instance is not None

    def call(self, name: str, *args: Any) -> Any:
        """Call the exported function `name`.

        Returns None, one value, or a tuple of several; `replicate.values` says how Wasm values look in Python.
        Raises `MissingExportError`, an `ArgumentError` before the guest is entered, `Trap`, `GuestExit`, or whatever a
        host function raised.
        """
        try:
            function = self._functions.get(name)
        except TypeError as error:
            raise no_name(name) from error
        if function is None:
            function = self._live()._function(name)
        return function(*args)

    def call_bits(self, name: str, *bits: Any) -> Any:
        """Call `name` with numbers given, and returned, as unsigned bit patterns; references are as in `call`."""
        if not isinstance(name, str):
            raise no_name(name)
        return self._live().call_bits(name, *bits)

    def run(self, fn: Callable[[Guest], _T]) -> _T:
        """Call ``fn(guest)`` in the process where the guest is, and give what it returns.

        Where that's this process it's a call like any. In a worker process it's one question and one answer, however often
        `fn` uses the guest; `fn`, what it returns and what it raises have to be things that can be pickled, and `fn` itself a
        function, or an object, of a module that can be imported there. Raises `ArgumentTypeError` for one that can't.
        """
        result: _T = self._live().run(fn)
        return result

    @property
    def exports(self) -> Exports:
        """Map each of the module's export names to a callable or a handle."""
        self._live()
        return Exports(self)

    @property
    def memory(self) -> Memory:
        """Give the memory exported as ``"memory"``, or the module's only one."""
        module = self._live().module
        index = module.default_memory
        if index is None:
            raise MissingExportError(
                f"this module has {len(module.info.memories)} memories and none is exported as 'memory'; "
                "use guest.memories[name or index]"
            )
        return Memory(self, index)

    @property
    def memories(self) -> Mapping[str | int, Memory]:
        """Map export names and memory indices, hidden memories included, to memories."""
        return _Space(self, "memory", len(self._live().module.info.memories), Memory)

    @property
    def globals(self) -> Mapping[str | int, Global]:
        """Map export names and global indices, hidden mutable globals included, to globals."""
        return _Space(self, "global", len(self._live().module.info.globals), Global)

    @property
    def tables(self) -> Mapping[str | int, Table]:
        """Map export names and table indices, hidden tables included, to tables."""
        return _Space(self, "table", len(self._live().module.info.tables), Table)

    @property
    def state(self) -> MutableMapping[str, Any]:
        """Hold host-side values that commit, roll back and replicate with the guest.

        Values are plain data: None, bool, int, float, str, bytes, and lists, tuples and str-keyed dicts of them. Anything
        else is refused with `StateError`, at once, or inside a list, tuple or dict at the commit. Keys that start with
        ``"wasi"`` belong to `replicate.wasi`.
        """
        state = self._state
        if state is None:
            state = self._state = _State(self)
        return state

    def discard(self) -> None:
        """Have the replica made equal to the committed state before its next read, whatever the pool's reset rule.

        For a read that finds out that it has changed the guest; to a write it makes no difference. Hazard: what runs beside the
        guest in a worker process has nobody to tell; call it where the pool is.
        """
        self._live().discarded = True

    @property
    def local(self) -> dict[str, Any]:
        """Hold host-side values that belong to this instance alone: not replicated, not rolled back."""
        return self._live().local

    @property
    def ask_pool(self) -> Callable[..., Any] | None:
        """In a worker process, call `Adapter.answer` with these arguments where the pool is; None where that is this process.

        For adapters: what runs beside the guest so reaches what only the pool's own process has.
        """
        return self._live().ask_pool

    def companion_memory(self, companion: Companion, name: str) -> memoryview | None:
        """Give a view of a memory that one of the imports' companions exports; see `replicate.Instance.companion_memory`."""
        return self._live().companion_memory(companion, name)

    def __repr__(self) -> str:
        return f"<Guest of {self._instance!r}>" if self._instance is not None else "<Guest, dead>"


def outside(index: int, offset: int, length: int, size: int) -> MemoryAccessError:
    """Make the error for bytes that aren't all in a memory."""
    hint = "; i32 results are signed, mask a pointer with & 0xFFFFFFFF" if offset < 0 else ""
    return MemoryAccessError(f"{length} byte(s) at offset {offset} are outside memory {index} of {size} bytes{hint}")


def no_name(name: object) -> ArgumentTypeError:
    """Make the error for a function's name that isn't one."""
    return ArgumentTypeError(f"an export is named by a string, not by {name!r:.80}: guest.call('get', 1)")


def _unfit(error: Exception, what: str) -> Exception:
    """Give the exception for arguments that aren't of the types that they should be; one of ours stays as it is."""
    return error if isinstance(error, ReplicateError) else ArgumentTypeError(f"{what}: {error}")


_MOST = 1 << 48
"""More than any memory or table can have, and less than runtimes count to."""


def _check_count(count: Any, unit: str, refusal: type[ReplicateError]) -> None:
    if not isinstance(count, int):
        raise ArgumentTypeError(f"can't grow by {count!r:.40}; give a number of {unit} as an int")
    if count >= _MOST:
        raise refusal(f"can't grow by {count!r:.40} {unit}: that's more than any can have")


_SPAN = "an offset and a length are ints, in bytes"
_DATA = "what is written is bytes, or another object with a buffer of them, at an offset in bytes"


class Memory:
    """Read and write one linear memory. Offsets and lengths are bytes; nothing is kept between calls.

    What is read is a copy: a view would dangle as soon as the guest grows its memory.
    """

    __slots__ = ("_guest", "index")

    def __init__(self, guest: Guest, index: int) -> None:
        self._guest = guest
        self.index = index

    @property
    def type(self) -> MemoryType:
        """Give the declared limits."""
        return self._guest._live().module.info.memories[self.index]

    @property
    def size(self) -> int:
        """Give the current size in bytes."""
        size: int = self._guest._alone("memory_size", self.index)
        return size

    @property
    def limit(self) -> int | None:
        """The size in bytes that the pool's or instance's `max_memory` lets it grow to; None: only its type bounds it."""
        return self._guest._live().limits.memory_bytes

    def read(self, offset: int, length: int) -> bytes:
        """Copy `length` bytes out from `offset`; raise `MemoryAccessError` outside the memory."""
        try:
            data: bytes = self._guest._alone("memory_read", self.index, offset, length)
        except TypeError as error:
            raise _unfit(error, f"can't read {length!r:.40} byte(s) at {offset!r:.40}; {_SPAN}") from error
        return data

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Copy `data` in at `offset`; raise `MemoryAccessError` outside the memory, writing nothing."""
        try:
            self._guest._alone("memory_write", self.index, offset, data)
        except (TypeError, ValueError) as error:
            raise _unfit(error, f"can't write a {type(data).__name__} at {offset!r:.40}; {_DATA}") from error

    def unpack(self, layout: str, offset: int) -> tuple[Any, ...]:
        """Read values in the `struct` format `layout` (use ``"<"``: Wasm is little-endian)."""
        try:
            length = struct.calcsize(layout)
        except (struct.error, TypeError) as error:
            raise _unfit(error, f"{layout!r:.80} isn't a format of the struct module") from error
        return struct.unpack(layout, self.read(offset, length))

    def pack(self, layout: str, offset: int, *values: Any) -> None:
        """Write values in the `struct` format `layout` (use ``"<"``: Wasm is little-endian)."""
        try:
            data = struct.pack(layout, *values)
        except (struct.error, TypeError, OverflowError) as error:
            raise _unfit(error, f"can't write {values!r:.80} as {layout!r:.80}") from error
        self.write(offset, data)

    def read_cstring(self, offset: int, *, limit: int = 1 << 20) -> bytes:
        """Read up to, and without, the next zero byte; raise `MemoryAccessError` if none comes in `limit` bytes."""
        guest = self._guest
        if not isinstance(offset, int) or not isinstance(limit, int):
            raise ArgumentTypeError(f"can't read up to {limit!r:.40} byte(s) at {offset!r:.40}; {_SPAN}")
        size: int = guest._alone("memory_size", self.index)
        if offset < 0 or offset >= size:
            raise outside(self.index, offset, 1, size)
        found = bytearray()
        step = 64
        while offset + len(found) < size and len(found) < limit:
            start = offset + len(found)
            part: bytes = guest._alone("memory_read", self.index, start, min(step, size - start))
            at = part.find(0)
            if at >= 0:
                return bytes(found + part[:at])
            found += part
            step = min(step * 4, 1 << 16)
        raise MemoryAccessError(f"no zero byte within {limit} bytes of offset {offset}")

    def grow(self, pages: int) -> int:
        """Grow by `pages` Wasm pages and return the old size in pages; raise `MemoryAccessError` when refused."""
        _check_count(pages, "pages", MemoryAccessError)
        old: int = self._guest._alone("memory_grow", self.index, pages)
        return old

    def __repr__(self) -> str:
        return f"<Memory {self.index}>"


class Global:
    """Read and set one global."""

    __slots__ = ("_guest", "index")

    def __init__(self, guest: Guest, index: int) -> None:
        self._guest = guest
        self.index = index

    @property
    def type(self) -> GlobalType:
        """Give the value type and mutability."""
        return self._guest._live().module.info.globals[self.index]

    @property
    def value(self) -> Any:
        """Get or set the value as `replicate.values` describes; setting a constant raises `ArgumentTypeError`."""
        return self._guest._alone("global_value", self.index)

    @value.setter
    def value(self, value: Any) -> None:
        self._guest._alone("set_global_value", self.index, value)

    def __repr__(self) -> str:
        return f"<Global {self.index}>"


class Table:
    """Read and change one table: `FuncRef`, host objects or None by index."""

    __slots__ = ("_guest", "index")

    def __init__(self, guest: Guest, index: int) -> None:
        self._guest = guest
        self.index = index

    @property
    def type(self) -> TableType:
        """Give the element type and declared limits."""
        return self._guest._live().module.info.tables[self.index]

    def __len__(self) -> int:
        size: int = self._guest._alone("table_size", self.index)
        return size

    def _check(self, position: int) -> Guest:
        if not isinstance(position, int):
            raise ArgumentTypeError(f"an element of a table is found by an int, not by {position!r:.80}")
        size = len(self)
        if not 0 <= position < size:
            raise TableAccessError(f"element {position} is outside table {self.index} of {size} elements")
        return self._guest

    def __getitem__(self, position: int) -> Any:
        return self._check(position)._alone("table_value", self.index, position)

    def __setitem__(self, position: int, value: Any) -> None:
        self._check(position)._alone("set_table_value", self.index, position, value)

    def grow(self, elements: int) -> int:
        """Grow by `elements` nulls and return the old size; raise `TableAccessError` when refused."""
        _check_count(elements, "elements", TableAccessError)
        old: int = self._guest._alone("grow_table", self.index, elements)
        return old

    def __repr__(self) -> str:
        return f"<Table {self.index}>"


class _Space(Mapping["str | int", _T]):
    __slots__ = ("_count", "_guest", "_kind", "_make")

    def __init__(self, guest: Guest, kind: str, count: int, make: Callable[[Guest, int], _T]) -> None:
        self._guest, self._kind, self._count, self._make = guest, kind, count, make

    def __getitem__(self, key: str | int) -> _T:
        module = self._guest._live().module
        index = module.find_export(self._kind, key) if isinstance(key, str) else key
        if not isinstance(index, int) or not 0 <= index < self._count:
            known = (
                ", ".join(repr(export.name) for export in module.info.exports if export.kind == self._kind) or "none"
            )
            raise MissingExportError(f"no {self._kind} {key!r}: exported are {known}; indices run to {self._count - 1}")
        return self._make(self._guest, index)

    def __iter__(self) -> Iterator[str | int]:
        yield from range(self._count)

    def __len__(self) -> int:
        return self._count


class Exports(Mapping[str, Any]):
    """Map export names to what is exported: functions as callables, the rest as handles.

    Names that are Python identifiers are attributes too: ``guest.exports.put(1, 2)``.
    """

    __slots__ = ("_guest",)

    def __init__(self, guest: Guest) -> None:
        self._guest = guest

    def __getitem__(self, name: str) -> Any:
        guest = self._guest
        for export in guest._live().module.info.exports:
            if export.name == name:
                if export.kind == "func":
                    return _Function(guest, name)
                if export.kind == "memory":
                    return Memory(guest, export.index)
                if export.kind == "global":
                    return Global(guest, export.index)
                if export.kind == "table":
                    return Table(guest, export.index)
                break
        raise MissingExportError(
            f"the module exports nothing usable as {name!r}; it exports {', '.join(self) or 'nothing'}"
        )

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        try:
            return self[name]
        except MissingExportError as error:
            raise AttributeError(str(error)) from error

    def __iter__(self) -> Iterator[str]:
        for export in self._guest._live().module.info.exports:
            if export.kind != "tag":
                yield export.name

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, name: object) -> bool:
        return any(name == known for known in self)


class _Function:
    """Be an exported function bound to a transaction's guest."""

    __slots__ = ("_guest", "name")

    def __init__(self, guest: Guest, name: str) -> None:
        self._guest = guest
        self.name = name

    def __call__(self, *args: Any) -> Any:
        return self._guest.call(self.name, *args)

    def __repr__(self) -> str:
        return f"<function {self.name!r} of {self._guest!r}>"


class _State(MutableMapping[str, Any]):
    """Be the live view of an instance's `state`, noting when a mutable value has been handed out.

    A list or dict that user code keeps past its transaction would change the state behind the pool's back: the pool
    replaces the mapping by a copy at the end of a transaction that could have kept one.
    """

    __slots__ = ("_guest",)

    def __init__(self, guest: Guest) -> None:
        self._guest = guest

    def __getitem__(self, key: str) -> Any:
        instance = self._guest._live()
        value = instance.state[key]
        if isinstance(value, (dict, list)):
            instance.state_shared = True
        return value

    def __setitem__(self, key: str, value: Any) -> None:
        instance = self._guest._live()
        if type(key) is not str:
            raise StateError(f"state has the key {key!r:.60}; only str keys can be replicated")
        if type(value) not in PLAIN:
            copy_plain({key: value})
        if isinstance(value, (dict, list)):
            instance.state_shared = True
        instance.state[key] = value

    def __delitem__(self, key: str) -> None:
        del self._guest._live().state[key]

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._guest._live().state))

    def __len__(self) -> int:
        return len(self._guest._live().state)

    def __repr__(self) -> str:
        return f"<state {self._guest._live().state!r:.200}>" if self._guest.is_alive else "<state, dead>"
