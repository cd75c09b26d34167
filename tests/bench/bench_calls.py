"""What a guest call costs, from the bare C function to a pool's read: ``python tests/bench/bench_calls.py``."""

from __future__ import annotations

import ctypes
import sys

import wasmtime
from figures import Figure, best_of, show

import replicate
from replicate_wasmtime import _capi

WAT = """(module (memory (export "memory") 1)
  (func (export "spin") (param $n i32) (loop $l (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1))))))
  (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1))))"""


def figures() -> list[Figure]:
    """Measure, print the layers of a call, and give the figures that have a goal."""
    engine = wasmtime.Engine()
    store = wasmtime.Store(engine)
    slow = wasmtime.Instance(store, wasmtime.Module(engine, WAT), []).exports(store)["add"]
    assert isinstance(slow, wasmtime.Func)

    instance = replicate.load_engine("wasmtime").compile(WAT).instantiate()
    call = instance.call
    function = instance._function_buffer("add")  # type: ignore[attr-defined]
    where, context = ctypes.addressof(function), instance.cell.context  # type: ignore[attr-defined]
    raw, values = _capi.slots(2)
    trap = ctypes.c_void_p()
    trap_at = ctypes.addressof(trap)
    bare = _capi.func_call_unchecked
    raw[:1], raw[16:17] = b"\3", b"\4"
    assert slow(store, 3, 4) == call("add", 3, 4) == 7

    pool = replicate.Pool.open(WAT, replicas=1, reset="on_commit")
    strict = replicate.Pool.open(WAT, replicas=1)

    def add(guest: replicate.Guest) -> int:
        result: int = guest.call("add", 3, 4)
        return result

    names = [
        "Func.__call__",
        "bare C call",
        "Instance.call",
        "Pool.read, on_commit",
        "Pool.read, each_read",
        "Pool.write",
    ]
    times = best_of(
        [
            lambda: slow(store, 3, 4),
            lambda: bare(context, where, values, 2, trap_at),
            lambda: call("add", 3, 4),
            lambda: pool.read(add),
            lambda: strict.read(add),
            lambda: pool.write(add),
        ],
        calls=1000,
    )
    for name, seconds in zip(names, times, strict=True):
        print(f"{name:24} {seconds * 1e6:8.2f} us")
    print()
    plain = replicate.load_engine("wasmtime").uninterruptible().compile(WAT).instantiate()
    spins = best_of([lambda: call("spin", 100_000), lambda: plain.call("spin", 100_000)], calls=20)
    return [
        Figure("Instance.call against Func.__call__", 12, times[0] / times[2]),
        Figure("the price of being interruptible, tightest loop", 2.5, spins[0] / spins[1], "at most"),
    ]


def main() -> int:
    return show(figures())


if __name__ == "__main__":
    sys.exit(main())
