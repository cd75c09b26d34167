"""What of a pool's imports goes to its workers, and what stays with the parent.

An adapter and WASI's functions run in the worker, beside the guest, if they can be pickled. A user's functions run in the
parent, as they would without workers: copies in other processes, each with its own globals, would behave differently in
silence. With ``HostFunction(fn, in_worker=True)`` the user says that it's all right.
"""

from __future__ import annotations

import os
import pickle
import weakref
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from replicate.adapter import Adapter
from replicate.errors import ImportTypeError, UnsupportedError
from replicate.imports import CompanionFunction, HostFunction, HostGlobal, Imports
from replicate.limits import ResourceLimits
from replicate.linking import Linkage, LinkedFunction, LinkedGlobal
from replicate.processes.messages import ParentFunction, Recipe, WorkerFunction
from replicate.processes.process import root_of
from replicate.wasi import Wasi

__all__ = ["ParentHost", "RemoteLinkage", "ship"]


_NOTHING = object()


@attrs.frozen(eq=False)
class ParentHost:
    """Be a function that the parent runs for a worker's guest."""

    fn: Callable[..., Any]
    caller: bool
    linked: LinkedFunction | None
    """None for what isn't an import."""
    answers: bool = False
    """What it returns is wanted, though it isn't an import's result."""


class RecipeFile:
    """Hold what workers are made of in a file that they inherit."""

    def __init__(self, data: bytes) -> None:
        self.file = os.memfd_create("replicate-recipe", os.MFD_CLOEXEC)
        weakref.finalize(self, os.close, self.file)
        with open(self.file, "wb", closefd=False) as file:
            file.write(data)

    def read(self) -> bytes:
        """Give the content."""
        return os.pread(self.file, os.fstat(self.file).st_size, 0)


@attrs.frozen(eq=False)
class RemoteLinkage(Linkage):
    """Be the checked imports of a module whose instances are in workers."""

    recipe: RecipeFile = attrs.field(kw_only=True)
    hosts: tuple[ParentHost, ...] = ()
    """The functions that run here, by the number the workers know them by."""
    adapter_ships: bool = False

    @property
    def checks(self) -> tuple[Callable[[Mapping[str, Any]], Any], ...]:
        """Give the checks of the functions that run here; workers do the others."""
        found = (getattr(host.fn, "check_replicable", None) for host in self.hosts)
        return tuple({check for check in found if check is not None})


def _pickled(value: object) -> bytes | None:
    try:
        return pickle.dumps(value, 5)
    except Exception:
        return None


def ship(
    linkage: Linkage,
    prepared: bytes,
    limits: ResourceLimits,
    names: list[tuple[str, str]],
    can_load: Callable[[bytes], bool],
    *,
    wasi: Wasi | None = None,
    adapter: Adapter | None = None,
    given: Imports | None = None,
) -> RemoteLinkage:
    """Work out who runs what. `names` are the module's imports in order, `linkage` is made of all layers together."""
    hosts: list[ParentHost] = []

    def host(fn: Callable[..., Any], caller: bool, linked: LinkedFunction | None) -> int:
        hosts.append(ParentHost(fn, caller, linked))
        return len(hosts) - 1

    own_adapter = None
    if adapter is not None and root_of(type(adapter).__module__) is not None:
        own_adapter = _loadable(adapter, can_load)
    if adapter is not None and own_adapter is None and adapter.beside_guest:
        raise UnsupportedError(
            f"adapter {adapter.name!r} has to be carried to the worker processes, and can't be: {_why_not(adapter)}; "
            "give it functions and objects of modules that can be imported there, or use workers='threads'"
        )
    own_wasi, sinks = None, {}
    if wasi is not None and not (own_adapter is not None and adapter is not None and wasi is adapter.wasi):
        plain = wasi
        if callable(wasi.stdout_mode):
            sinks["stdout"] = host(wasi.stdout_mode, False, None)
            plain = attrs.evolve(plain, stdout="discard")
        if callable(wasi.stderr_mode):
            sinks["stderr"] = host(wasi.stderr_mode, False, None)
            plain = attrs.evolve(plain, stderr="discard")
        own_wasi = _loadable(plain, can_load)
        if own_wasi is None:
            sinks.clear()
            hosts.clear()
    wasi_ships = own_wasi is not None or (own_adapter is not None and adapter is not None and wasi is adapter.wasi)
    there: list[Imports] = [wasi.imports()] if wasi is not None and wasi_ships else []
    here: list[Imports] = [given or {}]
    if adapter is not None:
        (there if own_adapter is not None else here).append(adapter.imports())
    imports: dict[tuple[str, str], Any] = {}
    for (module, name), linked in zip(names, linkage.imports, strict=True):
        value = _find(here, module, name)
        if value is _NOTHING and _find(there, module, name) is not _NOTHING:
            continue
        if isinstance(linked, LinkedFunction):
            chosen = value.fallback if isinstance(value, CompanionFunction) else value
            if isinstance(chosen, HostFunction) and chosen.in_worker:
                imports[module, name] = _worker_function(linked.name, chosen)
            else:
                imports[module, name] = ParentFunction(host(linked.fn, linked.caller, linked))
        elif isinstance(linked, LinkedGlobal) and not linked.type.value.is_number:
            imports[module, name] = HostGlobal(linked.value)
        elif value is not _NOTHING:
            imports[module, name] = value
    answers = None
    if adapter is not None and own_adapter is not None and type(adapter).answer is not Adapter.answer:
        hosts.append(ParentHost(adapter.answer, True, None, answers=True))
        answers = len(hosts) - 1
    recipe = Recipe(
        prepared=prepared,
        wasi=own_wasi,
        sinks=sinks,
        adapter=own_adapter,
        answers=answers,
        imports=imports,
        limits=limits,
    )
    written = _pickled(recipe)
    if written is None:
        raise ImportTypeError(
            "an imported global's object can't be carried to a worker: give None, or use workers='threads'"
        )
    return RemoteLinkage(
        linkage.imports,
        linkage.companions,
        recipe=RecipeFile(written),
        hosts=tuple(hosts),
        adapter_ships=own_adapter is not None,
    )


def _why_not(value: object) -> str:
    try:
        pickle.dumps(value, 5)
    except Exception as error:
        return str(error)
    return "the workers' interpreter can't read it"


def _find(layers: list[Imports], module: str, name: str) -> Any:
    return next((layer[module][name] for layer in layers if name in layer.get(module, {})), _NOTHING)


def _loadable(value: object, can_load: Callable[[bytes], bool]) -> bytes | None:
    data = _pickled(value)
    return data if data is not None and can_load(data) else None


def _worker_function(name: str, function: HostFunction) -> WorkerFunction:
    try:
        data = pickle.dumps(function, 5)
    except Exception as error:
        raise ImportTypeError(
            f"import {name} is to run in the workers, and can't be carried there: {error}; define it at the top of a "
            "module that can be imported, or leave in_worker out"
        ) from error
    if root_of(getattr(function.fn, "__module__", None) or "") is None:
        raise ImportTypeError(
            f"import {name} is to run in the workers, where {function.fn!r} can't be imported; define it at the top of "
            "a module that can be imported, or leave in_worker out"
        )
    return WorkerFunction(name, data)
