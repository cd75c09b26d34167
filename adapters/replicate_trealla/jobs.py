"""Whole transactions, each in one go beside the guest: what the pools for threads and for asyncio have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from replicate_trealla.interpreter import Consulted, Interpreter, register_held
from replicate_trealla.predicates import Held
from replicate_trealla.programs import Program
from replicate_trealla.queries import first, note_change
from replicate_trealla.steps import Collect

if TYPE_CHECKING:
    from replicate.handles import Guest
    from replicate_trealla.session import Message

__all__ = ["Ask", "Failed", "Programs", "Register", "Succeed"]


class Failed(Exception):
    """Roll a failed goal back."""


@attrs.frozen
class Succeed:
    """Give a goal's first answer, as messages, since terms nested deep can't be pickled; raise `Failed` if there's none."""

    request: bytes
    goal: str

    def __call__(self, guest: Guest) -> list[Message]:
        messages, _ = Collect(self.request, 1)(guest)
        if first(messages, self.goal) is None:
            raise Failed
        return messages


@attrs.frozen
class Ask:
    """Collect the answers to a goal in a read, and see to what it has changed; runs where the pool is."""

    collect: Collect
    goal: str
    refuses: bool
    """Whether it's an error to change facts."""

    def __call__(self, guest: Guest) -> list[Message]:
        messages, changed = guest.run(self.collect)
        if changed:
            note_change(guest, changed, self.goal, refuses=self.refuses)
        return messages


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
