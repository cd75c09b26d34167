"""Open what a pool is made of, checking all options first."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from replicate.callables import check_callable
from replicate.configuration import Source, configure, restore_leader, start_leader
from replicate.core import PoolCore
from replicate.errors import PoolOptionError
from replicate.handles import Guest
from replicate.interfaces import Instance
from replicate.limits import Limit, check_timeout
from replicate.options import check_options
from replicate.snapshot import Snapshot

__all__ = ["check_core", "open_core"]


def open_core(
    source: Source,
    *,
    init: Callable[[Guest], Any] | None,
    run_start: bool,
    snapshot: Snapshot | str | os.PathLike[str] | None,
    timeout: float | None,
    bounded: Callable[[Limit], Any] | None = None,
    **options: Any,
) -> PoolCore:
    """Open what a pool is made of; `options` are those of `configure`, and `bounded` is told what bounds the start."""
    timeout = check_timeout(timeout)
    check_options(source=source, init=init, run_start=run_start, snapshot=snapshot, **options)
    if init is not None:
        check_callable(init, what="init")
    taken = snapshot if snapshot is None or isinstance(snapshot, Snapshot) else Snapshot.load(snapshot)
    if taken is not None and (init is not None or run_start):
        raise PoolOptionError(
            "a pool that starts from a snapshot runs nothing else: leave init and run_start out, and do in a first write "
            "what is still to be done"
        )
    config = configure(source, **options)
    if taken is None:
        start = start_leader(config, init=init, run_start=run_start)
    else:
        start = restore_leader(config, taken)

    def start_within(leader: Instance) -> None:
        with leader.within(timeout) as limit:
            if bounded is not None:
                bounded(limit)
            start(leader)
            limit.check()

    return PoolCore(config, start_within)


def check_core(core: Any, kind: str) -> None:
    """Raise `PoolOptionError` where a pool is made of what it's to be opened on."""
    if not isinstance(core, PoolCore):
        raise PoolOptionError(f"a pool isn't made of {core!r:.80}: open it, with {kind}.open(...)")
