"""What a particular guest needs around it, so that a pool can be opened on it by name.

A pool does, on its leader: the start function, ``_initialize`` if the module exports it, `Adapter.start`, then the user's
own ``init``. Replicas do none of it: they get the state. Adapters are found under the entry point group
``replicate.adapters``.
"""

from __future__ import annotations

import abc
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

if TYPE_CHECKING:
    from replicate.handles import Guest
    from replicate.imports import Imports
    from replicate.wasi import Wasi

__all__ = ["Adapter", "ResetRule"]

ResetRule: TypeAlias = Literal["each_read", "on_commit"]
"""When a replica forgets what reads changed in it: after each read (P5), or at the next commit, the cheaper rule."""


class Adapter(abc.ABC):
    """Prepare one kind of guest. Subclasses override what their guest needs; only `source` must be given.

    Hazard: one adapter object serves all instances of a pool, on any thread. What belongs to an instance goes into
    ``guest.state`` (replicated) or ``guest.local`` (not).
    """

    name: ClassVar[str] = "adapter"
    reset: ResetRule = "each_read"
    """The rule a pool uses unless told otherwise."""

    wasi: Wasi | None = None
    """What the guest gets of the world outside, unless the pool is told otherwise; None: no WASI imports are given."""

    beside_guest: ClassVar[bool] = False
    """Its parts talk to each other beside the guest, so that in worker processes all of it has to be there: such an adapter is
    refused where it can't be pickled. Others run in the pool's own process then."""

    @abc.abstractmethod
    def source(self) -> bytes | str | Path:
        """Give the module: binary, WAT text or a path."""

    def imports(self) -> Imports:
        """Give the imports, called once per pool; they serve every instance."""
        return {}

    def start(self, guest: Guest) -> None:  # noqa: B027
        """Prepare the leader, once, as part of opening the pool."""

    @property
    def reseeds(self) -> bool:
        """Whether `reseed` does anything; asked once per pool."""
        return type(self).reseed is not Adapter.reseed

    def answer(self, guest: Guest, *arguments: Any) -> Any:
        """Answer what the copy of this adapter in a worker process asks by `Guest.ask_pool`.

        Runs in the process that opened the pool, in the thread of the transaction and with its handle. The arguments, the
        result and exceptions are carried between the processes.
        """
        raise NotImplementedError

    def moved(self, guest: Guest, version: int) -> None:  # noqa: B027
        """Follow a replica to a new version, before its first read there. What this changes in it stays for that version."""

    def reseed(self, guest: Guest) -> None:  # noqa: B027
        """Give a replica that moved to a new version random numbers of its own; cloned seeds draw the same ones."""
