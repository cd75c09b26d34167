"""Find engines and adapters by name, through entry points.

Ours are registered like anybody's. "Nobody has registered that name" and "it's registered, but its runtime can't be
imported" are two different errors.
"""

from __future__ import annotations

import atexit
import os
import threading
from importlib import metadata
from typing import TYPE_CHECKING

from replicate.errors import AdapterError, EngineUnavailableError, UnknownAdapterError, UnknownEngineError

if TYPE_CHECKING:
    from replicate.adapter import Adapter
    from replicate.interfaces import Engine

__all__ = ["adapter_names", "engine_names", "engine_point", "load_adapter", "load_engine"]

_ENGINES = "replicate.engines"
_ADAPTERS = "replicate.adapters"

_lock = threading.Lock()
_engines: dict[str, Engine] = {}
# Runtimes clean up through their own modules' globals, which are gone when the interpreter clears ours.
atexit.register(_engines.clear)


def _after_fork() -> None:
    """Forget engines in a forked child: their threads are the parent's, and so may be the holder of the lock."""
    global _lock
    _lock = threading.Lock()
    _engines.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def engine_names() -> list[str]:
    """List the registered engines, importable or not."""
    return sorted({point.name for point in metadata.entry_points(group=_ENGINES)})


def adapter_names() -> list[str]:
    """List the registered adapters."""
    return sorted({point.name for point in metadata.entry_points(group=_ADAPTERS)})


def engine_point(name: str) -> metadata.EntryPoint:
    """Give the entry point of an engine; raise `UnknownEngineError` for a name that isn't registered."""
    found = [point for point in metadata.entry_points(group=_ENGINES) if point.name == name]
    if not found:
        raise UnknownEngineError(
            f"no engine is called {name!r}; registered are: {', '.join(engine_names()) or 'none'}. Engines are found "
            f"through the entry point group {_ENGINES!r}: install one, or reinstall wasm-replicate if none is listed"
        )
    return found[0]


def load_engine(name: str = "wasmtime") -> Engine:
    """Give the engine `name`: one object for the process, so that compiled modules are shared.

    Raises `UnknownEngineError` for a name that isn't registered, and `EngineUnavailableError`, saying what to install, when
    its runtime can't be imported here.
    """
    if not isinstance(name, str):
        engine_point(name)  # which finds none of that name, and says so
    with _lock:
        engine = _engines.get(name)
        if engine is not None:
            return engine
        found = engine_point(name)
        try:
            engine = _instantiate(found)
        except ImportError as error:
            if isinstance(error, EngineUnavailableError):
                raise
            raise EngineUnavailableError(
                f"engine {name!r} is registered by {found.value}, but can't be imported: {error}. "
                f"Install its runtime: pip install {name}"
            ) from error
        _engines[name] = engine
        return engine


def _instantiate(point: metadata.EntryPoint) -> Engine:
    engine: Engine = point.load()()
    return engine


def load_adapter(name: str) -> type[Adapter]:
    """Give the adapter class `name`; raise `UnknownAdapterError` if nobody has registered it."""
    found = [point for point in metadata.entry_points(group=_ADAPTERS) if point.name == name]
    if not found:
        raise UnknownAdapterError(
            f"no adapter is called {name!r}; registered are: {', '.join(adapter_names()) or 'none'}"
        )
    try:
        adapter: type[Adapter] = found[0].load()
    except (ImportError, AttributeError) as error:
        raise AdapterError(f"adapter {name!r} ({found[0].value}) can't be imported: {error}") from error
    return adapter
