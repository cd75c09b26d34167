"""The key-value guest: no download, and no query of its own that takes long, so the guest is made to compute."""

from __future__ import annotations

import random
import threading
from typing import Any, ClassVar, NamedTuple

from replicate import Guest, Instance, Pool, PoolStats, Trap, load_adapter, load_engine
from replicate.cli.demo.load import Question
from replicate.cli.demo.scenario import Failure, Prepared, Scenario
from replicate.cli.terminal import size_of, terminal
from replicate.errors import ReplicateError

__all__ = ["KeyValueScenario"]

_ENTRIES = 2000
_ROUNDS = 1_000_000
_MASK = (1 << 64) - 1


class Answer(NamedTuple):
    """What one read brings back."""

    value: int
    total: int
    computed: int


def _spun(rounds: int) -> int:
    """Compute what the guest's `spin` does."""
    x = rounds
    for n in range(rounds - 1, -1, -1):
        x = ((x ^ n) * 0xD6E8FEB86659FD93 + 1) & _MASK
    return x - (1 << 64) if x >> 63 else x


class KeyValueScenario(Scenario):
    """Keep a table of numbers in the key-value guest."""

    title: ClassVar[str] = "Key-value store in Wasm"
    noun: ClassVar[str] = "instance"
    asking: ClassVar[str] = "read"
    workload: ClassVar[str] = (
        f"A read looks up a key and adds up all values, then computes {_ROUNDS:,} rounds of arithmetic (the guest's export "
        "'spin', a millisecond or two) in place of a query that takes time."
    )

    def __init__(self, *, engine: str, replicas: int | None) -> None:
        super().__init__(engine=engine, replicas=replicas)
        self._model: dict[int, int] = {}
        self._pool: Pool | None = None
        self._single: Instance | None = None
        self._lock = threading.Lock()
        self._adapter = load_adapter("kv")()
        self._computed = _spun(_ROUNDS)

    def prepare(self) -> Prepared:
        source = self._adapter.source()
        assert isinstance(source, bytes)
        with terminal.working("compiling"):
            self._pool = Pool.open(self._adapter, engine=self.engine, replicas=self.replicas)
        return Prepared(self._pool.stats().engine, f"kv.wasm, {size_of(len(source))}, part of this library")

    def _open_pool(self) -> Pool:
        assert self._pool is not None
        return self._pool

    def fill(self) -> str:
        self._open_pool().write(lambda guest: guest.call("fill", _ENTRIES, 1))
        self._model = {key: key for key in range(1, _ENTRIES + 1)}
        return f"{_ENTRIES:,} entries"

    def questions(self, count: int) -> list[Question]:
        total = sum(self._model.values())
        # Keys that a change touched come up too: they are among the last.
        keys = random.Random(count).choices(list(self._model), k=count)
        return [
            Question(f"key {key}, the sum of all", key, Answer(self._model[key], total, self._computed)) for key in keys
        ]

    @staticmethod
    def _look(guest: Guest | Instance, key: int) -> Answer:
        return Answer(guest.call("get", key), guest.call("sum"), guest.call("spin", _ROUNDS))

    def ask(self, question: Question) -> Any:
        return self._open_pool().read(lambda guest: self._look(guest, question.goal))

    def show(self, answer: Any) -> str:
        return f"{answer.value}, sum {answer.total}"

    def change(self) -> str:
        deltas = {key: 1000 + key for key in range(1, _ENTRIES + 1, 2)}

        def add(guest: Guest) -> None:
            for key, delta in deltas.items():
                guest.call("add", key, delta)

        self._open_pool().write(add)
        for key, delta in deltas.items():
            self._model[key] += delta
        return f"{len(deltas):,} values changed"

    def fail(self) -> Failure:
        try:
            self._open_pool().write(lambda guest: guest.call("put_then_trap", 1, -1))
        except Trap as error:
            return Failure("put_then_trap(1, -1)", f"Trap({error.code.value})")
        raise ReplicateError("a write that traps has returned; this is a bug, please report it")

    def open_single(self) -> None:
        module = load_engine(self.engine).compile(self._adapter.source())
        self._single = module.instantiate(self._adapter.imports())
        self._single.restore(self._open_pool().snapshot())

    def ask_single(self, question: Question) -> Any:
        assert self._single is not None
        with self._lock:
            return self._look(self._single, question.goal)

    def stats(self) -> PoolStats:
        return self._open_pool().stats()

    def close(self) -> None:
        if self._single is not None:
            self._single.close()
        if self._pool is not None:
            self._pool.close()
