"""Guests that tests drive, each beside a plain model of what it should do."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from typing import Any

import hypothesis.strategies as st

from replicate import Trap
from replicate_kv import KeyValueAdapter

__all__ = ["SUBJECTS", "CellsSubject", "KeyValueSubject", "Subject", "trap_and_go_on"]


class Subject(ABC):
    """Describe a guest: what to do to it, and a model of its state."""

    source: Any

    @abstractmethod
    def fresh(self) -> Any:
        """Give the model of a new guest."""

    @abstractmethod
    def changes(self) -> st.SearchStrategy[tuple[Any, ...]]:
        """Draw a call that changes state and returns: (name, *arguments)."""

    @abstractmethod
    def apply(self, model: Any, call: tuple[Any, ...]) -> Any:
        """Do to the model what the call does to the guest, and give its result."""

    @abstractmethod
    def observe(self, guest: Any) -> Any:
        """Look at everything in the guest that the model knows."""

    @abstractmethod
    def expect(self, model: Any) -> Any:
        """Give what `observe` should."""

    spoil: tuple[Any, ...]
    """A call that changes state, grows memory if it can, and then traps."""
    failing: tuple[tuple[Any, ...], ...]
    """Calls that fail without a change."""

    def copy(self, model: Any) -> Any:
        """Copy the model."""
        return copy.deepcopy(model)


CELLS = """(module
  (import "host" "fail" (func $fail))
  (memory (export "memory") 1 20) (memory $hidden 1)
  (global $counter (mut i64) (i64.const 0)) (global $f (mut f32) (f32.const nan:0x200001))
  (table $t 2 10 funcref) (elem declare func $one $two) (data $d "abcdefgh")
  (func $one (result i32) i32.const 1) (func $two (result i32) i32.const 2)
  (func (export "set") (param $at i32) (param $v i32) (result i64)
    (i32.store (i32.mul (local.get $at) (i32.const 4)) (local.get $v))
    (i32.store $hidden (i32.mul (local.get $at) (i32.const 8)) (local.get $v))
    (global.set $counter (i64.add (global.get $counter) (i64.const 1))) (global.get $counter))
  (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
  (func (export "point") (param $at i32) (param $two i32)
    (if (local.get $two) (then (table.set $t (local.get $at) (ref.func $two)))
      (else (table.set $t (local.get $at) (ref.func $one)))))
  (func (export "extend") (result i32) (table.grow $t (ref.func $two) (i32.const 1)))
  (func (export "drop") (data.drop $d))
  (func (export "target") (param $at i32) (result i32)
    (if (result i32) (ref.is_null (table.get $t (local.get $at))) (then (i32.const 0))
      (else (call_indirect $t (result i32) (local.get $at)))))
  (func (export "targets") (result i32) (table.size $t))
  (func (export "dropped") (result i32) (memory.init $d (i32.const 65000) (i32.const 0) (i32.const 8)) i32.const 0)
  (func (export "look") (param $at i32) (result i32 i32 i64 i32)
    (i32.load (i32.mul (local.get $at) (i32.const 4))) (i32.load $hidden (i32.mul (local.get $at) (i32.const 8)))
    (global.get $counter) (i32.reinterpret_f32 (global.get $f)))
  (func (export "spoil") (i64.store (i32.const 0) (i64.const -1)) (i64.store $hidden (i32.const 0) (i64.const -1))
    (global.set $counter (i64.const -5)) (drop (memory.grow (i32.const 1))) (data.drop $d)
    (table.fill $t (i32.const 0) (ref.func $two) (i32.const 2)) (drop (table.grow $t (ref.null func) (i32.const 1)))
    unreachable)
  (func (export "spoil_by_host") (i32.store (i32.const 0) (i32.const 7)) (call $fail)))"""

_CELLS = 6


class HostFailure(Exception):
    """Be raised by a host function."""


def _fail() -> None:
    raise HostFailure("the host said no")


class CellsSubject(Subject):
    """A small guest with every kind of state: two memories, globals, a table, a segment."""

    source = CELLS
    options = {"imports": {"host": {"fail": _fail}}}
    spoil = ("spoil",)
    failing = (("set", 1), ("nope",), ("target", 99), ("spoil_by_host",))

    def fresh(self) -> Any:
        return {"cells": [0] * _CELLS, "counter": 0, "pages": 1, "table": [0, 0], "dropped": False}

    def changes(self) -> st.SearchStrategy[tuple[Any, ...]]:
        return st.one_of(
            st.tuples(st.just("set"), st.integers(0, _CELLS - 1), st.integers(-(2**31), 2**31 - 1)),
            st.tuples(st.just("grow"), st.integers(0, 2)),
            st.tuples(st.just("point"), st.integers(0, 1), st.integers(0, 1)),
            st.just(("extend",)),
            st.just(("drop",)),
        )

    def apply(self, model: Any, call: tuple[Any, ...]) -> Any:
        name, *args = call
        if name == "set":
            model["cells"][args[0]] = args[1]
            model["counter"] += 1
            return model["counter"]
        if name == "grow":
            if model["pages"] + args[0] > 20:
                return -1
            model["pages"] += args[0]
            return model["pages"] - args[0]
        if name == "point":
            model["table"][args[0]] = 2 if args[1] else 1
        elif name == "extend":
            if len(model["table"]) == 10:
                return -1
            model["table"].append(2)
            return len(model["table"]) - 1
        else:
            model["dropped"] = True
        return None

    def observe(self, guest: Any) -> Any:
        try:
            guest.call("dropped")
            dropped = False
        except Exception:
            dropped = True
        return {
            "dropped": dropped,
            "cells": [guest.call("look", at) for at in range(_CELLS)],
            "pages": guest.memory.size // 65536,
            "table": [guest.call("target", at) for at in range(guest.call("targets"))],
        }

    def expect(self, model: Any) -> Any:
        return {
            "cells": [(cell, cell, model["counter"], 0x7FA00001) for cell in model["cells"]],
            "pages": model["pages"],
            "table": model["table"],
            "dropped": model["dropped"],
        }


class _QuietAdapter(KeyValueAdapter):
    """Leave the random generator alone, so that replicas are equal to the leader to the bit."""

    def reseed(self, guest: Any) -> None:
        pass


class KeyValueSubject(Subject):
    """The key-value store, a C program with a heap and a shadow stack."""

    source = _QuietAdapter()
    options: dict[str, Any] = {}
    spoil = ("put_then_trap", 1, -1)
    failing = (("put", 1), ("nope",), ("put", "a", "b"), ("recurse_then_trap", 20))

    def fresh(self) -> Any:
        return {}

    def changes(self) -> st.SearchStrategy[tuple[Any, ...]]:
        keys, values = st.integers(0, 40), st.integers(-(2**63), 2**63 - 1)
        return st.one_of(
            st.tuples(st.just("put"), keys, values),
            st.tuples(st.just("add"), keys, st.integers(-5, 5)),
            st.tuples(st.just("delete"), keys),
            st.tuples(st.just("fill"), st.integers(0, 3000), st.integers(0, 100)),
            st.just(("clear",)),
        )

    def apply(self, model: Any, call: tuple[Any, ...]) -> Any:
        name, *args = call
        if name == "put":
            old = model.get(args[0], 0)
            model[args[0]] = args[1]
            return old
        if name == "add":
            model[args[0]] = _wrap(model.get(args[0], 0) + args[1])
            return model[args[0]]
        if name == "delete":
            return int(model.pop(args[0], None) is not None)
        if name == "fill":
            model.update({key: key for key in range(args[1], args[1] + args[0])})
            return args[0]
        model.clear()
        return None

    def observe(self, guest: Any) -> Any:
        return {
            "count": guest.call("count"),
            "sum": guest.call("sum"),
            "some": [guest.call("get", key) for key in range(42)],
            "ready": guest.call("initialized"),
            "counted": guest.call("reads"),
        }

    def expect(self, model: Any) -> Any:
        return {
            "count": len(model),
            "sum": _wrap(sum(model.values())),
            "some": [model.get(key, 0) for key in range(42)],
            "ready": 1,
            "counted": 0,
        }


def _wrap(value: int) -> int:
    return (value + 2**63) % 2**64 - 2**63


SUBJECTS: dict[str, Any] = {"cells": CellsSubject(), "kv": KeyValueSubject()}


def trap_and_go_on(guest: Any) -> Any:
    """Catch a trap beside the guest, wherever that is, and look at what it left."""
    try:
        guest.call("trap")
    except Trap:
        pass
    return guest.call("depth")
