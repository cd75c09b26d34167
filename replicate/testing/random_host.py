"""The host of random modules: a few functions of each kind that a guest may meet, all deterministic."""

from __future__ import annotations

from typing import Any

from replicate.imports import HostFunction
from replicate.testing.assembler import signature

__all__ = ["HOST_TYPES", "HostRefusal", "host_functions"]


class HostRefusal(Exception):
    """Be raised by a random module's host function, to end the guest's call."""


def _mix(value: int) -> int:
    mixed = value * 0x9E3779B97F4A7C15 + 1 & 2**64 - 1
    return mixed - 2**64 if mixed >> 63 else mixed


def _note(guest: Any, value: int) -> int:
    notes = guest.state.setdefault("notes", {"count": 0, "last": []})
    notes["count"] += 1
    notes["last"] = [*notes["last"][-2:], value]
    return int(notes["count"])


def _back(guest: Any, value: int) -> int:
    return int(guest.call("inner", value))


def _fail(value: int) -> None:
    if value & 3 == 0:
        raise HostRefusal(f"the host refuses {value}")


HOST_TYPES = {
    "leaf": signature((), ("i32",)),
    "mix": signature(("i64",), ("i64",)),
    "note": signature(("i32",), ("i32",)),
    "back": signature(("i32",), ("i32",)),
    "fail": signature(("i32",), ()),
    "pair": signature(("f32", "f64"), ("f64", "f32")),
    "same": signature(("funcref",), ("funcref",)),
}


def host_functions() -> dict[str, Any]:
    """Give the host functions that random modules import from ``"host"``.

    All are deterministic. ``note`` keeps a nested value in the guest's `state`, ``back`` calls the export ``inner``,
    ``fail`` raises `HostRefusal` for every fourth argument.
    """
    return {
        "leaf": lambda: 1000,
        "mix": _mix,
        "note": HostFunction(_note, caller=True),
        "back": HostFunction(_back, caller=True),
        "fail": _fail,
        "pair": lambda single, double: (double, single),
        "same": lambda reference: reference,
    }
