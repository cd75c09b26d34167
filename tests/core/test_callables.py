"""A transaction runs what does its work when it's called; what would do it later is refused, and nothing is committed."""

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import drivers
import pytest

import replicate
from replicate.errors import ArgumentTypeError, ImportTypeError

COUNTER = """(module (global $n (mut i32) (i32.const 0))
  (func (export "add") (result i32)
    (global.set $n (i32.add (global.get $n) (i32.const 1))) (global.get $n))
  (func (export "get") (result i32) (global.get $n)))"""


async def coroutine(guest: Any) -> int:
    return guest.call("add")


def generator(guest: Any) -> Iterator[int]:
    yield guest.call("add")


async def async_generator(guest: Any) -> AsyncIterator[int]:
    yield guest.call("add")


class Awaited:
    async def __call__(self, guest: Any) -> int:
        return guest.call("add")

    async def method(self, guest: Any) -> int:
        return guest.call("add")


LATER: dict[str, Callable[..., Any]] = {
    "coroutine": coroutine,
    "generator": generator,
    "async generator": async_generator,
    "method": Awaited().method,
}
SECRETLY_LATER: dict[str, Callable[..., Any]] = {
    "partial": functools.partial(coroutine),
    "object": Awaited(),
    "lambda": lambda guest: coroutine(guest),
    "generator expression": lambda guest: (guest.call("add") for _ in range(3)),
    "async generator": lambda guest: async_generator(guest),
}


@pytest.fixture(params=drivers.DRIVERS)
def pool(request: pytest.FixtureRequest) -> Iterator[Any]:
    driver = drivers.DRIVERS[request.param](COUNTER, replicas=1)
    yield driver
    driver.close()
    # A coroutine that nobody closed would complain now, which is an error here.
    gc.collect()


@pytest.mark.parametrize("kind", LATER)
@pytest.mark.parametrize("transaction", ["read", "write"])
def test_what_does_its_work_later_is_refused(pool: Any, transaction: str, kind: str) -> None:
    with pytest.raises(ArgumentTypeError, match="plain function"):
        getattr(pool, transaction)(LATER[kind])

    assert (0, 0) == (pool.version, pool.read(lambda guest: guest.call("get")))


@pytest.mark.parametrize("kind", SECRETLY_LATER)
@pytest.mark.parametrize("transaction", ["read", "write"])
def test_a_result_that_is_still_to_run_is_refused(pool: Any, transaction: str, kind: str) -> None:
    with pytest.raises(ArgumentTypeError, match="plain function"):
        getattr(pool, transaction)(SECRETLY_LATER[kind])

    assert (0, 0) == (pool.version, pool.read(lambda guest: guest.call("get")))


def test_what_was_done_before_such_a_result_is_rolled_back(pool: Any) -> None:
    def add_and_leave_the_rest(guest: Any) -> Any:
        guest.call("add")
        return coroutine(guest)

    with pytest.raises(ArgumentTypeError, match="what was done is undone"):
        pool.write(add_and_leave_the_rest)

    assert (0, 0) == (pool.version, pool.read(lambda guest: guest.call("get")))


def test_such_a_result_is_closed() -> None:
    made = []

    def give(guest: Any) -> Any:
        made.append(coroutine(guest))
        return made[0]

    with replicate.Pool.open(COUNTER, replicas=1) as pool, pytest.raises(ArgumentTypeError):
        pool.read(give)

    assert inspect.CORO_CLOSED == inspect.getcoroutinestate(made[0])


def test_a_coroutine_function_is_refused_without_waiting_for_the_leader() -> None:
    with replicate.Pool.open(COUNTER, replicas=1) as pool:
        with pool.writing(), pytest.raises(ArgumentTypeError, match="'coroutine', a coroutine function"):
            pool.write(coroutine)


def test_reads_on_other_threads_are_refused_too() -> None:
    with replicate.Pool.open(COUNTER, replicas=1) as pool, pool.reading():
        with pytest.raises(ArgumentTypeError, match="coroutine function"):
            pool.read(coroutine, any_thread=True)


@pytest.mark.parametrize("transaction", ["read", "write"])
def test_what_cannot_be_called_is_refused(pool: Any, transaction: str) -> None:
    if isinstance(pool, drivers.ServedDriver):
        pytest.skip("its reads are those of a pool that has taken them already")
    with pytest.raises(ArgumentTypeError, match="'get'; give a function"):
        getattr(pool, transaction)("get")


@pytest.mark.parametrize("transaction", ["read", "write"])
def test_functions_beside_the_guest_are_looked_at_too(pool: Any, transaction: str) -> None:
    if isinstance(pool, drivers.ServedDriver):
        pytest.skip("its reads are those of a pool that has taken them already")
    with pytest.raises(ArgumentTypeError, match="coroutine function"):
        getattr(pool, transaction)(coroutine, in_worker=True)


def test_what_prepares_the_leader_is_looked_at_too() -> None:
    with pytest.raises(ArgumentTypeError, match="init is 'coroutine', a coroutine function"):
        replicate.Pool.open(COUNTER, replicas=1, init=coroutine)
    with pytest.raises(ArgumentTypeError, match="returned the generator"):
        replicate.Pool.open(COUNTER, replicas=1, init=SECRETLY_LATER["generator expression"])


def test_host_functions_are_looked_at_too() -> None:
    async def log(_: int) -> None: ...

    module = '(module (import "host" "log" (func (param i32))))'
    with pytest.raises(ImportTypeError, match=r"host.log is a coroutine function"):
        replicate.Pool.open(module, replicas=1, imports={"host": {"log": log}})


def test_a_context_manager_may_await_between_calls() -> None:
    async def add_twice() -> int:
        async with replicate.AsyncPool.open(COUNTER, replicas=1) as pool:
            async with pool.writing() as guest:
                await guest.call("add")
                await asyncio.sleep(0)
                await guest.call("add")
            return await pool.read(lambda guest: guest.call("get"))

    assert 2 == asyncio.run(add_twice())
