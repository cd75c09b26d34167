"""All contact with what wasmtime-py keeps private: its C library and the layouts it was built for.

wasmtime-py's own ``Func.__call__`` looks the type up and converts on every call (20 to 30 us); wasmtime's C API offers
``wasmtime_func_call_unchecked``, which takes an array of raw 16-byte values (0.6 us). The C API is documented and stable,
the Python bindings to it aren't, and a major release comes every month. So every prototype used is declared here, once,
and checked at import by calling a function: where that fails, `UNFIT` says why and the engine reports itself unavailable
instead of corrupting memory.

Two kinds of prototype: *long* calls release the interpreter lock (``CFUNCTYPE``), *short* ones keep it (``PYFUNCTYPE``),
because taking it again can cost a switch interval (5 ms) while another Python thread is busy.
"""

from __future__ import annotations

import ctypes
from ctypes import CFUNCTYPE, PYFUNCTYPE, c_bool, c_size_t, c_uint32, c_uint64, c_void_p
from typing import Any

import wasmtime
from wasmtime import _ffi

__all__ = [
    "ANYREF",
    "EXNREF",
    "EXTERNREF",
    "EXTERN_FUNC",
    "EXTERN_GLOBAL",
    "EXTERN_MEMORY",
    "EXTERN_SIZE",
    "EXTERN_TABLE",
    "EXTERN_TAG",
    "FUNCREF",
    "NUMBER_KINDS",
    "RAW_SIZE",
    "UNFIT",
    "EpochCallback",
    "HostCallback",
    "Value",
    "context_of",
    "delete_store",
    "epoch_callback",
    "error_new",
    "export_get",
    "externref_data",
    "externref_from_raw",
    "externref_new",
    "externref_to_raw",
    "func_call_unchecked",
    "func_from_raw",
    "func_new_unchecked",
    "func_to_raw",
    "global_get",
    "global_new",
    "global_set",
    "increment_epoch",
    "instance_new",
    "memory_data",
    "memory_data_size",
    "memory_grow",
    "memory_new",
    "set_epoch_deadline",
    "slots",
    "store_limiter",
    "table_get",
    "table_grow",
    "table_new",
    "table_set",
    "table_size",
    "tag_new",
    "take_error",
    "take_trap",
    "trap_new",
    "val_unroot",
    "wasi_function",
]

_dll = _ffi.dll

RAW_SIZE = 16
"""Bytes of a wasmtime_val_raw_t: a union whose largest member is a v128."""
EXTERN_SIZE = 32
"""Bytes of a wasmtime_extern_t and of a wasmtime_val_t: a kind, then a union at offset 8."""

Value: Any = ctypes.c_uint8 * EXTERN_SIZE
"""Room for a wasmtime_val_t or a wasmtime_extern_t, zeroed."""

NUMBER_KINDS = {"i32": 0, "i64": 1, "f32": 2, "f64": 3, "v128": 4}
FUNCREF, EXTERNREF, ANYREF, EXNREF = 5, 6, 7, 8
EXTERN_FUNC, EXTERN_GLOBAL, EXTERN_TABLE, EXTERN_MEMORY = range(4)
EXTERN_TAG = 5

_P = c_void_p
_long = CFUNCTYPE
_short = PYFUNCTYPE


def _bind(kind: Any, name: str, result: Any, *arguments: Any) -> Any:
    return kind(result, *arguments)((name, _dll))


# https://docs.wasmtime.dev/c-api/func_8h.html: returns an error, or sets the trap, or writes the results over the arguments.
func_call_unchecked = _bind(_long, "wasmtime_func_call_unchecked", _P, _P, _P, _P, c_size_t, _P)
instance_new = _bind(_long, "wasmtime_instance_new", _P, _P, _P, _P, c_size_t, _P, _P)

HostCallback = CFUNCTYPE(_P, _P, _P, _P, c_size_t)
"""wasmtime_func_unchecked_callback_t: (env, caller, values, count) -> trap or NULL; runs with the interpreter lock held."""
Finalizer = CFUNCTYPE(None, _P)

