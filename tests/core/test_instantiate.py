"""A lone instance is started as a pool's leader is: the start function, then `_initialize`, as WASI wants it."""

from __future__ import annotations

import pytest

import replicate
from replicate import Trap

REACTOR = """(module (import "host" "note" (func $note (param i32)))
  (start $start) (func $start (call $note (i32.const 1)))
  (func (export "_initialize") (call $note (i32.const 2)))
  (func (export "_start") (call $note (i32.const 3))))"""


def started(text: str, **options: bool) -> list[int]:
    notes: list[int] = []
    replicate.load_engine().compile(text).instantiate({"host": {"note": notes.append}}, **options).close()
    return notes


def test_what_is_run_in_which_order() -> None:
    assert [1, 2] == started(REACTOR)


def test_what_has_been_initialised_need_not_be_again() -> None:
    assert [1] == started(REACTOR, initialize=False)


def test_what_only_has_that_name_is_not_called() -> None:
    assert [1] == started(
        REACTOR.replace('(func (export "_initialize")', '(global (export "_initialize") i32 (i32.const 0)) (func')
    )


def test_a_trap_in_it_is_raised_and_nothing_is_left_open() -> None:
    module = replicate.load_engine().compile('(module (func (export "_initialize") unreachable))')
    with pytest.raises(Trap):
        module.instantiate()
    module.instantiate(initialize=False).close()
