"""What a pool is opened with, checked and worked out once."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

import attrs

from replicate.adapter import Adapter, ResetRule
from replicate.callables import run_whole
from replicate.errors import PoolError, PoolOptionError
from replicate.handles import Guest
from replicate.image import CommittedState, StateImage
from replicate.imports import Imports
from replicate.interfaces import Engine, Instance, Module
from replicate.limits import NO_LIMITS, ResourceLimits
from replicate.linking import Linkage, check_imports, check_state
from replicate.memory_modes import MemoryMode, memory_maker
from replicate.options import check_option
from replicate.registry import engine_point, load_engine
from replicate.snapshot import Snapshot
from replicate.wasi import Wasi

if TYPE_CHECKING:
    from replicate.processes.module import RemoteModule

__all__ = [
    "Configuration",
    "Source",
    "Workers",
    "configure",
    "restore_leader",
    "start_leader",
    "usable_cores",
]

Source = bytes | str | Path | Adapter
Workers: TypeAlias = Literal["threads", "processes"]
"""Where a pool's instances run: in this process, on the threads that use them, or in a process each."""
_pool_numbers = itertools.count(1)


@attrs.frozen(kw_only=True, eq=False)
class Configuration:
    """Hold all that stays the same while a pool lives, and that its branches share."""

    name: str
    engine: Engine
    module: Module
    linkage: Linkage
    adapter: Adapter | None
    wasi: Wasi | None
    reset: ResetRule
    memory: MemoryMode
    limits: ResourceLimits
    replicas: int
    keep: int
    """How many replicas are made at once and kept though unused."""
    private_memories: frozenset[int]
    """The memories that each instance has for itself."""
    follows: bool
    """Whether the adapter wants to know about replicas that were made equal to the committed state."""
    processes: bool
    """Each instance has a process of its own."""

    def create(self) -> Instance:
        """Make an instance, not started."""
        return self.module.create(self.linkage, limits=self.limits)

    def make_image(self, leader: Instance) -> CommittedState:
        """Make what keeps the committed state; `leader` hasn't been started."""
        if self.processes:
            from replicate.processes.image import RemoteImage

            return RemoteImage(leader, private=self.private_memories, overlay=self.memory != "copy")
        return StateImage(leader, memory_maker(self.memory, self.engine), private=self.private_memories)


def wants_processes(engine: str | Engine, workers: Workers | None) -> bool:
    """Tell whether each instance is to have a process of its own."""
    if workers is not None:
        return workers == "processes"
    if not isinstance(engine, str):
        return False
    traits = engine_point(engine).load().traits
    return bool(traits.thread_bound or not traits.releases_gil)


def usable_cores() -> int:
    """Count the cores this process may run on."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


def configure(
    source: Source,
    *,
    engine: str | Engine,
    replicas: int | None,
    min_replicas: int | None,
    imports: Imports | None,
    wasi: Wasi | None,
    reset: ResetRule | None,
    memory: MemoryMode,
    share: Mapping[str | int, bool] | None,
    interruptible: bool,
    max_memory: int | None,
    max_table: int | None,
    name: str | None,
    workers: Workers | None,
) -> Configuration:
    """Compile the module and check what's given together with it; raises what `Pool.open` says."""
    count = usable_cores() if replicas is None else replicas
    keep = count if min_replicas is None else min_replicas
    if keep > count:
        raise PoolOptionError(f"min_replicas is {keep}, more than replicas={count}")
    adapter = source if isinstance(source, Adapter) else None
    rule = reset or (adapter.reset if adapter is not None else "each_read")
    check_option("reset", rule)
    processes = wants_processes(engine, workers)
    runtime = _runtime(engine, adapter, processes=processes, interruptible=interruptible)
    limits = ResourceLimits(memory_bytes=max_memory, table_elements=max_table)
    if limits != NO_LIMITS and not runtime.traits.resource_limits:
        raise PoolOptionError(
            f"engine {runtime.name!r} can't limit memory or tables: leave max_memory and max_table out"
        )
    module = runtime.compile(source.source() if isinstance(source, Adapter) else source)
    module.check_replicable()
    world = wasi if wasi is not None or adapter is None else adapter.wasi
    linkage = module.link(_merged(world, adapter, imports))
    if processes:
        remote = cast("RemoteModule", module)
        linkage = remote.ship(linkage, limits, wasi=world, adapter=adapter, given=imports)
    return Configuration(
        name=name or (adapter.name if adapter else None) or _name_of(source) or f"pool-{next(_pool_numbers)}",
        engine=runtime,
        module=module,
        linkage=linkage,
        adapter=adapter,
        wasi=world,
        reset=rule,
        memory=memory,
        limits=limits,
        replicas=count,
        keep=keep,
        private_memories=_private_memories(module, share or {}),
        follows=adapter is not None and (type(adapter).moved is not Adapter.moved or adapter.reseeds),
        processes=processes,
    )


