"""Who waits for something of a pool's, and how a thread does."""

from __future__ import annotations

import threading
from typing import Protocol

from replicate.decisions import Slot, Ticket

__all__ = ["Asking", "ThreadWaiter", "Transaction", "Waiter"]


class Transaction(Protocol):
    """Be what holds replicas, the leader or the image: whoever can't go on tells `PoolCore.abandon` of it."""

    @property
    def waiter(self) -> Waiter | None:
        """Give the ticket that it has waited with, if it has."""


class Waiter(Ticket):
    """Be a ticket that something can be told through: `wake` is called with the pool's lock held, from any thread."""

    slot: Slot | None = None
    granted: bool = False
    closed: bool = False

    def wake(self) -> None:
        """Tell whoever waits to look."""
        raise NotImplementedError


class ThreadWaiter(Waiter):
    """Be woken by releasing a lock, the cheapest thing a thread can wait for."""

    def __init__(self) -> None:
        super().__init__()
        self._asleep = threading.Lock()
        self._asleep.acquire()

    def wake(self) -> None:
        if self._asleep.locked():
            self._asleep.release()

    def wait(self, seconds: float | None) -> bool:
        """Wait until woken, or for that long; tell which."""
        return self._asleep.acquire(timeout=-1 if seconds is None else max(seconds, 0.0))


class Asking:
    """Be who waits for something that no transaction will have."""

    __slots__ = ("waiter",)

    def __init__(self) -> None:
        self.waiter = ThreadWaiter()
