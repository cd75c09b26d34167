"""Engines and modules whose instances are in worker processes."""

from __future__ import annotations

import pickle
import threading
import time
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import attrs

from replicate.adapter import Adapter
from replicate.binary import FuncType, Prepared
from replicate.errors import WorkerDiedError
from replicate.interfaces import Engine, EngineTraits, Module
from replicate.limits import NO_LIMITS, ResourceLimits, ticker
from replicate.linking import Linkage
from replicate.processes.exceptions import unpack_error
from replicate.processes.instance import RemoteInstance
from replicate.processes.interpreters import find_interpreter
from replicate.processes.messages import Kind
from replicate.processes.process import WorkerProcess, root_of
from replicate.processes.shipping import RemoteLinkage, ship
from replicate.processes.transport import EndOfWorkerError
from replicate.registry import engine_point

if TYPE_CHECKING:
    from replicate.imports import Imports
    from replicate.wasi import Wasi

__all__ = ["RemoteEngine", "RemoteModule", "remote_engine"]


def remote_engine(name: str, *, packages: tuple[str, ...] = (), interruptible: bool = True) -> RemoteEngine:
    """Give an engine that runs `name` in worker processes, which have the parent's modules of these `packages`.

    Raises `UnknownEngineError`, and `EngineUnavailableError` where no interpreter has its runtime.
    """
    point = engine_point(name)
    interpreter = find_interpreter(name)
    backend = point.load()
    traits: EngineTraits = attrs.evolve(
        backend.traits, releases_gil=True, thread_bound=False, interruptible=True, companions=False
    )
    kind = type("RemoteEngine", (RemoteEngine,), {"name": name, "traits": traits, "__slots__": ()})
    roots = dict(filter(None, map(root_of, ("replicate", backend.__module__, *packages))))
    engine: RemoteEngine = kind(point.value, interpreter, roots, interruptible)
    return engine


class RemoteEngine(Engine):
    """Run another engine in worker processes, one for each instance."""

    __slots__ = (
        "_instances",
        "_interpreter",
        "_lock",
        "_point",
        "_roots",
        "_spares",
        "_version",
        "_wanted",
        "interruptible",
    )

    name: ClassVar[str]
    traits: ClassVar[EngineTraits]

    def __init__(self, point: str, interpreter: Path, roots: dict[str, str], interruptible: bool) -> None:
        self._point = point
        self._interpreter = interpreter
        self._roots = roots
        self._wanted = interruptible
        self.interruptible = False
        """Whether workers stop their guests themselves; else they're killed."""
        self._version = ""
        self._lock = threading.Lock()
        self._spares: list[WorkerProcess] = []
        weakref.finalize(self, _end_all, self._spares)
        self._instances: weakref.WeakSet[RemoteInstance] = weakref.WeakSet()

    @property
    def version(self) -> str:
        if not self._version:
            self._ask("nothing")
        return self._version

    def tick(self) -> None:
        now = time.monotonic()
        with self._lock:
            instances = list(self._instances)
        later = [when for when in (instance.look(now) for instance in instances) if when is not None]
        if later:
            ticker.tick_at(min(later), self)

    def wat_to_wasm(self, text: str) -> bytes:
        wasm: bytes = self._ask("wat", text)
        return wasm

    def prepare(self, wasm: bytes) -> Prepared:
        prepared: Prepared = pickle.loads(self._ask("prepare", wasm))
        return prepared

    def compile_prepared(self, prepared: Prepared) -> RemoteModule:
        return RemoteModule(self, prepared)

    # -- workers -------------------------------------------------------------------------------------------------------

    def start_worker(self, recipe: int | None = None) -> WorkerProcess:
        """Start a worker and have it make the engine, without waiting for it; `recipe` is a descriptor to pass."""
        process = WorkerProcess(self._interpreter, self._roots, recipe)
        process.request("start", self._point, self._wanted)
        return process

    def take_spare(self) -> WorkerProcess | None:
        """Give the worker that was asked about modules, if there is one; it has its engine."""
        try:
            return self._spares.pop()
        except IndexError:
            return None

    def _ask(self, operation: str, *arguments: Any) -> Any:
        """Ask a worker that has no instance yet."""
        spare = self.take_spare()
        if spare is None:
            spare = self.start_worker()
            try:
                self._version, self.interruptible = _answer(spare)
            except BaseException:
                spare.kill()
                spare.end()
                raise
        try:
            spare.request(operation, *arguments)
            result = _answer(spare)
        except (EndOfWorkerError, WorkerDiedError, KeyboardInterrupt):
            spare.kill()
            spare.end()
            raise
        except BaseException:
            self._spares.append(spare)
            raise
        self._spares.append(spare)
        return result

    def can_load(self, data: bytes) -> bool:
        """Tell whether a worker can read what was pickled."""
        answer: bool = self._ask("can_load", data)
        return answer

    def add(self, instance: RemoteInstance) -> None:
        """Have an instance looked at when the engine ticks."""
        with self._lock:
            self._instances.add(instance)


def _end_all(spares: list[WorkerProcess]) -> None:
    while spares:
        spares.pop().end()


def _answer(process: WorkerProcess) -> Any:
    try:
        message = process.channel.receive()
    except EndOfWorkerError:
        raise WorkerDiedError(
            f"worker process {process.pid} {process.describe_end()} while it was being started"
        ) from None
    if message[0] == Kind.ERROR:
        raise unpack_error(message[1])
    return message[1]


class RemoteModule(Module):
    """Be a module whose instances are in workers."""

    engine: RemoteEngine

    def __init__(self, engine: RemoteEngine, prepared: Prepared) -> None:
        super().__init__(engine, prepared)
        self._prepared = pickle.dumps(prepared, 5)
        info = prepared.info
        self._functions = {
            export.name: info.function_type(export.index) for export in info.exports if export.kind == "func"
        }

    def function_type(self, name: str) -> FuncType:
        """Give the type of an exported function; raise `MissingExportError`."""
        kind = self._functions.get(name)
        if kind is None:
            raise self.missing_function(name)
        return kind

    def ship(
        self,
        linkage: Linkage,
        limits: ResourceLimits,
        *,
        wasi: Wasi | None = None,
        adapter: Adapter | None = None,
        given: Imports | None = None,
    ) -> RemoteLinkage:
        """Work out what of the imports the workers get."""
        names = [(wanted.module, wanted.name) for wanted in self.info.imports]
        return ship(
            linkage, self._prepared, limits, names, self.engine.can_load, wasi=wasi, adapter=adapter, given=given
        )

    def create(self, linkage: Linkage, *, limits: ResourceLimits = NO_LIMITS) -> RemoteInstance:
        """Make an instance in a worker of its own, without waiting until it's there: what fails is raised at the first use."""
        shipped = linkage if isinstance(linkage, RemoteLinkage) else self.ship(linkage, limits)
        process = self.engine.take_spare()
        started = process is not None
        if process is None:
            process = self.engine.start_worker(shipped.recipe.file)
        instance = RemoteInstance(self, shipped, limits, process)
        process.request("create", shipped.recipe.read() if started else None)
        instance.expect(1 if started else 2, interruptible=self.engine.interruptible)
        self.engine.add(instance)
        return instance
