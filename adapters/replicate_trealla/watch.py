"""Have the interpreter note that a goal has changed something that outlives it: facts, flags, operators, streams.

Everything in Trealla that lasts is changed by builtin predicates, which are C functions that the interpreter calls through
its table of functions. The structures that name them lie in the module's data. So the module gets, for each builtin
that isn't known to be harmless, a function that sets a bit and calls the builtin, and that takes its place in the table.
The bits are in a global that isn't part of memory.

The module also gets functions that ask: what has been changed, whether memory was refused (see `refusals`), and one that
resumes a query and tells both, so that a query is one call.
"""

from __future__ import annotations

import functools
import hashlib
import re
import struct
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import attrs

from replicate.binary import I32, FuncType, ModuleInfo, leb, read_module
from replicate.binary.additions import ELEMENT, Additions
from replicate.binary.cursor import Cursor
from replicate.cache import ArtifactCache, cache_folder
from replicate_trealla.fetch import fingerprint
from replicate_trealla.refusals import ENOMEM, find_errno

__all__ = [
    "CHANGED",
    "CHANGED_FACTS",
    "CHANGED_OTHERS",
    "REDO",
    "REDO_CHANGED",
    "REDO_REFUSED",
    "REFUSED",
    "Watched",
    "watched",
]

CHANGED, REFUSED, REDO = "replicate:changed", "replicate:refused", "replicate:redo"
"""The functions: that gives the bits and clears them; that tells whether memory was refused and forgets it; and ``pl_redo``,
which gives 1 for a query that goes on, and what the other two give."""
REDO_REFUSED = 2
REDO_CHANGED = 8
"""How many places the bits are shifted to the left."""
CHANGED_FACTS = 1
"""The program, its flags or its operators may have been changed."""
CHANGED_OTHERS = 2
"""Something else that lasts may have been: a stream, or what a builtin that isn't known does."""

_VERSION = b"2"
"""Of what is written here: another one isn't to find the modules that this one has kept."""
_DATA = 11
_PAGE = 65536
_NAME = re.compile(rb"[\x21-\x7e]{1,63}\0")
_ANCHORS = ("retract/1", "set_prolog_flag/2", "copysign/2", "$host_call/2", "read_term/3", "posix_time/1", "between/3")
_STRIDES = range(16, 1025, 4)
_NEAR = 1 << 20
"""How far a builtin's structure may lie from its name."""
_BUILTIN = FuncType((I32,), (I32,))
_GLOBAL_GET, _GLOBAL_SET, _LOCAL_GET_0, _CALL, _CONST = b"\x23", b"\x24", b"\x20\0", b"\x10", b"\x41"
_OR, _SHIFT_LEFT, _EQUAL, _UNEQUAL = b"\x72", b"\x74", b"\x46", b"\x47"
_LOAD, _STORE, _IF_I32, _ELSE, _END = b"\x28\x02\0", b"\x36\x02\0", b"\x04\x7f", b"\x05", b"\x0b"
_ASK = FuncType((), (I32,))


@attrs.frozen
class Watched:
    """Give a module, and whether it notes changes: one whose builtins aren't found where they're expected doesn't."""

    wasm: bytes = attrs.field(repr=False)
    notes: bool


def watched(path: Path) -> Watched:
    """Give the module at `path`, made to note changes."""
    return _watched(*fingerprint(path))


@functools.lru_cache(4)
def _watched(path: Path, size: int, changed: int) -> Watched:
    wasm = path.read_bytes()
    cache = ArtifactCache(cache_folder() / "trealla-watched")
    key = hashlib.sha256(_digest() + wasm).hexdigest()
    known = cache.find(key)
    if known is not None:
        return Watched(known.read_bytes(), True)
    made = _watch(wasm)
    if made.notes:
        cache.keep(key, made.wasm)
    return made


@functools.cache
def _digest() -> bytes:
    """Give what tells this way of watching from others."""
    return _VERSION + resources.files("replicate_trealla").joinpath("builtins.txt").read_bytes()


