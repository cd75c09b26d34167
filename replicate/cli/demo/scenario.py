"""What the story needs of a guest."""

from __future__ import annotations

import abc
from types import TracebackType
from typing import Any, ClassVar

import attrs

from replicate import PoolStats
from replicate.cli.demo.load import Question

__all__ = ["Failure", "Prepared", "Scenario"]


@attrs.frozen
class Prepared:
    """Say what was opened: the engine, and what the module is, in a few words each."""

    engine: str
    module: str


@attrs.frozen
class Failure:
    """Say what a failing write tried, and what it raised."""

    tried: str
    error: str


class Scenario(abc.ABC):
    """Be a guest with questions to ask it, and a model in Python that knows the answers.

    Used in this order: `prepare`, `fill`, then `questions`, `ask`, `change`, `fail` as the story likes, `open_single`,
    `ask_single`, `close`. Only `ask` and `ask_single` are called from several threads.
    """

    title: ClassVar[str]
    noun: ClassVar[str]
    """What one instance of the guest is."""
    asking: ClassVar[str]
    """What a question is, for the head of a table."""
    workload: ClassVar[str]
    """What a read does, honestly."""

    def __init__(self, *, engine: str, replicas: int | None) -> None:
        self.engine = engine
        self.replicas = replicas

    @abc.abstractmethod
    def prepare(self) -> Prepared:
        """Get and compile the module, and open the pool, showing progress."""

    @abc.abstractmethod
    def fill(self) -> str:
        """Write the first state, and say what it is."""

    @abc.abstractmethod
    def questions(self, count: int) -> list[Question]:
        """Make `count` questions, with the answers that are right at present."""

    @abc.abstractmethod
    def ask(self, question: Question) -> Any:
        """Ask a replica."""

    @abc.abstractmethod
    def show(self, answer: Any) -> str:
        """Spell an answer."""

    @abc.abstractmethod
    def change(self) -> str:
        """Write something that changes answers, and say what."""

    @abc.abstractmethod
    def fail(self) -> Failure:
        """Run a write that changes the guest and then fails."""

    @abc.abstractmethod
    def open_single(self) -> None:
        """Make one instance in the pool's present state, to be used behind a lock."""

    @abc.abstractmethod
    def ask_single(self, question: Question) -> Any:
        """Ask that instance, waiting for the lock."""

    @abc.abstractmethod
    def stats(self) -> PoolStats:
        """Give the pool's statistics."""

    @abc.abstractmethod
    def close(self) -> None:
        """Close what is open."""

    def __enter__(self) -> Scenario:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
