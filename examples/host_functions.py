"""Functions that the host gives a guest: typed, with access to the guest, and free to raise."""

from __future__ import annotations

import replicate

# A guest that calls three host functions. Real ones come out of a compiler; this one is written by hand.
GUEST = """(module
  (import "host" "discount" (func $discount (param f64) (result f64)))
  (import "host" "log" (func $log (param i32 i32)))
  (import "host" "check" (func $check (param f64)))
  (memory (export "memory") 1)
  (data (i32.const 16) "price set")
  (global $price (mut f64) (f64.const 0))
  (func (export "set_price") (param $price f64)
    (global.set $price (call $discount (local.get $price)))
    (call $log (i32.const 16) (i32.const 9))
    (call $check (global.get $price)))
  (func (export "price") (result f64) (global.get $price)))"""


def log(guest: replicate.Guest, at: int, length: int) -> None:
    """Append a text in the guest's memory to the host's part of the guest's state."""
    guest.state["log"] = [*guest.state.get("log", []), guest.memory.read(at, length).decode()]


def check(price: float) -> None:
    """Refuse a price."""
    if price > 1000:
        raise ValueError(f"{price} is too much")


IMPORTS: replicate.Imports = {
    "host": {
        # A plain function takes the type that the module declares; `params` and `results` make sure of it.
        "discount": replicate.HostFunction(lambda price: price * 0.75, params=("f64",), results=("f64",)),
        # `caller=True`: the first argument is the guest that calls.
        "log": replicate.HostFunction(log, caller=True),
        "check": check,
    }
}

with replicate.Pool.open(GUEST, imports=IMPORTS, replicas=2) as pool:
    pool.write(lambda guest: guest.call("set_price", 100.0))
    print("price:", pool.read(lambda guest: guest.call("price")))

    # The exception crosses the guest and comes out as it was; price and log are rolled back.
    try:
        pool.write(lambda guest: guest.call("set_price", 5000.0))
    except ValueError as error:
        print("refused:", error)
    print("price:", pool.read(lambda guest: guest.call("price")))
    print("log:", pool.read(lambda guest: guest.state["log"]))
