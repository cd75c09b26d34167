"""Where the interpreter keeps the state of its random generator, so that each replica can be given one of its own.

The generator is one number in a global of C's. Setting that by a goal, ``set_seed/1``, costs a query for each replica that
moves to a new version; writing it into memory costs a microsecond. Its address isn't exported, so it's found by setting seeds
and looking for them, and believed if a seed written there gives the numbers that the same seed gives when it's set. What was
found is kept in the cache folder, and believed by another process if a seed that's set can be read there.
"""

from __future__ import annotations

import hashlib
import random
import re
import struct
from pathlib import Path
from typing import TYPE_CHECKING

from replicate.cache import ArtifactCache, cache_folder
from replicate.errors import ArgumentTypeError
from replicate_trealla.fetch import fingerprint
from replicate_trealla.interpreter import Interpreter

if TYPE_CHECKING:
    from replicate.handles import Guest

__all__ = ["checked_seed", "find_seed", "set_seed", "write_seed"]

_KEY = "trealla-seed"
"""Where the address lies in ``guest.state``; 0 if it isn't known."""
_NUMBER = struct.Struct("<I")
_MARKS = (0x2C5A3B71, 0x1D8E94A7)
_PROOF = 0x35B1F00D
_LARGEST = 0x7FFFFFFF
_source = random.SystemRandom()
_known: dict[tuple[Path, int, int], int] = {}
"""Addresses by module: its globals are where they are."""


def checked_seed(seed: int | None) -> int | None:
    """Give a seed as the interpreter takes it, or raise `ArgumentTypeError` for what isn't a number."""
    if seed is None:
        return None
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise ArgumentTypeError(f"seed is {seed!r:.80}; give an int, or None for numbers that don't repeat")
    return random.Random(seed).randint(1, _LARGEST)


def find_seed(guest: Guest, module: Path) -> None:
    """Find where the generator's state is in a guest of this module, and note that in the guest's state."""
    key = fingerprint(module)
    address = _known.get(key)
    if address is None:
        address = _known[key] = _kept(guest, key) or _search_and_keep(guest, key)
    guest.state[_KEY] = address


def set_seed(guest: Guest, seed: int | None) -> None:
    """Seed the leader's generator, with a seed of our own if it's None."""
    Interpreter(guest).query_once("set_seed(Seed)", bindings={"Seed": _some() if seed is None else seed})


def write_seed(guest: Guest) -> None:
    """Give a guest a random generator state of its own."""
    address: int = guest.state.get(_KEY, 0)
    if address:
        guest.memory.write(address, _NUMBER.pack(_some()))
    else:
        set_seed(guest, None)


def _some() -> int:
    return _source.randint(1, _LARGEST)  # 0 means that it isn't seeded


def _kept(guest: Guest, key: tuple[Path, int, int]) -> int:
    """Give the address that another process has found, or 0."""
    found = _cache().find(_name(key))
    try:
        address = int(found.read_text("ascii")) if found is not None else 0
    except (OSError, ValueError):
        return 0
    if not 0 < address <= guest.memory.size - _NUMBER.size:
        return 0
    set_seed(guest, _PROOF)
    return address if guest.memory.read(address, _NUMBER.size) == _NUMBER.pack(_PROOF) else 0


def _search_and_keep(guest: Guest, key: tuple[Path, int, int]) -> int:
    address = _search(guest)
    if address:
        _cache().keep(_name(key), b"%d" % address)
    return address


def _cache() -> ArtifactCache:
    return ArtifactCache(cache_folder() / "trealla-seeds")


def _name(key: tuple[Path, int, int]) -> str:
    return hashlib.sha256(repr(key).encode("utf-8", "surrogateescape")).hexdigest()


def _search(guest: Guest) -> int:
    places = set.intersection(*(_places(guest, mark) for mark in _MARKS))
    set_seed(guest, _PROOF)
    proof = _draw(guest)
    for place in sorted(places):
        set_seed(guest, 1)
        before = guest.memory.read(place, _NUMBER.size)
        if before != _NUMBER.pack(1):
            continue
        guest.memory.write(place, _NUMBER.pack(_PROOF))
        if _draw(guest) == proof:
            return place
        guest.memory.write(place, before)
    return 0


def _places(guest: Guest, mark: int) -> set[int]:
    set_seed(guest, mark)
    memory = guest.memory.read(0, guest.memory.size)
    return {found.start() for found in re.finditer(re.escape(_NUMBER.pack(mark)), memory)}


def _draw(guest: Guest) -> object:
    answer = Interpreter(guest).query_once("X is random_integer, Y is random_integer")
    return dict(answer) if answer is not None else None
