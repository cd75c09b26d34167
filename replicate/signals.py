"""Where an exception from a signal handler (Ctrl-C) can strike, and how to keep it from where it would do harm.

CPython runs signal handlers in the main thread, and what they raise comes out of the code that this thread is running: at a
function's entry, after a call, and at the end of a loop's turn. So what may not be torn is written without these, as plain
stores and deletions; and what has to be done at the end is done under a ``try`` that can be begun again.
"""

from __future__ import annotations

import dis
import sys
from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["deaf_entry"]

F = TypeVar("F", bound=Callable[..., Any])


def deaf_entry(function: F) -> F:
    """Have a function that starts with ``try`` start without looking for signals, so that the ``try`` covers everything.

    From Python 3.11 on the entry is the instruction RESUME, which looks only where its argument says "function start" or
    "after yield"; 3 says "after await". Before, a function that starts with ``try`` doesn't look.
    """
    if sys.version_info >= (3, 11):
        code = bytearray(function.__code__.co_code)
        at = code.index(dis.opmap["RESUME"])
        assert at % 2 == 0
        assert code[at + 1] == 0
        code[at + 1] = 3
        function.__code__ = function.__code__.replace(co_code=bytes(code))
    return function
