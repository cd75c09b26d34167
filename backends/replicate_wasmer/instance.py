"""An instance on wasmer: the primitives of `replicate.Instance` over its Python package."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from replicate.errors import ArgumentTypeError, MemoryAccessError, UnsupportedError
from replicate.helped import HelpedReferences
from replicate.interfaces import Instance, Reference, refuse_references
from replicate.limits import ResourceLimits
from replicate.linking import Linkage, LinkedFunction, LinkedGlobal, LinkedMemory, LinkedTable
from replicate.values import bits_to_value, value_to_bits

from ._runtime import wasmer
from .calls import bind_function, call_with_bits
from .cell import Cell
from .faults import call_fault, instantiation_fault
from .host import host_handler

if TYPE_CHECKING:
    from .module import Compiled, WasmerModule

__all__ = ["WasmerInstance"]


class WasmerInstance(Instance):
    """Be one running copy of a module, on the thread that makes it."""

    enters_itself: ClassVar[bool] = True
    """Tables and some globals are reached by guest calls, and no other thread gets in at all."""

    module: WasmerModule

    def __init__(self, module: WasmerModule, linkage: Linkage, limits: ResourceLimits) -> None:
        super().__init__(module, linkage, limits)
        self.cell: Cell
        self.replace()

    # -- life ----------------------------------------------------------------------------------------------------------

    def replace(self) -> None:
        if "cell" in self.__dict__:
            self.cell.check_thread()
            self.cell.close()
        self.cell = cell = Cell(self)
        self.gate = cell.gate
        self._exports: Any = None
        self._memories: dict[int, tuple[Any, int]] = {}
        self._views: dict[int, memoryview] = {}
        self._globals: dict[int, Any] = {}
        self._bound: dict[str, Callable[..., Any]] = {}
        self._references = HelpedReferences(self)
        compiled = self.module.compiled()
        try:
            native = wasmer.Instance(compiled.module, self._import_object(compiled))
            self._exports = native.exports
        except BaseException as error:
            cell.close()
            fault = instantiation_fault(error)
            if fault is error:
                raise
            raise fault from error
        cell.natives += (native, self._exports)

    def _import_object(self, compiled: Compiled) -> Any:
        found: dict[str, dict[str, Any]] = {}
        maker = self.module.maker(self.linkage, compiled.store)
        made = wasmer.Instance(maker).exports if maker is not None else None
        if maker is not None:
            self.cell.natives.append(made)  # wasmer itself doesn't keep alive what was imported
        for position, linked in enumerate(self.linkage.imports):
            wanted = self.module.info.imports[position]
            if isinstance(linked, LinkedTable):
                if linked.type != wanted.type:
                    raise UnsupportedError(
                        f"import {linked.name}: wasmer can't make a table, so the module has it with the limits that it "
                        f"declares, {wanted.type}; leave it out of the imports"
                    )
                continue
            names = found.setdefault(wanted.module, {})
            if wanted.name in names:
                raise UnsupportedError(
                    f"the module imports {wanted.module}.{wanted.name} twice, which wasmer can't give two things for"
                )
            if isinstance(linked, LinkedFunction):
                native = self._host_function(linked, compiled.store)
            elif isinstance(linked, LinkedMemory):
                kind = linked.type
                native = wasmer.Memory(compiled.store, wasmer.MemoryType(kind.minimum, kind.maximum, kind.shared))
            elif isinstance(linked, LinkedGlobal) and linked.type.value.is_number:
                native = self._host_global(linked, compiled.store)
            else:
                if isinstance(linked, LinkedGlobal) and linked.value is not None:
                    raise refuse_references(self.module.engine, f"import {linked.name} can only be None")
                native = getattr(made, str(position))
            names[wanted.name] = native
            self.cell.natives.append(native)
        imports = wasmer.ImportObject()
        for module, names in found.items():
            imports.register(module, names)
        return imports

    def _host_function(self, linked: LinkedFunction, store: Any) -> Any:
        shape = self.module.shape(linked.type)
        if shape.has_references:
            raise refuse_references(self.module.engine, f"import {linked.name} is {linked.type}")
        handler = self.cell.host_function(host_handler(self, linked, shape))
        return wasmer.Function(store, handler, shape.native())

    @staticmethod
    def _host_global(linked: LinkedGlobal, store: Any) -> Any:
        kind = linked.type.value
        make = getattr(wasmer.Value, kind.text)
        return wasmer.Global(store, make(bits_to_value(linked.bits, kind)), mutable=linked.type.mutable)

    def close(self) -> None:
        if not self.cell.stale:
            self.cell.close()
            self.generation += 1
            self._functions.clear()
            self._bound.clear()
            self._memories.clear()
            self._views.clear()
            self._globals.clear()
            self._exports = None
            self.guest._kill()

    # -- calls ---------------------------------------------------------------------------------------------------------

    def bind(self, name: str) -> Callable[..., Any]:
        shape = self.module.export_shape(name)
        self.cell.check_thread()
        return bind_function(self, name, shape, self.cell.slot(getattr(self._exports, name)))

    def function(self, name: str) -> Callable[..., Any]:
        """Give what `bind` gives, kept for the life of the present runtime instance."""
        function = self._bound.get(name)
        if function is None:
            function = self._bound[name] = self.bind(name)
        return function

    def call_bits(self, name: str, *bits: Any) -> Any:
        return call_with_bits(self, name, self.module.export_shape(name), bits)

    # -- memories ------------------------------------------------------------------------------------------------------

    def _memory(self, index: int) -> tuple[Any, int]:
        """Give a memory and its address, which it keeps for life."""
        self.cell.check_thread()
        known = self._memories.get(index)
        if known is None:
            memory = getattr(self._exports, self.plan.memories[index].export)
            address = 0
            if memory.data_size:
                address = ctypes.addressof(ctypes.c_char.from_buffer(memory.buffer))
            known = (memory, address)
            if address:
                self._memories[index] = known
        return known

    def memory_view(self, index: int) -> memoryview:
        memory, address = self._memory(index)
        size: int = memory.data_size
        known = self._views.get(index)
        if known is not None and len(known) == size:
            return known
        # wasmer's own buffer may only be released on this thread, and a view can outlive it: it's never handed out.
        view = memoryview((ctypes.c_ubyte * size).from_address(address) if size else bytearray()).cast("B")
        self._views[index] = view
        return view

    def memory_address(self, index: int) -> int:
        return self._memory(index)[1]

    def memory_grow(self, index: int, pages: int) -> int:
        memory, _ = self._memory(index)
        if pages < 0:
            raise MemoryAccessError(f"can't grow memory {index} by {pages} pages: memories don't shrink")
        try:
            previous: int = memory.grow(pages)
        except (RuntimeError, OverflowError) as error:
            raise MemoryAccessError(f"memory {index} can't grow by {pages} page(s): {error}") from error
        return previous

    # -- globals -------------------------------------------------------------------------------------------------------

    def _global(self, index: int) -> Any:
        self.cell.check_thread()
        found = self._globals.get(index)
        if found is None:
            found = self._globals[index] = getattr(self._exports, self.module.global_export(index))
        return found

    def global_bits(self, index: int) -> int:
        exact = self._exact_global(index)
        if exact is not None:
            bits: int = self.call_bits(exact[0])
            return bits
        kind = self.module.info.globals[index].value
        if not kind.is_number:
            raise ArgumentTypeError(f"global {index} is a {kind}, which has no bit pattern")
        return value_to_bits(self._global(index).value, kind, what=f"global {index}")

    def set_global_bits(self, index: int, bits: int) -> None:
        exact = self._exact_global(index)
        if exact is not None and exact[1] is not None:
            self.call_bits(exact[1], bits)
            return
        try:
            self._global(index).value = bits_to_value(bits, self.module.info.globals[index].value)
        except RuntimeError as error:
            raise call_fault(error) from error

    def _exact_global(self, index: int) -> tuple[str, str | None] | None:
        assert self.plan.helpers is not None
        return self.plan.helpers.bit_globals.get(index)

    def global_reference(self, index: int) -> Reference:
        return self._references.global_reference(index)

    def set_global_reference(self, index: int, reference: int | None) -> None:
        self._references.set_global_reference(index, reference)

    def global_object(self, index: int) -> Any:
        self._refuse(f"the value of global {index}")

    def set_global_object(self, index: int, value: Any) -> None:
        self._refuse(f"the value of global {index}")

    # -- tables --------------------------------------------------------------------------------------------------------

    def table_size(self, index: int) -> int:
        return self._references.table_size(index)

    def table_references(self, index: int) -> tuple[Reference, ...]:
        return self._references.table_references(index)

    def set_table_reference(self, index: int, position: int, reference: int | None) -> None:
        self._references.set_table_reference(index, position, reference)

    def table_value(self, index: int, position: int) -> Any:
        self._refuse(f"element {position} of table {index}")

    def table_set(self, index: int, position: int, value: Any) -> None:
        self._refuse(f"element {position} of table {index}")

    def table_grow(self, index: int, elements: int, reference: int | None = None) -> int:
        return self._references.table_grow(index, elements, reference)

    def _refuse(self, what: str) -> NoReturn:
        raise refuse_references(self.module.engine, what)
