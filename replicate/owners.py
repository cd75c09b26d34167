"""Who is running: the asyncio task, or else the thread.

A context variable would be copied into child tasks and threads, which are somebody else; the identity isn't.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Hashable, Iterator
from contextlib import contextmanager

__all__ = ["acting_for", "current_owner"]


class _Acting(threading.local):
    owner: Hashable = None


_acting = _Acting()


@contextmanager
def acting_for(owner: Hashable) -> Iterator[None]:
    """Have this thread be taken for `owner`, who waits for what it does: what that one has open, this one has."""
    _acting.owner = owner
    try:
        yield
    finally:
        _acting.owner = None


def current_owner() -> Hashable:
    """Give the identity of the current asyncio task, or of the thread where none is running."""
    if _acting.owner is not None:
        return _acting.owner
    if asyncio._get_running_loop() is not None:
        task = asyncio.current_task()
        if task is not None:
            return task
    return threading.get_ident()
