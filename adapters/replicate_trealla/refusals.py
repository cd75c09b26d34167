"""Where the interpreter notes that it was refused memory: nothing in Prolog tells that from a failing goal.

The C library notes it: where ``malloc`` fails, it sets ``errno`` to ENOMEM, a store of one constant to one address, of which
there are dozens in the module's code. That address is looked for here, and what lies at it is looked at after each request.
"""

from __future__ import annotations

import re
from collections import Counter

from replicate.binary.cursor import Cursor

__all__ = ["ENOMEM", "find_errno"]

ENOMEM = 48
_LEAST = 3
"""So many stores there are at least."""
# i32.const ADDRESS, i32.const 48, i32.store; or with the address as the store's offset.
_STORES = re.compile(rb"\x41(\x00|[\x80-\xff]{1,4}[\x00-\x7f])\x41\x30\x36\x02([\x80-\xff]{0,4}[\x00-\x7f])", re.DOTALL)


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
