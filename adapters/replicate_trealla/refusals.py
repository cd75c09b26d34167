"""Whether the interpreter was refused memory while it ran a goal: nothing in Prolog tells that from a failing goal.

The C library notes it: where ``malloc`` fails, it sets ``errno`` to ENOMEM, a store of one constant to one address, of which
there are dozens in the module's code. That address is looked for there, and what lies at it is looked at after each request.
"""

from __future__ import annotations

import functools
import re
import struct
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from replicate.binary.cursor import Cursor
from replicate_trealla.fetch import fingerprint

if TYPE_CHECKING:
    from replicate.handles import Guest, Memory

__all__ = ["Refusals", "find_errno", "note_errno"]

_KEY = "trealla-errno"
"""Where the address lies in ``guest.state``; 0 if it isn't known."""
_ENOMEM = 48
_LEAST = 3
"""So many stores there are at least."""
# i32.const ADDRESS, i32.const 48, i32.store; or with the address as the store's offset.
_STORES = re.compile(rb"\x41(\x00|[\x80-\xff]{1,4}[\x00-\x7f])\x41\x30\x36\x02([\x80-\xff]{0,4}[\x00-\x7f])", re.DOTALL)
_NOTED = struct.pack("<I", _ENOMEM)


def find_errno(wasm: bytes) -> int:
    """Give the address of ``errno`` in a module, 0 if it can't be told."""
    found = Counter(
        _constant(store[1]) + _constant(store[2]) for store in _STORES.finditer(wasm) if 0 in (store[1][0], store[2][0])
    )
    best = found.most_common(2)
    if not best or best[0][1] < _LEAST or (len(best) > 1 and best[1][1] * 4 > best[0][1]):
        return 0
    return best[0][0]


def _constant(encoded: bytes) -> int:
    return Cursor(encoded, 0, len(encoded)).s32() & 0xFFFFFFFF if len(encoded) > 1 else encoded[0]


@functools.lru_cache(4)
def _errno_in(module: Path, size: int, changed: int) -> int:
    return find_errno(module.read_bytes())


def note_errno(guest: Guest, module: Path) -> None:
    """Find the address in a module's file and keep it in the guest's state, for all replicas."""
    guest.state[_KEY] = _errno_in(*fingerprint(module))


class Refusals:
    """Tell whether memory was refused, on the handles of one instance."""

    __slots__ = ("_address",)

    def __init__(self, guest: Guest) -> None:
        self._address: int = guest.state.get(_KEY, 0)

    def take(self, memory: Memory) -> bool:
        """Tell whether memory was refused since this was last asked."""
        if not self._address or memory.read(self._address, 4) != _NOTED:
            return False
        memory.write(self._address, bytes(4))
        return True
