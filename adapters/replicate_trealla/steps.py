"""What is done beside the guest, in whatever process that is, each in one go: see `replicate.Guest.run`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from replicate_trealla.mailbox import KEY
from replicate_trealla.session import Message, session_of

if TYPE_CHECKING:
    from replicate.handles import Guest
    from replicate_trealla.session import Session

__all__ = ["AbandonCalls", "Collect", "Load", "NextMessage", "StartStream", "StopStream"]


@attrs.frozen
class Collect:
    """Run a request to its end, or until it has given `limit` answers; give those, and what was changed, as bits."""

    request: bytes
    limit: int | None

    def __call__(self, guest: Guest) -> tuple[list[Message], int]:
        session = session_of(guest)
        return session.collect(self.request, self.limit), session.take_changed()


@attrs.frozen
class Load:
    """Load a program into a module, whose name needs no quotes."""

    program: bytes
    module: bytes = b"user"

    def __call__(self, guest: Guest) -> Message:
        session = session_of(guest)
        message = session.load(self.program, self.module)
        session.take_changed()
        return message


@attrs.frozen
class StartStream:
    """Begin to run a request answer by answer, and give the stream's number."""

    request: bytes

    def __call__(self, guest: Guest) -> int:
        return session_of(guest).begin_stream(self.request)


@attrs.frozen
class NextMessage:
    """Give a stream's next message, None after the last, and what was changed; the stream is gone with its last one."""

    stream: int

    def __call__(self, guest: Guest) -> tuple[Message | None, int]:
        session = session_of(guest)
        return session.next_of_stream(self.stream), session.take_changed()


@attrs.frozen
class StopStream:
    """Stop a stream and free what it holds."""

    stream: int

    def __call__(self, guest: Guest) -> None:
        # Not by `session_of`, which refuses an interpreter that has ended.
        session: Session | None = guest.local.get(KEY)
        if session is not None:
            session.stop_stream(self.stream)
            session.take_changed()


@attrs.frozen
class AbandonCalls:
    """Close what predicates have left open, of a goal that won't go on."""

    def __call__(self, guest: Guest) -> None:
        session: Session | None = guest.local.get(KEY)
        if session is not None:
            session.abandon_calls()
