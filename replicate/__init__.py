"""Read replicas for any WebAssembly module.

One leader takes the writes, each a transaction; replicas that follow it answer the reads, in parallel. `Pool` is for
threads, `AsyncPool` for asyncio; `load_engine` gives single instances and their snapshots.
"""

from __future__ import annotations

from pathlib import Path as _Path

# PyPI's `replicate`, an AI service's client, has the same import name: installed into the same folder, the two overwrite
# each other's files, and what is left imports halfway.
if (_Path(__file__).parent / "prediction.py").exists():
    raise ImportError(
        "the files of PyPI's 'replicate' (an AI service's client) lie in the same folder as wasm-replicate's, which has the "
        "same import name: use separate virtual environments, or uninstall both and install only wasm-replicate"
    )

from replicate._version import __version__
from replicate.adapter import Adapter, ResetRule
from replicate.aio import AsyncGuest, AsyncPool
from replicate.errors import NotReplicableError, ReplicateError, Trap, TrapCode
from replicate.handles import Global, Guest, Memory, Table
from replicate.imports import Companion, HostFunction, HostGlobal, HostMemory, HostTable, Imports
from replicate.interfaces import Engine, EngineTraits, Instance, Module
from replicate.memory import MemorySnapshot
from replicate.pool import Pool
from replicate.registry import adapter_names, engine_names, load_adapter, load_engine
from replicate.snapshot import Snapshot
from replicate.stats import PoolStats
from replicate.values import FuncRef
from replicate.wasi import Wasi

__all__ = [
    "Adapter",
    "AsyncGuest",
    "AsyncPool",
    "Companion",
    "Engine",
    "EngineTraits",
    "FuncRef",
    "Global",
    "Guest",
    "HostFunction",
    "HostGlobal",
    "HostMemory",
    "HostTable",
    "Imports",
    "Instance",
    "Memory",
    "MemorySnapshot",
    "Module",
    "NotReplicableError",
    "Pool",
    "PoolStats",
    "ReplicateError",
    "ResetRule",
    "Snapshot",
    "Table",
    "Trap",
    "TrapCode",
    "Wasi",
    "__version__",
    "adapter_names",
    "engine_names",
    "load_adapter",
    "load_engine",
]
