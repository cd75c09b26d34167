"""Let one thread at a time into a Wasm instance."""

from __future__ import annotations

from threading import get_ident

from replicate.errors import ConcurrentUseError

__all__ = ["Gate"]


class Gate:
    """Let one thread at a time into an instance, and that thread's host functions back in.

    Whoever takes `token` away is inside, and puts it back. ::

        try:
            del token[0]
        except IndexError:
            ...  # somebody is inside
        try:
            ...
        finally:
            token.append(None)

    Spelled out, because an exception from a signal handler (Ctrl-C) comes after a call or at a function's entry, never
    between two plain instructions: with a call for taking it, the token would sometimes be taken and nobody know.
    """

    __slots__ = ("host_thread", "token")

    def __init__(self) -> None:
        self.token: list[None] = [None]
        self.host_thread = 0
        """The thread that is inside a host function of this instance just now, 0 if none is."""

    def enter(self) -> bool:
        """Take the token, unless somebody is inside; for where no exception comes from a signal handler."""
        try:
            del self.token[0]
        except IndexError:
            return False
        return True

    def check_reentry(self) -> None:
        """Raise `ConcurrentUseError` unless it's the calling thread that is inside, in a host function of this instance."""
        if self.host_thread != get_ident():
            raise ConcurrentUseError(
                "another thread is inside this instance: a Wasm instance is single-threaded; give each thread a replica"
            ) from None

    def leave(self) -> None:
        """Put the token back."""
        self.token.append(None)

    def locked(self) -> bool:
        """Tell whether somebody is inside."""
        return not self.token
