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

__all__ = ["carry_through", "deaf_entry"]

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


@deaf_entry
def carry_through(step: Callable[[], object], *, fatal: tuple[type[BaseException], ...]) -> None:
    """Call `step` until it has returned once, and raise afterwards what signal handlers have raised meanwhile.

    `step` can be called again after any of its instructions, its last too. What is `fatal` is raised at once: it's no signal
    handler's. A handler that raises whenever `step` is about to return would have this go on without end.
    """
    try:
        caught: BaseException | None = None
        while True:
            try:
                step()
                break
            except fatal:
                raise
            except BaseException as error:
                caught = error
    except fatal:
        raise
    except BaseException:  # it came between two tries
        carry_through(step, fatal=fatal)
        raise
    if caught is not None:
        raise caught
