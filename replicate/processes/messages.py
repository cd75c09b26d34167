"""What a pool and a worker say to each other.

The parent sends requests: ``(operation, arguments, transaction, bound, sync, writes, files)``. `bound` is None or the
transaction's (timeout, seconds left), `sync` what makes the instance equal to a committed state first, `writes` changes of
the host-side state by the parent: (key, value), or (key,) for one that's gone, `files` the number of descriptors that
follow. The worker answers with one of the kinds below.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import attrs

from replicate.limits import ResourceLimits

__all__ = ["Kind", "ParentFunction", "Recipe", "Sync", "WorkerFunction"]


class Kind:
    """Say what a message of the worker is. (Plain numbers: members of an enumeration take a microsecond to unpickle.)"""

    RESULT: Final = 0
    """``(RESULT, value, cost, cut)``; `cost` of the sync is the bytes copied and those private now, None where there was none;
    `cut` is the instance's `cut_short`."""
    ERROR: Final = 1
    """``(ERROR, exception, whether the sync had succeeded, cut)``"""
    HOST_CALL: Final = 2
    """``(HOST_CALL, position of the import, arguments)``; answered with ``(True, result)`` or ``(False, exception)``."""


class Sync(NamedTuple):
    """Make an instance equal to a committed state, or note that it is. (A tuple, since most requests carry one.)"""

    epoch: int
    attach: tuple[int, frozenset[int], bool] | None
    """For a worker that doesn't know the epoch, and gets its files: the log's capacity in pages, the private memories, and
    whether memories are overlaid."""
    entries: list[tuple[int, bytes]]
    """The memories' pages that were changed since the worker's version: pairs of page and place, 32 bits each."""
    sizes: tuple[int, ...]
    small: bytes | None
    """The small state, if the worker doesn't have it."""
    accept: bool
    """The instance has this state already: it's the leader's own."""
    private: bool
    """Reset private memories, too."""
    follow: int | None
    """Tell the adapter that the instance has moved to this version of the pool."""


@attrs.frozen
class ParentFunction:
    """Be a host function that the parent runs, by its number there."""

    number: int


@attrs.frozen
class WorkerFunction:
    """Be a host function that runs in the worker, pickled."""

    name: str
    data: bytes


@attrs.frozen(kw_only=True)
class Recipe:
    """Say what a worker's instance is made of; what is pickled once more may fail to be read, one by one."""

    prepared: bytes
    """The module."""
    wasi: bytes | None
    """What gives the WASI imports; the adapter's own if there's an adapter and this is None."""
    sinks: dict[str, int]
    """The parent's functions that take what the guest writes: ``"stdout"``, ``"stderr"``."""
    adapter: bytes | None
    answers: int | None
    """The parent's function that answers what the adapter asks."""
    imports: dict[tuple[str, str], Any]
    """By module and name: a `ParentFunction`, a `WorkerFunction`, or what isn't a function. The rest comes from the adapter
    and from WASI."""
    limits: ResourceLimits
