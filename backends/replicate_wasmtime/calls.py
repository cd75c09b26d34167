"""Guest calls: the unchecked path of wasmtime's C API, made safe.

What unchecked leaves to the caller, and where it's done here: argument count, types and ranges (`struct` packs what fits
and refuses the rest, and only then is the reason looked for), one values array per export but another for nested calls
(guest to host to the same export), a trap cell that is read and cleared for every call, errors and traps deleted,
references rooted while in flight, and a host function's exception re-raised from where its own store kept it
(wasmtime-py keeps the last one in a variable of the process).
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from replicate.binary import ValType
from replicate.errors import ArgumentTypeError, ArityError, EngineError, HostResultError, InstantiationError
from replicate.limits import ticker
from replicate.values import FuncRef, bits_to_value, check_bits, explain_arguments

from . import _capi
from .faults import engine_error, trap_error
from .shapes import Shape, decode_bits, encode_bits

if TYPE_CHECKING:
    from .cell import Cell
    from .instance import WasmtimeInstance

__all__ = ["bind_function", "call_with_bits", "from_slot", "new_instance", "to_slot"]

_SINGLE = {"i32": "i", "i64": "q", "f32": "f", "f64": "d"}
_invoke = _capi.func_call_unchecked


def bind_function(instance: WasmtimeInstance, name: str, shape: Shape, function: Any) -> Callable[..., Any]:
    """Give a callable for the native function whose ``wasmtime_func_t`` lies in the buffer `function`."""
    cell = instance.cell
    token, check_reentry = cell.gate.token, cell.check_reentry
    leave = token.append

    def general(args: tuple[Any, ...]) -> Any:
        bits = explain_arguments(name, shape.type, args)
        slots = _run(instance, cell, shape, function, bits)
        return _results(instance, shape, slots, bits_to_value)

    if not shape.plain:

        def call(*args: Any) -> Any:
            try:
                del token[0]
            except IndexError:
                check_reentry()
                return general(args)
            try:
                return general(args)
            finally:
                leave(None)

        return call

    where = ctypes.addressof(function)  # `general` keeps the buffer, and `call_plain` keeps `general`
    raw, values = _capi.slots(shape.count)
    count, context = shape.count, cell.context
    trap_cell = bytearray(8)
    trap_at = ctypes.addressof((ctypes.c_char * 8).from_buffer(trap_cell))
    trapped = memoryview(trap_cell).cast("Q")
    unheard, hear = ticker.unheard, ticker.hear
    pack, unpack, kinds = shape.pack, shape.unpack_results, shape.type.results
    single = _view(raw, _SINGLE[kinds[0].text]) if len(kinds) == 1 else None

    def call_plain(*args: Any) -> Any:
        try:
            del token[0]
        except IndexError:
            check_reentry()
            return general(args)
        try:
            try:
                pack(raw, 0, *args)
            except (struct.error, OverflowError, TypeError):
                _pack_slowly(raw, name, shape, args)
            # An exception that arrives just after a call leaves the call's trap behind.
            trapped[0] = 0
            cell.pending = None
            if unheard:
                hear()
            error = _invoke(context, where, values, count, trap_at)
            if error is not None or trapped[0]:
                raise _fault(cell, error, trapped[0])
            if single is not None:
                return single[0]
            if kinds:
                return unpack(raw)
            return None
        finally:
            leave(None)

    return call_plain


def _view(raw: memoryview, layout: Any) -> memoryview:
    return raw.cast(layout)


def _pack_slowly(raw: memoryview, name: str, shape: Shape, args: tuple[Any, ...]) -> None:
    for position, bits in enumerate(explain_arguments(name, shape.type, args)):
        raw[16 * position : 16 * position + 16] = encode_bits(bits)


def _fault(cell: Cell, error: int | None, trap: int) -> BaseException:
    """Give the exception for a call that failed: a host function's own, else the trap or error."""
    pending, cell.pending = cell.pending, None
    fault: BaseException = trap_error(trap) if trap else engine_error(error or 0)
    if pending is not None:
        fault = pending
    cell.instance.note_cut(fault)
    return fault


def _run(instance: WasmtimeInstance, cell: Cell, shape: Shape, function: Any, values: Sequence[Any]) -> bytes:
    """Call with an array of its own: `values` are number bit patterns and Python references, slots come back."""
    roots: list[Any] = []
    try:
        slots = b"".join(
            to_slot(instance, value, kind, accepted, roots, what=f"argument {position}")
            for position, (value, (kind, accepted)) in enumerate(zip(values, shape.params, strict=True), 1)
        )
        raw, values_at = _capi.slots(shape.count)
        raw[: len(slots)] = slots
        trap = ctypes.c_void_p()
        cell.pending = None
        if ticker.unheard:
            ticker.hear()
        error = _invoke(cell.context, ctypes.addressof(function), values_at, shape.count, ctypes.addressof(trap))
        if error is not None or trap.value:
            raise _fault(cell, error, trap.value or 0)
        return bytes(raw)
    finally:
        for root in roots:
            _capi.val_unroot(ctypes.addressof(root))


def _results(instance: WasmtimeInstance, shape: Shape, slots: bytes, number: Callable[[int, ValType], Any]) -> Any:
    kinds = shape.type.results
    values = tuple(
        number(decode_bits(slots[16 * position :], kind), kind)
        if kind.is_number
        else from_slot(instance, slots[16 * position : 16 * position + 16], kind)
        for position, kind in enumerate(kinds)
    )
    if len(values) == 1:
        return values[0]
    return values or None


