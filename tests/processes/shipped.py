"""What tests send to workers: it lies in a module that they can import."""

from __future__ import annotations

import os
from typing import Any


def whose(guest: Any) -> int:
    """Tell which process this runs in."""
    return os.getpid()


def bump_twice(guest: Any) -> Any:
    """Call the guest twice."""
    guest.call("bump")
    return guest.call("bump")


def fail(guest: Any) -> None:
    """Raise an exception of the user's."""
    guest.call("bump")
    raise LookupError("mine", 5)


def unpicklable(guest: Any) -> Any:
    """Return what can't be carried."""
    return lambda: None


def note(number: int) -> None:
    """Be a host function that tells which process it ran in, by an exception."""
    raise ProcessLookupError(os.getpid(), str(number))
