"""Make a worker's instance: its imports come from WASI's configuration and the adapter, which are here, and from the parent."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import attrs

from replicate.adapter import Adapter
from replicate.errors import WorkerError
from replicate.imports import HostFunction
from replicate.processes.messages import ParentFunction, Recipe, WorkerFunction
from replicate.wasi import Wasi

if TYPE_CHECKING:
    from replicate.interfaces import Instance
    from replicate.processes.worker import Worker

__all__ = ["make_instance"]


def make_instance(worker: Worker, recipe: Recipe) -> tuple[Instance, Adapter | None]:
    """Make the instance, not started, and give it with the adapter, if that's here."""
    prepared = pickle.loads(recipe.prepared)
    module = worker.module
    if module is None or module.info.digest != prepared.info.digest:
        module = worker.engine.compile_prepared(prepared)
    adapter = None if recipe.adapter is None else _load(recipe.adapter, "the adapter")
    wasi: Wasi | None = _load(recipe.wasi, "the WASI configuration") if recipe.wasi is not None else None
    if wasi is not None and "stdout" in recipe.sinks:
        wasi = attrs.evolve(wasi, stdout=_parent_sink(worker, recipe.sinks["stdout"]))
    if wasi is not None and "stderr" in recipe.sinks:
        wasi = attrs.evolve(wasi, stderr=_parent_sink(worker, recipe.sinks["stderr"]))
    if wasi is None and adapter is not None:
        wasi = adapter.wasi
    merged: dict[str, dict[str, Any]] = {}
    for layer in (wasi.imports() if wasi is not None else {}, adapter.imports() if adapter is not None else {}):
        for name, values in layer.items():
            merged.setdefault(name, {}).update(values)
    for (name, item), value in recipe.imports.items():
        merged.setdefault(name, {})[item] = _import(worker, value)
    instance = module.create(module.link(merged), limits=recipe.limits)
    if recipe.answers is not None:
        instance.ask_pool = _parent_function(worker, recipe.answers)
    return instance, adapter


def _load(data: bytes, what: str) -> Any:
    try:
        return pickle.loads(data)
    except Exception as error:
        raise WorkerError(
            f"{what} can't be had in a worker process: {error!r}; it has to be importable there, "
            "from a module that lies in a folder of sys.path"
        ) from error


def _import(worker: Worker, value: Any) -> Any:
    if isinstance(value, ParentFunction):
        return HostFunction(_parent_function(worker, value.number))
    if isinstance(value, WorkerFunction):
        return _load(value.data, f"host function {value.name}")
    return value


def _parent_function(worker: Worker, number: int) -> Callable[..., Any]:
    def call(*args: Any) -> Any:
        return worker.call_host(number, args)

    return call


def _parent_sink(worker: Worker, number: int) -> Callable[[bytes], object]:
    def sink(data: bytes) -> object:
        return worker.call_host(number, (data,))

    return sink
