"""The guests in WAT under the bare runtime: each one has the hidden state that its first comment claims."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest
import wasmtime

WASM = Path(__file__).resolve().parents[2] / "wasm"


class Guest:
    """One instance of a guest and what it told its host."""

    def __init__(self, engine: wasmtime.Engine, name: str, *, fuel: int | None = None) -> None:
        self.module = wasmtime.Module(engine, (WASM / f"{name}.wat").read_text(encoding="utf-8"))
        self.store = wasmtime.Store(engine)
        if fuel is not None:
            self.store.set_fuel(fuel)
        self.told: list[int] = []
        imports = [self._import(item) for item in self.module.imports]
        self.exports = wasmtime.Instance(self.store, self.module, imports).exports(self.store)

    def _import(self, item: wasmtime.ImportType) -> wasmtime.Func | wasmtime.Global | wasmtime.Memory | wasmtime.Table:
        kind = item.type
        if isinstance(kind, wasmtime.FuncType):
            return wasmtime.Func(self.store, kind, self._host if kind.results else self.told.append)
        if isinstance(kind, wasmtime.GlobalType):
            return wasmtime.Global(self.store, kind, wasmtime.Val.i32(100))
        if isinstance(kind, wasmtime.MemoryType):
            return wasmtime.Memory(self.store, kind)
        assert isinstance(kind, wasmtime.TableType)
        return wasmtime.Table(self.store, kind, None)

    def _host(self, value: int) -> int:
        self.told.append(value)
        return -value

    def call(self, name: str, *args: int) -> Any:
        function = self.exports[name]
        assert isinstance(function, wasmtime.Func)
        return function(self.store, *args)

    def traps(self, reason: str, name: str, *args: int) -> None:
        with pytest.raises(wasmtime.Trap, match=reason):
            self.call(name, *args)

    def exported(self) -> set[str]:
        return {e.name for e in self.module.exports if not isinstance(e.type, wasmtime.FuncType)}


@pytest.fixture(scope="module")
def engine() -> wasmtime.Engine:
    return wasmtime.Engine()


def test_hidden_keeps_every_bit_of_its_globals_and_memory(engine: wasmtime.Engine) -> None:
    guest = Guest(engine, "hidden")
    assert guest.exported() == set()
    single_nan, double_nan = 0x7FA00001, 0x7FF4000000000001  # signalling, with a payload
    guest.call("set_i32", -7)
    guest.call("set_i64", -(2**40))
    guest.call("set_f32", single_nan)
    guest.call("set_f64", double_nan)
    guest.call("set_v128", 2**63 - 1, -2)
    guest.call("poke", 1, 200)
    assert guest.call("grow", 2) == 1
    assert [guest.call(name) for name in ("get_i32", "get_i64", "get_f32", "get_f64")] == [
        -7,
        -(2**40),
        single_nan,
        double_nan,
    ]
    assert [guest.call("get_v128_low"), guest.call("get_v128_high")] == [2**63 - 1, -2]
    assert [guest.call("peek", 0), guest.call("peek", 1), guest.call("pages")] == [ord("s"), 200, 3]
    assert guest.call("steps") == 7


def test_hidden_changes_everything_before_it_traps(engine: wasmtime.Engine) -> None:
    guest = Guest(engine, "hidden")
    guest.traps("unreachable", "change_then_trap")
    assert [guest.call("get_i32"), guest.call("get_i64"), guest.call("get_v128_high")] == [-1, -1, -1]
    assert guest.call("get_f32") == 0x7FA00000
    assert struct.pack("<q", guest.call("get_f64")) == struct.pack("<Q", 0x7FF4000000000000)
    assert [guest.call("peek", 0), guest.call("pages"), guest.call("steps")] == [0, 2, 1]


def test_memories_are_three_of_which_one_is_seen(engine: wasmtime.Engine) -> None:
    guest = Guest(engine, "memories")
    assert guest.exported() == {"memory"}
    for number, name in enumerate(("shown", "hidden", "wide"), 1):
        guest.call(f"{name}_store", 0, number)
        assert guest.call(f"{name}_grow", number) == 1
    assert [guest.call(f"{name}_load", 0) for name in ("shown", "hidden", "wide")] == [1, 2, 3]
    assert [guest.call(f"{name}_pages") for name in ("shown", "hidden", "wide")] == [2, 3, 4]
    guest.call("publish", 16, 8, 6)
    assert guest.call("shown_load", 8) == int.from_bytes(b"hidden", "little")
    guest.traps("unreachable", "change_then_trap")
    assert [guest.call(f"{name}_load", 0) for name in ("shown", "hidden", "wide")] == [-1, -1, -1]
    assert guest.call("hidden_pages") == 4


def test_tables_hold_functions_of_their_own_and_of_the_host(engine: wasmtime.Engine) -> None:
    following, host, null = 1, 2, 3
    guest = Guest(engine, "tables")
    assert guest.exported() == {"shown"}
    assert guest.call("call", 0, 21) == 42
    guest.traps("uninitialized element", "call", 1, 21)
    guest.call("set", 1, host)
    assert guest.call("call", 1, 21) == -21
    assert guest.told == [21]
    guest.call("copy", 2, 0, 2)
    guest.call("fill", 0, null, 2)
    assert [guest.call("is_null", index) for index in range(4)] == [1, 1, 0, 0]
    assert [guest.call("call", 2, 5), guest.call("call", 3, 5)] == [10, -5]
    assert guest.call("grow", 3, following) == 4
    assert [guest.call("size"), guest.call("call", 6, 5)] == [7, 6]
    guest.traps("undefined element", "call", 7, 5)
    assert guest.call("grow", 1000, null) == -1
    guest.call("publish", 0, 2, 1)
    guest.call("set_shown", 1, following)
    assert [guest.call("call_shown", 0, 5), guest.call("call_shown", 1, 5)] == [10, 6]


def test_tables_has_a_function_in_a_hidden_global(engine: wasmtime.Engine) -> None:
    guest = Guest(engine, "tables")
    assert guest.call("call_favourite", 5) == 6
    guest.call("set_favourite", 2)
    assert guest.call("call_favourite", 5) == -5
    guest.traps("unreachable", "change_then_trap")
    guest.traps("uninitialized element", "call_favourite", 5)
    assert [guest.call("call", 0, 5), guest.call("size")] == [-5, 5]


def test_segments_show_that_they_were_dropped_by_trapping_only(engine: wasmtime.Engine) -> None:
    guest = Guest(engine, "segments")
    guest.call("greet", 0, 1, 4)
    assert bytes(guest.call("peek", at) for at in range(5)) == b"ello\0"
    guest.call("learn", 0, 0, 2)
    assert [guest.call("answer", 0), guest.call("answer", 1)] == [1, 2]
    guest.traps("unreachable", "drop_then_trap")
    guest.traps("out of bounds", "greet", 0, 1, 0)
    guest.traps("out of bounds", "learn", 0, 1, 0)
    guest.call("greet", 0, 0, 0)
    guest.call("part", 0, 0, 3)
    guest.call("learn_more", 2, 0, 1)
    assert [guest.call("peek", 0), guest.call("answer", 2), guest.call("answer", 0)] == [ord("b"), 2, 1]
    for name in ("farewell", "more"):
        guest.call(f"drop_{name}")
    guest.traps("out of bounds", "part", 0, 1, 0)
    guest.traps("out of bounds", "learn_more", 0, 1, 0)


def test_start_shows_that_it_ran_once_in_all_its_imports(engine: wasmtime.Engine) -> None:
    guest = Guest(engine, "start")
    assert guest.exported() == set()
    assert {item.name for item in guest.module.imports} == {"notify", "memory", "counter", "base", "table"}
    assert guest.told == [100]
    assert [guest.call(name) for name in ("starts", "counter", "byte", "answer")] == [1, 101, 1, 201]
    assert guest.call("count", 4) == 105
    assert guest.call("answer") == 205
    guest.call("tell", 9)
    assert guest.told == [100, 9]
    assert guest.call("grow", 1) == 1
    guest.call("forget")
    guest.traps("uninitialized element", "answer")


def test_limits_eats_until_it_may_not(engine: wasmtime.Engine) -> None:
    guest = Guest(engine, "limits")
    guest.store.set_limits(memory_size=10 * 65536, table_elements=50)
    assert guest.call("eat_memory", 2) == 9
    assert guest.call("eat_table", 7) == 50
    assert guest.call("progress") == 5 + 8
    guest.traps("call stack exhausted", "recurse")
    assert guest.call("progress") > 100


@pytest.mark.parametrize("name", ["loop", "scribble", "nag"])
def test_limits_runs_until_it_is_stopped(name: str) -> None:
    config = wasmtime.Config()
    config.consume_fuel = True
    guest = Guest(wasmtime.Engine(config), "limits", fuel=10_000)
    guest.traps("fuel", name)
    guest.store.set_fuel(100)
    assert guest.call("progress") >= 1
    assert bool(guest.told) == (name == "nag")