def _runtime(engine: str | Engine, adapter: Adapter | None, *, processes: bool, interruptible: bool) -> Engine:
    if processes:
        if sys.platform != "linux":
            raise PoolError("worker processes are for Linux so far; elsewhere use workers='threads'")
        # It needs what other systems don't have.
        from replicate.processes.module import remote_engine

        name = engine if isinstance(engine, str) else engine.name
        packages = () if adapter is None else (type(adapter).__module__,)
        return remote_engine(name, packages=packages, interruptible=interruptible)
    runtime = load_engine(engine) if isinstance(engine, str) else engine
    return runtime if interruptible else runtime.uninterruptible()


def _merged(wasi: Wasi | None, adapter: Adapter | None, imports: Imports | None) -> Imports:
    """Put the imports together: WASI's, then the adapter's, then the user's, who has the last word."""
    layers: list[Imports] = [wasi.imports()] if wasi is not None else []
    layers += [adapter.imports()] if adapter is not None else []
    merged: dict[str, dict[str, Any]] = {}
    check_imports(imports or {})
    for layer in (*layers, imports or {}):
        for module, values in layer.items():
            merged.setdefault(module, {}).update(values)
    return merged


def _private_memories(module: Module, share: Mapping[str | int, bool]) -> frozenset[int]:
    private = set()
    for key, shared in share.items():
        index = key if isinstance(key, int) else module.find_export("memory", key)
        if index is None:
            labels = {slot.label: slot.index for slot in module.plan.memories}
            index = labels.get(str(key))
        if index is None or not 0 <= index < len(module.info.memories):
            known = ", ".join(repr(slot.label or slot.index) for slot in module.plan.memories) or "none"
            raise PoolOptionError(f"share names the memory {key!r}; this module has: {known}")
        if not shared:
            private.add(index)
    return frozenset(private)


def _name_of(source: Source) -> str | None:
    if isinstance(source, Path):
        return source.stem
    if isinstance(source, str) and not source.lstrip().startswith(("(", ";;")):
        return Path(source).stem
    return None


def start_leader(
    config: Configuration, *, init: Callable[[Guest], Any] | None, run_start: bool
) -> Callable[[Instance], Any]:
    """Give what starts a new pool's leader, in the order that `Adapter` documents."""

    def start(leader: Instance) -> None:
        leader.start()
        if run_start and config.module.find_export("func", "_start") is not None:
            leader.call("_start")
        if config.adapter is not None:
            leader.run_adapter(config.adapter, "start")
        if init is not None:
            run_whole(init, leader.guest)

    return start


def restore_leader(config: Configuration, snapshot: Snapshot) -> Callable[[Instance], Any]:
    """Give what makes a new pool's leader equal to a snapshot, instead of starting it."""

    def start(leader: Instance) -> None:
        leader.restore(snapshot)
        check_state(config.linkage.checks, leader.state)

    return start
