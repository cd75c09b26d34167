"""What `replicate.pool_state` is about: replicas' places, requests that may have to wait, and what is decided."""

from __future__ import annotations

import enum
from typing import TypeAlias

import attrs

__all__ = ["Call", "Commit", "Decision", "Dispose", "Phase", "Read", "Resume", "Share", "Slot", "Ticket", "Write"]


class Phase(enum.Enum):
    """Say what a replica is doing."""

    IDLE = "idle"
    STARTING = "starting"
    READING = "reading"


@attrs.define(eq=False)
class Slot:
    """Be a place for one replica; the instance in it is made when first needed, and may be replaced.

    `version` is the version its instance is at, -1 if it has none yet; `dirty` says that its instance must be made equal to
    the image before the next read.
    """

    number: int
    phase: Phase = Phase.IDLE
    version: int = -1
    dirty: bool = False
    leaving: bool = False
    since: int = 0
    """How many transactions had ended when its read began."""
    pinned: bool = False
    """Its read is to last, and another slot is there in its stead."""
    holder: object = None
    """The ticket, or the transaction, that the replica was given to."""


@attrs.define(eq=False)
class Ticket:
    """Be one request that may have to wait. `direct` tickets are handed a replica and never have to claim it."""

    direct: bool = False
    first: bool = False
    """It has waited longest, and knows it: it looks now and then without being called."""
    called: bool = False
    """It has been called, and hasn't looked yet."""
    blocked: bool = False
    """It found an idle replica when a commit had the image, or waited for it."""
    overtaken: int = 0
    misses: int = 1
    """Reads that ended between the last two calls."""
    left: int = 0
    """Reads that are to end before it's called again."""


@attrs.frozen(eq=False)
class Read:
    """The ticket has this replica; its slot is starting, or reading if it needs nothing."""

    ticket: Ticket
    slot: Slot


@attrs.frozen(eq=False)
class Call:
    """This ticket has waited longest, and a replica is free: it's to `claim` one, and to try again now and then."""

    ticket: Ticket


@attrs.frozen(eq=False)
class Write:
    """The ticket has the leader."""

    ticket: Ticket


@attrs.frozen(eq=False)
class Commit:
    """The writer has the image for itself."""

    ticket: Ticket


@attrs.frozen(eq=False)
class Share:
    """The ticket may read the image."""

    ticket: Ticket


@attrs.frozen(eq=False)
class Resume:
    """The ticket has rested: who was passed has got on."""

    ticket: Ticket


@attrs.frozen(eq=False)
class Dispose:
    """Close the slot's instance: the slot is gone, or can do without one for now."""

    slot: Slot


Decision: TypeAlias = Read | Call | Write | Commit | Share | Resume | Dispose
