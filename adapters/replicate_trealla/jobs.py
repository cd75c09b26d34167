"""Whole transactions, each in one go beside the guest: what the pools for threads and for asyncio have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from replicate_trealla.answers import Answer
from replicate_trealla.calling import forget_calls, trace_last
from replicate_trealla.interpreter import Consulted, Interpreter, register_held
from replicate_trealla.predicates import Held
from replicate_trealla.programs import Program
from replicate_trealla.queries import first, settled
from replicate_trealla.steps import Collect

if TYPE_CHECKING:
    from replicate.handles import Guest
    from replicate_trealla.session import Message

__all__ = ["Ask", "Failed", "Programs", "Register", "Succeed"]


class Failed(Exception):
    """Roll a failed goal back."""


@attrs.frozen
class Succeed:
    """Give a goal's first answer; raise `Failed` if there's none. Runs where the pool is."""

    request: bytes
    goal: str

    def __call__(self, guest: Guest) -> Answer:
        messages: list[Message] = []
        try:
            messages, _ = guest.run(Collect(self.request, 1))
            trace_last(guest, messages)
            answer = first(messages, self.goal)
        finally:
            forget_calls(guest)
        if answer is None:
            raise Failed
        return answer


@attrs.frozen
class Ask:
    """Collect the answers to a goal in a read, and see to what it has changed; runs where the pool is."""

    collect: Collect
    goal: str
    refuses: bool
    """Whether it's an error to change facts."""

    def __call__(self, guest: Guest) -> list[Message]:
        try:
            return settled(guest, guest.run(self.collect), self.goal, refuses=self.refuses)
        finally:
            forget_calls(guest)


@attrs.frozen
class Register:
    """Add the clause for a predicate."""

    held: Held

    def __call__(self, guest: Guest) -> None:
        register_held(Interpreter(guest), self.held)


@attrs.frozen
class Programs:
    """Load programs."""

    programs: tuple[Program, ...]

    def __call__(self, guest: Guest) -> Consulted:
        return Interpreter(guest).load_all(self.programs)
