"""Exceptions on their way between processes.

What a host function raised in the parent comes back to it as the same object, known by a number meanwhile.
"""

from __future__ import annotations

import pickle
import traceback
from typing import Any

from replicate.errors import ReplicateError, WorkerError

__all__ = ["Parked", "pack_error", "unpack_error"]

_MARK = "_replicate_parked"


class Parked:
    """Keep this side's exceptions while the other side works with copies of them."""

    def __init__(self) -> None:
        self._errors: dict[int, BaseException] = {}
        self._next = 0

    def park(self, error: BaseException) -> int:
        """Keep one and give its number."""
        self._next += 1
        self._errors[self._next] = error
        return self._next

    def take(self, number: int | None) -> BaseException | None:
        """Give the one that comes back, and forget all."""
        found = None if number is None else self._errors.get(number)
        self._errors.clear()
        return found


def pack_error(error: BaseException, *, number: int | None = None) -> tuple[bytes, int | None]:
    """Write an exception down; with it goes its number on the side that it came from first."""
    if number is None:
        number = getattr(error, _MARK, None)
    try:
        data = pickle.dumps(error, 5)
        pickle.loads(data)
    except Exception:
        name = f"{type(error).__module__}.{type(error).__qualname__}"
        data = pickle.dumps(WorkerError(f"{name}: {_text(error)}; it can't be carried between processes as it is"), 5)
    else:
        if not isinstance(error, ReplicateError):
            data = pickle.dumps((error, "".join(traceback.format_exception(None, error, error.__traceback__))), 5)
    return data, number


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return "(no text)"


def unpack_error(packed: tuple[bytes, int | None], *, mark: bool = False) -> BaseException:
    """Read an exception; `mark` it with its number if it's to be sent back."""
    data, number = packed
    try:
        found: Any = pickle.loads(data)
    except Exception as failure:
        found = WorkerError(f"an exception of the other process can't be read in this one: {failure!r}")
    if isinstance(found, tuple):
        error, text = found
        if not mark:
            error.__cause__ = WorkerError(f"it was raised in a worker process:\n{text}")
    else:
        error = found
    if mark and number is not None:
        try:
            setattr(error, _MARK, number)
        except Exception:
            marked = WorkerError(repr(error))
            setattr(marked, _MARK, number)
            return marked
    assert isinstance(error, BaseException)
    return error
