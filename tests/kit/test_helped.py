"""Functions that are added to a module do for a host what it can't: tried on an engine that can, told that it can't."""

from __future__ import annotations

from typing import Any, ClassVar

import attrs
import pytest

from replicate.binary import HostAccess, Prepared, prepare
from replicate.helped import HelpedReferences
from replicate.interfaces import EngineTraits, LiveReference, Reference
from replicate.limits import NO_LIMITS, ResourceLimits
from replicate.linking import Linkage
from replicate.testing import Feature, assert_engine_replicates, assert_replicable
from replicate.values import FuncRef
from replicate_wasmtime.engine import WasmtimeEngine
from replicate_wasmtime.instance import WasmtimeInstance
from replicate_wasmtime.module import WasmtimeModule
from replicate_wasmtime.shapes import Shape

from .guests import GUESTS, imports_of

FEATURES = Feature.ALL & ~Feature.REFERENCE_VALUES


class HelpedInstance(WasmtimeInstance):
    """Leave references and the bits of f32 values to what was added to the module."""

    enters_itself = True

    def replace(self) -> None:
        super().replace()
        self.references = HelpedReferences(self)

    def call_bits(self, name: str, *bits: Any) -> Any:
        helpers = self.plan.helpers
        assert helpers is not None
        index = self.module.find_export("func", name)
        return super().call_bits(helpers.bit_calls.get(-1 if index is None else index, name), *bits)

    def global_bits(self, index: int) -> int:
        assert self.plan.helpers is not None
        helper = self.plan.helpers.bit_globals.get(index)
        return super().global_bits(index) if helper is None else self.call_bits(helper[0])

    def set_global_bits(self, index: int, bits: int) -> None:
        assert self.plan.helpers is not None
        _, helper = self.plan.helpers.bit_globals.get(index, (None, None))
        if helper is None:
            super().set_global_bits(index, bits)
        else:
            self.call_bits(helper, bits)

    def global_reference(self, index: int) -> Reference:
        return self.references.global_reference(index)

    def set_global_reference(self, index: int, reference: int | None) -> None:
        self.references.set_global_reference(index, reference)

    def table_size(self, index: int) -> int:
        return self.references.table_size(index)

    def table_references(self, index: int) -> tuple[Reference, ...]:
        return self.references.table_references(index)

    def set_table_reference(self, index: int, position: int, reference: int | None) -> None:
        self.references.set_table_reference(index, position, reference)

    def table_grow(self, index: int, elements: int, reference: int | None = None) -> int:
        return self.references.table_grow(index, elements, reference)


class HelpedModule(WasmtimeModule):
    def create(self, linkage: Linkage, *, limits: ResourceLimits = NO_LIMITS) -> HelpedInstance:
        return HelpedInstance(self, linkage, limits)

    def export_shape(self, name: str) -> Shape:
        assert self.plan.helpers is not None
        kind = self.plan.helpers.types.get(name)
        return super().export_shape(name) if kind is None else self.shape(kind)


class HelpedEngine(WasmtimeEngine):
    traits: ClassVar[EngineTraits] = attrs.evolve(WasmtimeEngine.traits, reference_values=False)

    def __init__(self) -> None:
        super().__init__(cache=False)

    def prepare(self, wasm: bytes) -> Prepared:
        return prepare(wasm, access=HostAccess(exact_f32=False, references=False))

    def compile_prepared(self, prepared: Prepared) -> HelpedModule:
        return HelpedModule(self, prepared, self._native_module(prepared))


def test_random_modules_are_carried_by_their_own_functions() -> None:
    assert_engine_replicates(HelpedEngine(), modules=60, seed=500, features=FEATURES, carrier_engine="wasmtime")


@pytest.mark.nightly
@pytest.mark.timeout(3600)
def test_many_random_modules_are_carried_by_their_own_functions() -> None:
    assert_engine_replicates(HelpedEngine(), modules=1000, seed=20000, features=FEATURES, carrier_engine="wasmtime")


@pytest.mark.parametrize("guest", sorted(GUESTS))
def test_guests_are_carried_by_their_own_functions(guest: str) -> None:
    assert_replicable(
        GUESTS[guest],
        imports=lambda: imports_of(guest),
        engine=HelpedEngine(),
        max_examples=15,
        carrier_engine="wasmtime",
    )


def test_a_function_that_does_not_say_who_it_is_is_refused() -> None:
    """Only a host that can hold references could put such a one into a table: no stand-in, but the function itself."""
    wat = """(module (table (export "t") 1 funcref) (func $own (export "own") (result i32) i32.const 1)
      (func (export "put") (table.set 0 (i32.const 0) (ref.func $own))))"""
    with HelpedEngine().compile(wat).instantiate() as instance:
        instance.call("put")
        assert instance.table_references(0) == (0,)
        native = (instance.cell, instance._function_buffer("own"), 0)
        own = FuncRef(index=0, native=native, call=lambda: None, is_alive=lambda: True)
        WasmtimeInstance.table_set(instance, 0, 0, own)
        (seen,) = instance.table_references(0)
        assert isinstance(seen, LiveReference)
        assert instance.call("own") == 1
