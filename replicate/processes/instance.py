"""An instance in a worker process, as the parent holds it: every method is a question to the worker."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any, ClassVar, NoReturn

from replicate.adapter import Adapter
from replicate.errors import ArgumentTypeError, ConcurrentUseError, UnsupportedError, WorkerError
from replicate.handles import Guest
from replicate.interfaces import Reference
from replicate.processes.conversation import AskingInstance
from replicate.processes.process import root_of
from replicate.processes.values import has_references
from replicate.snapshot import Snapshot

__all__ = ["RemoteInstance"]


class RemoteInstance(AskingInstance):
    """Be one running copy of a module, in a process of its own."""

    enters_itself: ClassVar[bool] = True

    # -- life ----------------------------------------------------------------------------------------------------------

    def replace(self) -> None:
        self.ask("do", "rebuild", ())

    def run_start(self) -> None:
        self.ask("do", "run_start", ())

    def close(self) -> None:
        if self._closed:
            return
        try:
            del self.gate.token[0]
        except IndexError:
            raise ConcurrentUseError("can't close this instance: a call is running in it") from None
        self._closed = True
        self.generation += 1
        self._functions.clear()
        self.guest._kill()
        self._finalizer()

    def settle_state(self) -> bool:
        state = self.state
        self.state_shared = False
        if state.is_pending and self._lost is None and not self._closed and self.pending is None:
            try:
                self.ask("nothing")
            except (WorkerError, ConcurrentUseError):
                pass
        return state.settle()

    # -- calls ---------------------------------------------------------------------------------------------------------

    def bind(self, name: str) -> Callable[..., Any]:
        kind = self.module.function_type(name)
        enter = self._enter
        if has_references(kind):

            def call_references(*args: Any) -> Any:
                kinds = [*kind.params, *[None] * len(args)]
                values = tuple(self._objects.out(value, param) for value, param in zip(args, kinds, strict=False))
                return self._objects.came(self.ask("call_references", name, values))

            return call_references

        def call(*args: Any) -> Any:
            return enter("call", (name, args))

        return call

    def call_bits(self, name: str, *bits: Any) -> Any:
        kind = self.module.function_type(name)
        values: tuple[Any, ...] = bits
        if has_references(kind):
            kinds = [*kind.params, *[None] * len(bits)]
            values = tuple(self._objects.out(value, param) for value, param in zip(bits, kinds, strict=False))
        return self._objects.came(self.ask("call_bits", name, values))

    def run(self, fn: Callable[[Guest], Any]) -> Any:
        try:
            data = pickle.dumps(fn, 5)
        except Exception as error:
            raise self._unfit(fn, str(error)) from error
        module = getattr(fn, "__module__", None) or type(fn).__module__
        if root_of(module) is None:
            raise self._unfit(fn, f"workers can't import {module}")
        return self.ask("run", data)

    @staticmethod
    def _unfit(fn: object, reason: str) -> ArgumentTypeError:
        return ArgumentTypeError(
            f"{fn!r:.200} can't run in a worker process: {reason}. Define it at the top of a module that can be imported "
            "(with arguments, as functools.partial of one), or leave in_worker out: it then runs here"
        )

    def run_adapter(self, adapter: Adapter, method: str, *arguments: Any) -> Any:
        if self.linkage.adapter_ships:
            return self.ask("adapter", method, arguments)
        return super().run_adapter(adapter, method, *arguments)

    def follow(self, adapter: Adapter, version: int) -> None:
        if self.linkage.adapter_ships and self.pending is not None:
            self.pending.follow = version
        else:
            super().follow(adapter, version)

    def _do(self, method: str, *arguments: Any) -> Any:
        return self.ask("do", method, arguments)

    # -- memories ------------------------------------------------------------------------------------------------------

    def _refuse_view(self, index: int) -> NoReturn:
        raise UnsupportedError(
            f"memory {index} is in another process: it can be read and written by guest.memory, but not viewed"
        )

    def memory_view(self, index: int) -> memoryview:
        self._refuse_view(index)

    def memory_address(self, index: int) -> int:
        self._refuse_view(index)

    def memory_size(self, index: int) -> int:
        size: int = self._do("memory_size", index)
        return size

    def memory_read(self, index: int, offset: int, length: int) -> bytes:
        data: bytes = self._do("memory_read", index, offset, length)
        return data

    def memory_write(self, index: int, offset: int, data: bytes | bytearray | memoryview) -> None:
        # Not of `data` itself: of a number that makes as many zeros.
        self._do("memory_write", index, offset, bytes(memoryview(data)))

    def memory_grow(self, index: int, pages: int) -> int:
        old: int = self._do("memory_grow", index, pages)
        return old

    # -- globals and tables --------------------------------------------------------------------------------------------

    def global_bits(self, index: int) -> int:
        bits: int = self._do("global_bits", index)
        return bits

    def set_global_bits(self, index: int, bits: int) -> None:
        self._do("set_global_bits", index, bits)

    def global_reference(self, index: int) -> Reference:
        found: Reference = self._do("global_reference", index)
        return found

    def set_global_reference(self, index: int, reference: int | None) -> None:
        self._do("set_global_reference", index, reference)

    def global_object(self, index: int) -> Any:
        return self._objects.came(self._do("global_object", index))

    def set_global_object(self, index: int, value: Any) -> None:
        kind = self.module.info.globals[index].value
        self._do("set_global_object", index, self._objects.out(value, kind))

    def table_size(self, index: int) -> int:
        size: int = self._do("table_size", index)
        return size

    def table_references(self, index: int) -> tuple[Reference, ...]:
        found: tuple[Reference, ...] = self._do("table_references", index)
        return found

    def set_table_reference(self, index: int, position: int, reference: int | None) -> None:
        self._do("set_table_reference", index, position, reference)

    def table_value(self, index: int, position: int) -> Any:
        return self._objects.came(self._do("table_value", index, position))

    def table_set(self, index: int, position: int, value: Any) -> None:
        self._do("table_set", index, position, self._table_object(index, value))

    def set_table_value(self, index: int, position: int, value: Any) -> None:
        self._do("set_table_value", index, position, self._table_object(index, value))

    def _table_object(self, index: int, value: Any) -> Any:
        return self._objects.out(value, self.module.info.tables[index].element)

    def table_grow(self, index: int, elements: int, reference: int | None = None) -> int:
        old: int = self._do("table_grow", index, elements, reference)
        return old

    def grow_table(self, index: int, elements: int) -> int:
        old: int = self._do("grow_table", index, elements)
        return old

    # -- snapshots -----------------------------------------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        self.state.check()
        return Snapshot.from_bytes(self.ask("snapshot"))

    def restore(self, snapshot: Snapshot) -> None:
        self.state.forget()
        self.ask("restore", snapshot.to_bytes())
