"""What a worker process does: keep one instance, and serve its parent's requests one at a time."""

from __future__ import annotations

import os
import pickle
import signal
import socket
import struct
import sys
import threading
from collections.abc import Callable
from typing import Any

from replicate import small_state
from replicate.callables import run_whole
from replicate.errors import ArgumentTypeError, EngineError, StateError, WorkerError
from replicate.handles import Guest
from replicate.interfaces import Engine, Instance, Module
from replicate.limits import Limit, ticker
from replicate.linking import check_state
from replicate.plaindata import copy_plain
from replicate.processes.committed import Committed
from replicate.processes.exceptions import pack_error, unpack_error
from replicate.processes.lifeline import hold_on
from replicate.processes.messages import Kind, Sync
from replicate.processes.pages import write_base
from replicate.processes.recipes import make_instance
from replicate.processes.transport import Channel, EndOfWorkerError
from replicate.processes.values import FunctionNumber, WorkerObjects
from replicate.snapshot import Snapshot

__all__ = ["Worker", "run"]

_CANCEL = struct.Struct("<q")


class Worker:
    """Serve one parent."""

    def __init__(self, channel: Channel, recipe: int | None) -> None:
        self.channel = channel
        self._recipe = recipe
        self._files: list[int] = []
        """Descriptors that came with the request."""
        self.objects = WorkerObjects()
        self.engine: Engine
        self.adapter: Any = None
        self.module: Module | None = None
        self._instance: Instance | None = None
        self._committed: Committed | None = None
        self._transaction = -1
        self._depth = 0
        self._limit: Limit | None = None
        self._operations: dict[str, Callable[..., Any]] = {
            name[3:]: getattr(self, name) for name in dir(self) if name.startswith("op_")
        }

    @property
    def instance(self) -> Instance:
        """The instance, once it's made."""
        if self._instance is None:
            raise EngineError("this worker's instance couldn't be made")
        return self._instance

    @property
    def _cut_short(self) -> str | None:
        return None if self._instance is None else self._instance.cut_short

    # -- serving -------------------------------------------------------------------------------------------------------

    def serve(self) -> None:
        """Answer requests until the parent hangs up."""
        while True:
            try:
                message = self.channel.receive()
            except EndOfWorkerError:
                raise
            except Exception as error:
                unread = WorkerError(f"what was sent can't be read in the worker process: {error!r}")
                self.channel.send((Kind.ERROR, pack_error(unread), False, self._cut_short))
            else:
                self._answer(message)

    def _answer(self, message: Any) -> None:
        operation, arguments, transaction, bound, sync, writes, files = message
        if files:
            self._files = self.channel.receive_files(files)
        cost = None
        synced = False
        self._depth += 1
        try:
            if self._depth == 1:
                self._begin(transaction, bound)
            if sync is not None:
                cost = self._sync(sync)
            synced = True
            if writes:
                self._write(writes)
            result = self._operations[operation](*arguments)
            data = self._pickled((Kind.RESULT, result, cost, self._cut_short))
        except EndOfWorkerError:
            raise
        except BaseException as error:
            data = pickle.dumps((Kind.ERROR, pack_error(error), synced, self._cut_short), 5)
        finally:
            self._depth -= 1
        self.channel.send_pickled(data)

    @staticmethod
    def _pickled(message: tuple[Any, ...]) -> bytes:
        try:
            return pickle.dumps(message, 5)
        except Exception as error:
            raise WorkerError(
                f"what was returned can't be carried between processes: {error}; return what can be pickled, "
                "or leave in_worker out"
            ) from error

    def _begin(self, transaction: int, bound: tuple[float, float] | None) -> None:
        instance = self._instance
        if instance is None:
            return
        if transaction != self._transaction:
            self._transaction = transaction
            self.objects.forget()
            instance.guest._kill()
            instance.generation += 1
            instance.cut_short = None
            if instance.state_shared:
                instance.state_shared = False
                try:
                    instance.state = copy_plain(instance.state)
                except StateError:
                    instance.state = {} if self._committed is None else self._committed.host_state()
            instance.guest = Guest(instance)
        if bound is None:
            limit = Limit(self.engine, None)
        else:
            limit = Limit(self.engine, bound[1])
            limit.seconds = bound[0]
            ticker.watch(limit)
        self._limit = instance.limit = limit

    def _write(self, writes: list[tuple[Any, ...]]) -> None:
        state = self.instance.state
        for key, *value in writes:
            if value:
                state[key] = value[0]
            else:
                state.pop(key, None)

    def _sync(self, sync: Sync) -> tuple[int, int]:
        instance = self.instance
        if sync.attach is not None:
            if self._committed is not None:
                self._committed.close()
            count = len(sync.sizes) + 1
            files, self._files = self._files[:count], self._files[count:]
            self._committed = Committed(instance, files, *sync.attach)
        assert self._committed is not None
        copied = self._committed.sync(instance, sync)
        if sync.follow is not None and self.adapter is not None:
            self._follow(instance, sync.follow)
        return copied, self._committed.private_bytes

    def _follow(self, instance: Instance, version: int) -> None:
        guest, instance.guest = instance.guest, Guest(instance)
        try:
            self.adapter.moved(instance.guest, version)
            self.adapter.reseed(instance.guest)
        finally:
            instance.guest._kill()
            instance.guest = guest

    def call_host(self, position: int, arguments: tuple[Any, ...]) -> Any:
        """Have the parent run a host function; nested requests are served meanwhile."""
        self.channel.send((Kind.HOST_CALL, position, self.objects.out(arguments)))
        while True:
            message = self.channel.receive()
            if len(message) == 2:
                succeeded, value = message
                if succeeded:
                    return self.objects.came(value)
                raise unpack_error(value, mark=True)
            self._answer(message)

    def cancel(self, transaction: int) -> None:
        """Stop the guest, if it's in that transaction; called on another thread."""
        limit = self._limit
        if limit is not None and transaction == self._transaction:
            limit.cancel("this guest's transaction was cancelled")

    # -- operations ----------------------------------------------------------------------------------------------------

    def op_start(self, point: str, interruptible: bool) -> tuple[str, bool]:
        """Make the engine that is registered as ``module:class``."""
        import importlib

        module, _, name = point.partition(":")
        engine: Engine = getattr(importlib.import_module(module), name)()
        self.engine = engine if interruptible else engine.uninterruptible()
        return self.engine.version, self.engine.traits.interruptible and interruptible

    def op_wat(self, text: str) -> bytes:
        """Assemble WAT."""
        return self.engine.wat_to_wasm(text)

    def op_prepare(self, wasm: bytes) -> bytes:
        """Prepare a module and compile it, for what is wrong with it to be known."""
        prepared = self.engine.prepare(wasm)
        self.module = self.engine.compile_prepared(prepared)
        return pickle.dumps(prepared, 5)

    def op_can_load(self, data: bytes) -> bool:
        """Tell whether something that was pickled can be had here."""
        try:
            pickle.loads(data)
        except Exception:
            return False
        return True

    def op_create(self, recipe: bytes | None) -> None:
        """Make the instance; what of is in the inherited file if it isn't given."""
        if recipe is None:
            assert self._recipe is not None
            with open(f"/proc/self/fd/{self._recipe}", "rb") as file:
                recipe = file.read()
        self._instance, self.adapter = make_instance(self, pickle.loads(recipe))

    def op_call(self, name: str, arguments: tuple[Any, ...]) -> Any:
        """Call a function."""
        return self.instance.call(name, *arguments)

    def op_call_references(self, name: str, arguments: tuple[Any, ...]) -> Any:
        """Call a function that takes or gives references."""
        return self.objects.out(self.instance.call(name, *map(self.objects.came, arguments)))

    def op_call_bits(self, name: str, bits: tuple[Any, ...]) -> Any:
        """Call a function with bit patterns."""
        return self.objects.out(self.instance.call_bits(name, *map(self.objects.came, bits)))

    def op_call_function(self, number: FunctionNumber, arguments: tuple[Any, ...]) -> Any:
        """Call a function by reference."""
        return self.objects.out(self.objects.function(number)(*map(self.objects.came, arguments)))

    def op_run(self, data: bytes) -> Any:
        """Run a function beside the guest."""
        try:
            function = pickle.loads(data)
        except Exception as error:
            raise ArgumentTypeError(
                f"this function can't be had in a worker process: {error!r}; define it at the top of a module that can "
                "be imported from a folder of sys.path, or leave in_worker out"
            ) from error
        return run_whole(function, self.instance.guest)

    def op_adapter(self, method: str, arguments: tuple[Any, ...]) -> Any:
        """Call a method of the adapter with the guest."""
        return getattr(self.adapter, method)(self.instance.guest, *arguments)

    def op_do(self, method: str, arguments: tuple[Any, ...]) -> Any:
        """Call a method of the instance."""
        result = getattr(self.instance, method)(*map(self.objects.came, arguments))
        return self.objects.out(result)

    def op_state_get(self, key: str) -> tuple[Any, ...]:
        """Give a value of the host-side state, or nothing."""
        state = self.instance.state
        return (state[key],) if key in state else ()

    def op_state_keys(self) -> list[str]:
        """List the keys of the host-side state."""
        return list(self.instance.state)

    def op_snapshot(self) -> bytes:
        """Take the instance's snapshot."""
        return self.instance.snapshot().to_bytes()

    def op_restore(self, data: bytes) -> None:
        """Restore a snapshot."""
        self.instance.restore(Snapshot.from_bytes(data))

    def op_sizes(self) -> tuple[int, ...]:
        """Give the sizes of the memories."""
        instance = self.instance
        return tuple(len(instance.memory_view(slot.index)) for slot in instance.plan.memories)

    def op_write_bases(self, indices: list[int]) -> tuple[int, ...]:
        """Write memories whole to files that are passed; give their sizes."""
        files, self._files = self._files, []
        try:
            return tuple(write_base(self.instance, index, file) for index, file in zip(indices, files, strict=True))
        finally:
            for file in files:
                os.close(file)

    def op_capture(self) -> bytes:
        """Give the small state."""
        return pickle.dumps(small_state.capture(self.instance), 5)

    def op_prepare_commit(self, tail: int, capacity: int) -> Any:
        """Append what isn't committed to the log; see `Committed.prepare`."""
        assert self._committed is not None
        check_state(self.instance.linkage.checks, self.instance.state)
        return self._committed.prepare(self.instance, tail, capacity)

    def op_nothing(self) -> None:
        """Only what comes with the request."""


def _cancellations(worker: Worker, control: socket.socket) -> None:
    """Take cancellations while the guest runs on the main thread, which needs an engine that lets other threads run."""
    while True:
        data = control.recv(_CANCEL.size, socket.MSG_WAITALL)
        if len(data) < _CANCEL.size:
            return
        worker.cancel(_CANCEL.unpack(data)[0])


def run(connected: int, control: int, lifeline: int, recipe: int | None = None) -> None:
    """Be a worker, given its descriptors, until the parent hangs up."""
    hold_on(lifeline)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    worker = Worker(Channel(socket.socket(fileno=connected)), recipe)
    cancellations = socket.socket(fileno=control)
    threading.Thread(target=_cancellations, args=(worker, cancellations), daemon=True).start()
    try:
        worker.serve()
    except EndOfWorkerError:
        pass
    finally:
        # The runtime isn't torn down: that would only take time.
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError):
                pass
    os._exit(0)