def call_with_bits(instance: WasmtimeInstance, name: str, shape: Shape, function: Any, bits: tuple[Any, ...]) -> Any:
    """Call with numbers as unsigned bit patterns, both ways."""
    kinds = shape.type.params
    if len(bits) != len(kinds):
        raise ArityError(f"{name!r} takes {len(kinds)} argument(s) {shape.type}, and got {len(bits)}")
    values = [
        check_bits(value, kind, what=f"argument {position} of {name!r}") if kind.is_number else value
        for position, (value, kind) in enumerate(zip(bits, kinds, strict=True), 1)
    ]
    cell, token = instance.cell, instance.cell.gate.token

    def call() -> Any:
        slots = _run(instance, cell, shape, function, values)
        return _results(instance, shape, slots, lambda pattern, _kind: pattern)

    try:
        del token[0]
    except IndexError:
        cell.check_reentry()
        return call()
    try:
        return call()
    finally:
        token.append(None)


def new_instance(cell: Cell, module: Any, externs: int | None, count: int) -> Any:
    """Make a module's instance in the cell's store, and give the buffer with its ``wasmtime_instance_t``.

    Raises the `Trap` of a segment that doesn't fit, or of a start function.
    """
    made = ctypes.create_string_buffer(16)
    trap = ctypes.c_void_p()
    native = ctypes.cast(module.ptr(), ctypes.c_void_p).value
    cell.pending = None
    if ticker.unheard:
        ticker.hear()
    error = _capi.instance_new(cell.context, native, externs, count, ctypes.addressof(made), ctypes.addressof(trap))
    if error is not None or trap.value:
        fault = _fault(cell, error, trap.value or 0)
        raise InstantiationError(str(fault)) if isinstance(fault, EngineError) else fault
    return made


# -- references --------------------------------------------------------------------------------------------------------


def to_slot(
    instance: WasmtimeInstance,
    value: Any,
    kind: ValType,
    accepted: frozenset[int] | None,
    roots: list[Any],
    *,
    what: str,
) -> bytes:
    """Lay one value into a 16-byte slot; references that need it are rooted and appended to `roots`.

    Nothing looks at them after this: a reference that isn't of the type `kind` would have the guest run a function with
    what isn't its arguments.
    """
    if kind.is_number:
        return encode_bits(value)
    if value is None:
        if not kind.is_nullable:
            raise ArgumentTypeError(f"{what} can't be null: its type is {kind}")
        return bytes(16)
    if kind.is_func:
        function = native_function(instance, value, kind, accepted, what=what)
        return encode_bits(_capi.func_to_raw(instance.cell.context, ctypes.addressof(function)) or 0)
    if kind.is_extern and not kind.is_null:
        value_t = _capi.Value()
        value_t[0] = _capi.EXTERNREF
        ref = ctypes.addressof(value_t) + 8
        instance.cell.root(value, ref)
        roots.append(value_t)
        return encode_bits(_capi.externref_to_raw(instance.cell.context, ref))
    possible = "only None can be given for it" if kind.is_nullable else "no host can make a value of it"
    raise ArgumentTypeError(f"{what} has type {kind}; {possible}")


def native_function(
    instance: WasmtimeInstance, value: Any, kind: ValType, accepted: frozenset[int] | None, *, what: str
) -> Any:
    """Give the native function behind a `FuncRef` of this instance that is of the type `kind`, or raise.

    `accepted` has the types of the functions that are: see `Subtypes.accepted`.
    """
    if not isinstance(value, FuncRef):
        raise ArgumentTypeError(f"{what} must be a FuncRef or None, not {type(value).__name__}")
    native: Any = value.native()
    owner, function, index = native
    if owner is not instance.cell:
        raise ArgumentTypeError(
            f"{what} is a function of another instance; only this instance's own can be stored in it"
        )
    info = instance.module.info
    if accepted is not None and (index is None or info.functions[index] not in accepted):
        wanted = "no function of this module"
        if accepted and kind.index is not None:
            wanted = f"functions of type {kind.index}, {info.types[kind.index]!s:.400}"
        given = "a function that isn't the module's own, so its type isn't known"
        if index is not None:
            given = f"function {index} of type {info.functions[index]}, {info.function_type(index)!s:.400}"
        raise ArgumentTypeError(f"{what} must be a {kind}, which refers to {wanted}, and got {given}")
    return function


def from_slot(instance: WasmtimeInstance, slot: bytes, kind: ValType) -> Any:
    """Read a reference from a slot."""
    raw = int.from_bytes(slot[:8], "little")
    if kind.is_func:
        if raw == 0:
            return None
        function = ctypes.create_string_buffer(16)
        _capi.func_from_raw(instance.cell.context, raw, ctypes.addressof(function))
        return instance.make_funcref(function, raw)
    raw &= 0xFFFFFFFF
    if raw == 0:
        return None
    if kind.is_extern:
        ref = _capi.Value()
        ref[0] = _capi.EXTERNREF
        at = ctypes.addressof(ref) + 8
        _capi.externref_from_raw(instance.cell.context, raw, at)
        try:
            return instance.cell.object_of(at)
        finally:
            _capi.val_unroot(ctypes.addressof(ref))
    raise HostResultError(
        f"the guest gave a live {kind}, which can't leave it: only functions and the host's own objects can"
    )