def _watch(wasm: bytes) -> Watched:
    info = read_module(wasm)
    redo = next((e.index for e in info.exports if e.name == "pl_redo" and e.kind == "func"), None)
    if redo is None or info.function_type(redo) != _BUILTIN or not info.memories or info.start is not None:
        return Watched(wasm, False)
    additions = Additions(wasm, info)
    if additions.prefix != CHANGED.partition(":")[0] + ":":
        return Watched(wasm, False)
    resume = _LOCAL_GET_0 + _CALL + leb.unsigned(redo) + _number(0) + _UNEQUAL
    bits = _note_changes(wasm, info, additions)
    if bits is not None:
        changed = _GLOBAL_GET + leb.unsigned(bits) + _number(0) + _GLOBAL_SET + leb.unsigned(bits)
        _ask(additions, CHANGED, changed)
        resume += changed + _number(REDO_CHANGED) + _SHIFT_LEFT + _OR
    errno = find_errno(wasm)
    if errno:
        refused = _number(errno) + _LOAD + _number(ENOMEM) + _EQUAL
        # It's written to only if there's a need: a page that isn't written to isn't copied.
        refused += _IF_I32 + _number(errno) + _number(0) + _STORE + _number(REDO_REFUSED) + _ELSE + _number(0) + _END
        _ask(additions, REFUSED, refused)
        resume += refused + _OR
    _ask(additions, REDO, resume, _BUILTIN)
    return Watched(additions.encode(), bits is not None)


def _number(value: int) -> bytes:
    return _CONST + leb.signed(value)


def _ask(additions: Additions, name: str, code: bytes, type_: FuncType = _ASK) -> None:
    additions.helper(name.partition(":")[2], code, type_=type_)


def _note_changes(wasm: bytes, info: ModuleInfo, additions: Additions) -> int | None:
    """Have builtins note what they change, and give the global with the bits; None where they aren't found."""
    segment = _only_element_segment(wasm, info)
    if segment is None or len(info.tables) != 1:
        return None
    base, functions = segment
    names = find_builtins(wasm, info, range(base, base + len(functions)))
    known = {name for slot in names for name in names[slot]}
    if not {"assertz/1", "retract/1", "abolish/1", "op/3", "set_prolog_flag/2"} <= known:
        return None
    bits = additions.variable(I32, _number(0))
    replaced: dict[tuple[int, int], int] = {}
    for position, function in enumerate(functions):
        bit = _bit(names.get(base + position, ()))
        if bit and info.function_type(function) == _BUILTIN:
            if (function, bit) not in replaced:
                code = _GLOBAL_GET + leb.unsigned(bits) + _number(bit) + _OR + _GLOBAL_SET + leb.unsigned(bits)
                code += _LOCAL_GET_0 + _CALL + leb.unsigned(function)
                replaced[function, bit] = additions.function(info.functions[function], code)
            functions[position] = replaced[function, bit]
    additions.replaced[ELEMENT] = leb.vector(
        [b"\0" + _number(base) + _END + leb.vector([leb.unsigned(f) for f in functions])]
    )
    return bits


# -- which builtins ----------------------------------------------------------------------------------------------------


@functools.cache
def _classes() -> dict[str, int]:
    """Read ``builtins.txt``: which builtins change nothing that lasts, and which change the program."""
    bits: dict[str, int] = {}
    bit = 0
    for line in resources.files("replicate_trealla").joinpath("builtins.txt").read_text("utf-8").splitlines():
        if line.startswith("["):
            bit = {"[harmless]": 0, "[facts]": CHANGED_FACTS}[line]
        elif not line.startswith("#"):
            bits.update(dict.fromkeys(line.split(), bit))
    return bits


def _bit(names: tuple[str, ...]) -> int:
    """Give what calling a function of the table sets, by the builtins that it's for."""
    if not names:
        return CHANGED_OTHERS
    given = {_classes().get(name, CHANGED_OTHERS) for name in names}
    # One function for several is equal code: what's harmless by one name is by the other.
    return CHANGED_FACTS if CHANGED_FACTS in given else min(given)


