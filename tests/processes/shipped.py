"""What tests send to workers: it lies in a module that they can import."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from replicate import Adapter, HostFunction


def whose(guest: Any) -> int:
    """Tell which process this runs in."""
    return os.getpid()


def bump_twice(guest: Any) -> Any:
    """Call the guest twice."""
    guest.call("bump")
    return guest.call("bump")


def fail(guest: Any) -> None:
    """Raise an exception of the user's."""
    guest.call("bump")
    raise LookupError("mine", 5)


def unpicklable(guest: Any) -> Any:
    """Return what can't be carried."""
    return lambda: None


def ask(guest: Any, number: int) -> int:
    """Be a host function of `Asking`'s: have the pool's own adapter answer, or give -1 where that's this process."""
    ask_pool = guest.ask_pool
    return -1 if ask_pool is None else int(ask_pool(number, os.getpid()))


class Asking(Adapter):
    """Ask the pool's process what to return."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int, int]] = []

    def source(self) -> str:
        return """(module (import "h" "ask" (func $ask (param i32) (result i32))) (memory (export "memory") 1)
          (func (export "ask") (param i32) (result i32) (i32.store (i32.const 8) (local.get 0)) (call $ask (local.get 0)))
          (func (export "get") (param i32) (result i32) (i32.load (local.get 0))))"""

    def imports(self) -> Mapping[str, Any]:
        return {"h": {"ask": HostFunction(ask, caller=True)}}

    def answer(self, guest: Any, *arguments: Any) -> Any:
        number, process = arguments
        self.asked.append((number, process, os.getpid()))
        if number < 0:
            raise LookupError(number)
        return 2 * guest.call("get", 8)

    def __getstate__(self) -> dict[str, Any]:
        return {}


def note(number: int) -> None:
    """Be a host function that tells which process it ran in, by an exception."""
    raise ProcessLookupError(os.getpid(), str(number))
