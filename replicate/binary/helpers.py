"""Write the functions that do inside a module what an engine's host can't do from outside (see `HostAccess`).

References never cross: a function moves one between its place and the *hand*, a hidden table of one element, and others
work on what is there. What a table holds can only be found out by calling it, so functions are made to say who they are:
wherever the module makes a reference to a function, it gets one to a stand-in that, while a flag is set, notes the function's
index and returns zeros, and calls it otherwise. Direct calls never meet a stand-in, and where no code changes a table or
global nothing has to be identified, so that none are made.
"""

from __future__ import annotations

import attrs

from replicate.binary import leb
from replicate.binary.access import HostAccess
from replicate.binary.additions import Additions
from replicate.binary.module import ModuleInfo
from replicate.binary.plan import GlobalSlot, HandHelpers, Helpers, PlaceHelpers, StatePlan, TableHelpers, TableSlot
from replicate.binary.references import initial_contents, redirect_references
from replicate.binary.types import F32, I32, I64, FuncType, ValType
from replicate.errors import Finding

__all__ = ["HelperWriter"]

_IF, _VOID, _END, _RETURN, _CALL, _CALL_INDIRECT, _DROP = b"\x04", b"\x40", b"\x0b", b"\x0f", b"\x10", b"\x11", b"\x1a"
_LOCAL_GET, _LOCAL_SET, _GLOBAL_GET, _GLOBAL_SET, _TABLE_GET, _TABLE_SET = (
    b"\x20",
    b"\x21",
    b"\x23",
    b"\x24",
    b"\x25",
    b"\x26",
)
_I32_CONST, _REF_NULL, _REF_IS_NULL = b"\x41", b"\xd0", b"\xd1"
_TABLE_GROW, _TABLE_SIZE = b"\xfc\x0f", b"\xfc\x10"
_BITS_OF_F32, _F32_OF_BITS = b"\xbc", b"\xbe"
_ZERO, _ONE, _MINUS_ONE = b"\x41\0", b"\x41\1", b"\x41\x7f"
_FIRST = b"\x20\0"
_NULL_FUNC, _NULL_EXTERN, _FUNCREF = b"\xd0\x70", b"\xd0\x6f", b"\x70"
_LONG_REFERENCE_TYPE = 0x63
_ZEROS = {
    "i32": _ZERO,
    "i64": b"\x42\0",
    "f32": b"\x43" + bytes(4),
    "f64": b"\x44" + bytes(8),
    "v128": b"\xfd\x0c" + bytes(16),
}

_OUT_OF_REACH = "it can change, and neither this engine's host nor an added function can tell what it holds"


