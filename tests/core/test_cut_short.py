"""A call that is cut short leaves half of what it does: a write may go on with that, no read hands it on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from drivers import DRIVERS, AsyncDriver, ServedDriver
from subjects import trap_and_go_on

import replicate
from replicate import HostFunction, Trap, Wasi
from replicate.errors import ArgumentError, GuestExit, MissingExportError

MODULE = """(module (import "host" "fail" (func $fail)) (import "host" "again" (func $again))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1) (global $depth (mut i32) (i32.const 0)) (data $d "abc")
  (table (export "table") 1 funcref) (elem (table 0) (i32.const 0) func $trap)
  (func $begin (global.set $depth (i32.add (global.get $depth) (i32.const 1))))
  (func $end (global.set $depth (i32.sub (global.get $depth) (i32.const 1))))
  (func $trap (export "trap") (call $begin) unreachable)
  (func (export "exit") (call $begin) (call $exit (i32.const 0)))
  (func (export "fail") (call $begin) (call $fail) (call $end))
  (func (export "again") (call $begin) (call $again) (call $end))
  (func (export "drop") (data.drop $d))
  (func (export "use") (memory.init $d (i32.const 0) (i32.const 0) (i32.const 3)))
  (func (export "depth") (result i32) (global.get $depth)))"""


class HostFailure(Exception):
    pass


def fail() -> None:
    raise HostFailure("on purpose")


def again(guest: Any) -> None:
    with pytest.raises(Trap):
        guest.call("trap")


IMPORTS = {"host": {"fail": fail, "again": HostFunction(again, caller=True)}}


def catching(error: type[BaseException], act: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def run(guest: Any) -> Any:
        with pytest.raises(error):
            act(guest)
        return guest.call("depth")

    return run


CUT: dict[str, Callable[[Any], Any]] = {
    "trap": catching(Trap, lambda guest: guest.call("trap")),
    "trap by bits": catching(Trap, lambda guest: guest.call_bits("trap")),
    "trap by reference": catching(Trap, lambda guest: guest.tables["table"][0]()),
    "exit": catching(GuestExit, lambda guest: guest.call("exit")),
    "host function": catching(HostFailure, lambda guest: guest.call("fail")),
}


@pytest.fixture(params=sorted(DRIVERS))
def make(request: pytest.FixtureRequest) -> Iterator[Any]:
    opened: list[Any] = []

    def make(**options: Any) -> Any:
        opened.append(DRIVERS[request.param](MODULE, replicas=1, imports=IMPORTS, wasi=Wasi(), **options))
        return opened[-1]

    yield make
    for pool in opened:
        pool.close()


def depth(guest: Any) -> Any:
    return guest.call("depth")


@pytest.mark.parametrize("how", sorted(CUT))
def test_a_write_that_catches_it_is_committed_as_the_guest_was_left(make: Any, how: str) -> None:
    pool = make()

    assert 1 == pool.write(CUT[how])

    assert (1, 1, 0) == (pool.version, pool.read(depth), pool.stats().rollbacks)
    assert 2 == pool.write(CUT[how])
    assert (2, 2) == (pool.version, pool.read(depth))


def test_what_a_host_function_catches_is_between_it_and_its_guest(make: Any) -> None:
    pool = make()

    pool.write(lambda guest: guest.call("again"))

    assert (1, 1) == (pool.version, pool.read(depth))


def test_a_context_manager_does_the_same(make: Any) -> None:
    pool = make()

    with pool.writing() as guest:
        with pytest.raises(Trap):
            guest.call("trap")
        assert 1 == guest.call("depth")
    with pytest.raises(Trap), pool.writing() as guest:
        guest.call("trap")

    assert (1, 1) == (pool.version, pool.read(depth))


def test_a_function_beside_the_guest_does_the_same(make: Any) -> None:
    pool = make(reset="on_commit")
    if isinstance(pool, (AsyncDriver, ServedDriver)):
        pytest.skip("these share what Pool does with in_worker")

    assert 1 == pool.read(trap_and_go_on, in_worker=True)
    assert (0, 0) == (pool.version, pool.read(depth))
    assert 1 == pool.write(trap_and_go_on, in_worker=True)
    assert (1, 1) == (pool.version, pool.read(depth))


@pytest.mark.parametrize("how", sorted(CUT))
def test_the_cheaper_rule_does_not_hand_it_to_the_next_read(make: Any, how: str) -> None:
    pool = make(reset="on_commit")

    assert 1 == pool.read(CUT[how])

    assert 0 == pool.read(depth)


@pytest.mark.parametrize(
    ("error", "act"),
    [
        (ArgumentError, lambda guest: guest.call("trap", 1)),
        (MissingExportError, lambda guest: guest.call("nothing")),
        (IndexError, lambda guest: guest.memory.read(1 << 20, 1)),
    ],
)
def test_what_never_entered_the_guest_may_be_caught(make: Any, error: Any, act: Any) -> None:
    pool = make()

    assert 0 == pool.write(catching(error, act))

    assert 1 == pool.version


def test_finding_out_about_dropped_segments_cuts_nothing_short(make: Any) -> None:
    pool = make()
    pool.write(lambda guest: guest.call("drop"))

    pool.write(depth)

    assert 2 == pool.version
    with pytest.raises(Trap):
        pool.read(lambda guest: guest.call("use"))


def test_what_starts_a_guest_may_catch_an_exit(make: Any) -> None:
    pool = make(init=CUT["exit"])

    assert 1 == pool.read(depth)
    assert 1 == pool.write(depth)


def test_an_instance_of_ones_own_goes_on() -> None:
    with replicate.load_engine().compile(MODULE).instantiate({**Wasi().imports(), **IMPORTS}) as instance:
        assert 1 == CUT["trap"](instance.guest)
        taken = instance.snapshot()
        instance.restore(taken)
        assert 1 == instance.call("depth")