# -- where they are ----------------------------------------------------------------------------------------------------


def find_builtins(wasm: bytes, info: ModuleInfo, slots: range) -> dict[int, tuple[str, ...]]:
    """Give the builtins, as ``name/arity``, that each slot of the table is for.

    The structures begin with a pointer to the name, the arity and the slot, and lie side by side; how long they are is found
    out. Looks for some names first, and goes on from there in both directions.
    """
    image = _memory(wasm, info)
    found: dict[int, set[str]] = {}
    seen: set[int] = set()
    stride = 0
    for anchor in _ANCHORS:
        for at in _places(image, anchor, slots):
            if at in seen:
                break
            if not stride:
                stride = next((step for step in _STRIDES if _run_length(image, at, step, slots) > 20), 0)
            if not stride or _run_length(image, at, stride, slots) < 3:
                continue
            for step in (stride, -stride):
                place = at
                while (entry := _entry(image, place, slots)) is not None:
                    seen.add(place)
                    found.setdefault(entry[1], set()).add(entry[0])
                    place += step
            break
    return {slot: tuple(sorted(names)) for slot, names in found.items()}


def _run_length(image: bytearray, at: int, step: int, slots: range) -> int:
    count = 0
    for direction in (step, -step):
        place = at
        while count < 64 and _entry(image, place, slots) is not None:
            count += 1
            place += direction
    return count - 1


def _entry(image: bytearray, at: int, slots: range) -> tuple[str, int] | None:
    if not 0 <= at <= len(image) - 12:
        return None
    name, arity, slot = struct.unpack_from("<III", image, at)
    if slot not in slots or arity > 16 or not 0 < name < len(image):
        return None
    match = _NAME.match(image, name)
    return (f"{match[0][:-1].decode()}/{arity}", slot) if match is not None else None


def _places(image: bytearray, indicator: str, slots: range) -> Iterator[int]:
    """Give where structures for a builtin may be."""
    name, _, arity = indicator.rpartition("/")
    text = b"\0" + name.encode() + b"\0"
    at = image.find(text)
    while at >= 0:
        wanted = struct.pack("<II", at + 1, int(arity))
        place = image.find(wanted, max(at - _NEAR, 0), at + _NEAR)
        while place >= 0:
            if place % 4 == 0 and _entry(image, place, slots) is not None:
                yield place
            place = image.find(wanted, place + 1, at + _NEAR)
        at = image.find(text, at + 1)


def _memory(wasm: bytes, info: ModuleInfo) -> bytearray:
    """Give what the first memory is like after instantiation."""
    image = bytearray(info.memories[0].minimum * _PAGE)
    for section in info.sections:
        if section.id == _DATA:
            cursor = Cursor(wasm, section.start, section.end)
            for _ in range(cursor.u32()):
                kind = cursor.u32()
                at = _constant(cursor) if kind == 0 else None
                if kind not in (0, 1) or (kind == 0 and at is None):
                    return image
                size = cursor.u32()
                if at is not None:
                    image[at : at + size] = wasm[cursor.position : cursor.position + size]
                cursor.position += size
    return image


def _only_element_segment(wasm: bytes, info: ModuleInfo) -> tuple[int, list[int]] | None:
    """Give the first slot, and the functions, of a module's only segment for a table, if it's of the plainest kind."""
    for section in info.sections:
        if section.id == ELEMENT:
            cursor = Cursor(wasm, section.start, section.end)
            if cursor.u32() == 1 and cursor.u32() == 0:
                base = _constant(cursor)
                if base is not None:
                    return base, [cursor.u32() for _ in range(cursor.u32())]
    return None


def _constant(cursor: Cursor) -> int | None:
    """Read an expression, and give its value if it's an i32 constant."""
    if cursor.byte() != 0x41:
        return None
    value = cursor.s32() & 0xFFFFFFFF
    return value if cursor.byte() == 0x0B else None