func_new_unchecked = _bind(_short, "wasmtime_func_new_unchecked", None, _P, _P, HostCallback, _P, _P, _P)
func_to_raw = _bind(_short, "wasmtime_func_to_raw", _P, _P, _P)
func_from_raw = _bind(_short, "wasmtime_func_from_raw", None, _P, _P, _P)
export_get = _bind(_short, "wasmtime_instance_export_get", c_bool, _P, _P, ctypes.c_char_p, c_size_t, _P)
memory_new = _bind(_short, "wasmtime_memory_new", _P, _P, _P, _P)
memory_data = _bind(_short, "wasmtime_memory_data", _P, _P, _P)
memory_data_size = _bind(_short, "wasmtime_memory_data_size", c_size_t, _P, _P)
memory_grow = _bind(_short, "wasmtime_memory_grow", _P, _P, _P, c_uint64, _P)
global_new = _bind(_short, "wasmtime_global_new", _P, _P, _P, _P, _P)
global_get = _bind(_short, "wasmtime_global_get", None, _P, _P, _P)
global_set = _bind(_short, "wasmtime_global_set", _P, _P, _P, _P)
table_new = _bind(_short, "wasmtime_table_new", _P, _P, _P, _P, _P)
table_get = _bind(_short, "wasmtime_table_get", c_bool, _P, _P, c_uint64, _P)
table_set = _bind(_short, "wasmtime_table_set", _P, _P, _P, c_uint64, _P)
table_size = _bind(_short, "wasmtime_table_size", c_uint64, _P, _P)
table_grow = _bind(_short, "wasmtime_table_grow", _P, _P, _P, c_uint64, _P, _P)
tag_new = _bind(_short, "wasmtime_tag_new", _P, _P, _P, _P)
externref_new = _bind(_short, "wasmtime_externref_new", c_bool, _P, _P, Finalizer, _P)
externref_data = _bind(_short, "wasmtime_externref_data", _P, _P, _P)
externref_to_raw = _bind(_short, "wasmtime_externref_to_raw", c_uint32, _P, _P)
externref_from_raw = _bind(_short, "wasmtime_externref_from_raw", None, _P, c_uint32, _P)
val_unroot = _bind(_short, "wasmtime_val_unroot", None, _P)
set_epoch_deadline = _bind(_short, "wasmtime_context_set_epoch_deadline", None, _P, c_uint64)
store_limiter = _bind(_short, "wasmtime_store_limiter", None, _P, *[ctypes.c_int64] * 5)
increment_epoch = _bind(_short, "wasmtime_engine_increment_epoch", None, _P)
EpochCallback = CFUNCTYPE(_P, _P, _P, ctypes.POINTER(c_uint64), _P)
"""(context, data, ticks until the next look, kind of update) -> error or NULL."""
epoch_callback = _bind(_short, "wasmtime_store_epoch_deadline_callback", None, _P, EpochCallback, _P, _P)
trap_new = _bind(_short, "wasmtime_trap_new", _P, ctypes.c_char_p, c_size_t)
error_new = _bind(_short, "wasmtime_error_new", _P, ctypes.c_char_p)


def slots(count: int) -> tuple[memoryview, int]:
    """Give room for `count` raw values and its address, aligned as wasmtime_val_raw_t is."""
    size = RAW_SIZE * max(count, 1)
    room = bytearray(size + RAW_SIZE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(room))
    offset = -address % RAW_SIZE
    return memoryview(room)[offset : offset + size], address + offset


def context_of(store: wasmtime.Store) -> int:
    """Give the address of a store's context."""
    return ctypes.cast(store._context(), c_void_p).value or 0


_store_delete = _bind(_long, "wasmtime_store_delete", None, _P)


def delete_store(store: wasmtime.Store) -> None:
    """Free a store and all that's in it, once; an exception in here may leak it, and never frees it twice."""
    _store_delete(ctypes.cast(store._consume(), c_void_p))


def wasi_function(linker: wasmtime.Linker, store: wasmtime.Store, name: str) -> bytes:
    """Give the wasmtime_func_t of one of wasmtime's own WASI functions in a store, whose world is empty."""
    store.set_wasi(wasmtime.WasiConfig())
    function = linker.get(store, "wasi_snapshot_preview1", name)
    if not isinstance(function, wasmtime.Func):
        raise TypeError(name)
    return bytes(function._func)


def take_trap(address: int) -> wasmtime.Trap:
    """Own the trap at `address`; it's deleted with the object returned."""
    return wasmtime.Trap._from_ptr(ctypes.cast(address, ctypes.POINTER(_ffi.wasm_trap_t)))


def take_error(address: int) -> wasmtime.WasmtimeError:
    """Own the error at `address`; it's deleted with the object returned."""
    return wasmtime.WasmtimeError._from_ptr(ctypes.cast(address, ctypes.POINTER(_ffi.wasmtime_error_t)))


def _misfit() -> str | None:
    for layout, size in (
        ("wasmtime_val_raw_t", RAW_SIZE),
        ("wasmtime_extern_t", EXTERN_SIZE),
        ("wasmtime_val_t", EXTERN_SIZE),
    ):
        if ctypes.sizeof(getattr(_ffi, layout)) != size:
            return f"{layout} has {ctypes.sizeof(getattr(_ffi, layout))} bytes, {size} were expected"
    engine = wasmtime.Engine()
    store = wasmtime.Store(engine)
    text = '(module (func (export "f") (param i32 i64) (result i64 i32) local.get 1 local.get 0))'
    instance = wasmtime.Instance(store, wasmtime.Module(engine, text), [])
    function = ctypes.create_string_buffer(EXTERN_SIZE)
    context = context_of(store)
    if not export_get(context, ctypes.addressof(instance._instance), b"f", 1, ctypes.addressof(function)):
        return "wasmtime_instance_export_get didn't find an export"
    values = (c_uint64 * 4)(7, 0, 1 << 40, 0)
    trap = c_void_p()
    where = ctypes.addressof(function) + 8
    if func_call_unchecked(context, where, ctypes.addressof(values), 2, ctypes.addressof(trap)) or trap.value:
        return "wasmtime_func_call_unchecked failed"
    if (values[0], values[2] & 0xFFFFFFFF) != (1 << 40, 7):
        return f"wasmtime_func_call_unchecked gave {list(values)}"
    return None


UNFIT: str | None = _misfit()
"""Why this release of wasmtime-py doesn't fit, or None."""
