"""Who is running: the asyncio task, or else the thread.

A context variable would be copied into child tasks and threads, which are somebody else; the identity isn't.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Hashable

__all__ = ["current_owner"]


def current_owner() -> Hashable:
    """Give the identity of the current asyncio task, or of the thread where none is running."""
    if asyncio._get_running_loop() is not None:
        task = asyncio.current_task()
        if task is not None:
            return task
    return threading.get_ident()