class HelperWriter:
    """Extend the plan of a module, and add what the extension names."""

    def __init__(
        self, wasm: bytes, info: ModuleInfo, plan: StatePlan, access: HostAccess, additions: Additions
    ) -> None:
        self._wasm = wasm
        self._info = info
        self._plan = plan
        self._access = access
        self._additions = additions
        self._types: dict[str, FuncType] = {}
        self._findings: list[Finding] = []
        self._hand = b""

    def extended(self) -> StatePlan:
        """Return the plan with `helpers`, and with findings about what they can't do."""
        exact = self._access.exact_f32
        helpers = Helpers(
            types=self._types,
            bit_calls={} if exact else self._bit_calls(),
            bit_globals={} if exact else self._bit_globals(),
            globals={},
            tables={},
            contents={},
            hand=None,
        )
        if not self._access.references:
            helpers = self._with_references(helpers)
        return attrs.evolve(self._plan, helpers=helpers, findings=(*self._plan.findings, *self._findings))

    # -- numbers -------------------------------------------------------------------------------------------------------

    def _bit_calls(self) -> dict[int, str]:
        info = self._info
        exported = sorted({export.index for export in info.exports if export.kind == "func"})
        return {
            index: self._bit_call(index, type_)
            for index in exported
            for type_ in [info.function_type(index)]
            if F32 in type_.params + type_.results
        }

    def _bit_call(self, index: int, type_: FuncType) -> str:
        code = b""
        for position, param in enumerate(type_.params):
            code += _LOCAL_GET + leb.unsigned(position) + (_F32_OF_BITS if param == F32 else b"")
        code += _CALL + leb.unsigned(index)
        # Only the last result can be reached on the stack: all go through locals.
        places = range(len(type_.params), len(type_.params) + len(type_.results))
        code += b"".join(_LOCAL_SET + leb.unsigned(place) for place in reversed(places))
        for place, result in zip(places, type_.results, strict=True):
            code += _LOCAL_GET + leb.unsigned(place) + (_BITS_OF_F32 if result == F32 else b"")
        locals_ = leb.vector([b"\1" + result.code for result in type_.results])
        return self._helper(f"bits:{index}", code, _in_bits(type_.params), _in_bits(type_.results), locals_)

    def _bit_globals(self) -> dict[int, tuple[str, str | None]]:
        info = self._info
        found = {}
        exposed = info.exposed("global")
        for index, type_ in enumerate(info.globals):
            if type_.value == F32 and (type_.mutable or index in exposed):
                number = leb.unsigned(index)
                get = self._helper(f"global:{index}:get", _GLOBAL_GET + number + _BITS_OF_F32, (), (I32,))
                set_ = None
                if type_.mutable:
                    set_ = self._helper(f"global:{index}:set", _FIRST + _F32_OF_BITS + _GLOBAL_SET + number, (I32,))
                found[index] = (get, set_)
        return found

    # -- references ----------------------------------------------------------------------------------------------------

    def _with_references(self, helpers: Helpers) -> Helpers:
        plan = self._plan
        initial = initial_contents(self._wasm, self._info)
        contents = {
            slot.index: initial[slot.index] for slot in plan.tables if not slot.changes and slot.index in initial
        }
        globals_ = [
            slot for slot in plan.globals if slot.type.value.is_reference and self._fits(slot.describe, slot.type.value)
        ]
        tables = [slot for slot in plan.tables if slot.is_state and self._fits(slot.describe, slot.type.element)]
        variable = [slot.describe for slot in globals_ if slot.type.value.is_func]
        variable += [slot.describe for slot in tables if slot.type.element.is_func and slot.index not in contents]
        hand = None
        if variable or any(slot.type.element.is_func for slot in tables):
            hand = self._make_hand(variable)
        return attrs.evolve(
            helpers,
            globals={slot.index: self._global(slot) for slot in globals_},
            tables={slot.index: self._table(slot) for slot in tables},
            contents=contents,
            hand=hand,
        )

    def _fits(self, place: str, type_: ValType) -> bool:
        if type_.text in ("funcref", "externref"):
            return True
        self._findings.append(Finding(place, f"{_OUT_OF_REACH} ({type_})"))
        return False

    def _global(self, slot: GlobalSlot) -> PlaceHelpers:
        name, number = f"global:{slot.index}", leb.unsigned(slot.index)
        get, set_ = _GLOBAL_GET + number, _GLOBAL_SET + number
        if slot.type.value.is_func:
            load = _ZERO + get + _TABLE_SET + self._hand + get + _REF_IS_NULL
            store = _ZERO + _TABLE_GET + self._hand + set_
        else:
            load, store = get + _REF_IS_NULL, _NULL_EXTERN + set_
        return PlaceHelpers(
            load=self._helper(f"{name}:load", load, (), (I32,)),
            store=self._helper(f"{name}:store", store),
            is_func=slot.type.value.is_func,
        )

    def _table(self, slot: TableSlot) -> TableHelpers:
        name, number, is_func = f"table:{slot.index}", leb.unsigned(slot.index), slot.type.element.is_func
        position = I64 if slot.type.is_64 else I32
        null = _NULL_FUNC if is_func else _NULL_EXTERN
        get, set_ = _FIRST + _TABLE_GET + number, _TABLE_SET + number
        if is_func:
            load = _ZERO + get + _TABLE_SET + self._hand + get + _REF_IS_NULL
            store = _FIRST + _ZERO + _TABLE_GET + self._hand + set_
        else:
            load, store = get + _REF_IS_NULL, _FIRST + null + set_
        place = PlaceHelpers(
            load=self._helper(f"{name}:load", load, (position,), (I32,)),
            store=self._helper(f"{name}:store", store, (position,)),
            is_func=is_func,
        )
        return TableHelpers(
            size=self._helper(f"{name}:size", _TABLE_SIZE + number, (), (position,)),
            grow=self._helper(f"{name}:grow", null + _FIRST + _TABLE_GROW + number, (position,), (position,)),
            place=place,
        )

    def _make_hand(self, variable: list[str]) -> HandHelpers:
        """Add the hand, a table of all functions to take, and, if there are variable places, what tells functions apart."""
        info, additions = self._info, self._additions
        functions = [slot.index for slot in self._plan.functions]
        self._hand = leb.unsigned(additions.table(_FUNCREF + b"\0\1"))
        all_ = leb.unsigned(additions.table(_FUNCREF + b"\0" + leb.unsigned(len(functions))))
        targets: dict[int, int] = {}
        identify: list[str] = []
        flag = noted = b""
        if variable:
            flag = leb.unsigned(additions.variable(I32, _ZERO))
            noted = leb.unsigned(additions.variable(I32, _ZERO))
            for type_ in dict.fromkeys(map(info.function_type, functions)):
                if any(_zero(value) is None for value in type_.params + type_.results):
                    reason = f"{_OUT_OF_REACH}: it may hold a function {type_}"
                    self._findings += [Finding(place, reason) for place in variable]
                    continue
                alike = [index for index in functions if info.function_type(index) == type_]
                targets |= {index: self._stand_in(index, type_, flag, noted) for index in alike}
                identify.append(self._identify(info.functions[alike[0]], type_, flag, noted))
            additions.replaced |= redirect_references(self._wasm, info, targets)
        taken = leb.vector([leb.unsigned(targets.get(index, index)) for index in functions])
        additions.element(b"\2" + all_ + _ZERO + _END + b"\0" + taken)
        return HandHelpers(
            functions={index: number for number, index in enumerate(functions)},
            take=self._helper("hand:take", _ZERO + _FIRST + _TABLE_GET + all_ + _TABLE_SET + self._hand, (I32,)),
            drop=self._helper("hand:drop", _ZERO + _NULL_FUNC + _TABLE_SET + self._hand),
            identify=tuple(identify),
            calm=self._helper("hand:calm", _ZERO + _GLOBAL_SET + flag if flag else b""),
        )

    def _stand_in(self, index: int, type_: FuncType, flag: bytes, noted: bytes) -> int:
        code = _GLOBAL_GET + flag + _IF + _VOID
        code += _ZERO + _GLOBAL_SET + flag + _I32_CONST + leb.signed(index) + _GLOBAL_SET + noted
        code += b"".join(_zero(result) or b"" for result in type_.results) + _RETURN + _END
        code += b"".join(_LOCAL_GET + leb.unsigned(position) for position in range(len(type_.params)))
        return self._additions.function(self._info.functions[index], code + _CALL + leb.unsigned(index))

    def _identify(self, type_index: int, type_: FuncType, flag: bytes, noted: bytes) -> str:
        code = (
            _ONE
            + _GLOBAL_SET
            + flag
            + _MINUS_ONE
            + _GLOBAL_SET
            + noted
            + b"".join(_zero(param) or b"" for param in type_.params)
            + _ZERO
        )
        code += _CALL_INDIRECT + leb.unsigned(type_index) + self._hand + _DROP * len(type_.results)
        return self._helper(f"hand:identify:{type_index}", code + _GLOBAL_GET + noted, (), (I32,))

    def _helper(
        self,
        name: str,
        code: bytes,
        params: tuple[ValType, ...] = (),
        results: tuple[ValType, ...] = (),
        locals_: bytes = b"\0",
    ) -> str:
        type_ = FuncType(params, results)
        full = self._additions.helper(name, code, type_=type_, locals_=locals_)
        self._types[full] = type_
        return full


def _in_bits(types: tuple[ValType, ...]) -> tuple[ValType, ...]:
    return tuple(I32 if type_ == F32 else type_ for type_ in types)


def _zero(type_: ValType) -> bytes | None:
    """Encode the instruction that makes a type's zero or null, or give None if it has none."""
    if type_.is_number:
        return _ZEROS[type_.text]
    if not type_.is_nullable:
        return None
    # In the short form of a reference type the code is that of the heap type, too.
    return _REF_NULL + (type_.code[1:] if type_.code[0] == _LONG_REFERENCE_TYPE else type_.code)
