"""A key-value store in Wasm, ready to replicate: the smallest complete adapter, and a guest for trials and benchmarks.

    with replicate.Pool.open(KeyValueAdapter(), replicas=4) as pool:
        pool.write(lambda guest: guest.call("put", 1, 42))
        pool.read(lambda guest: KeyValue(guest)[1])             # 42

The guest is C with nothing under it, `wasm/kv.c` in the source distribution, which documents its exports one by one.
"""

from __future__ import annotations

from replicate_kv.adapter import KeyValueAdapter
from replicate_kv.facade import KeyValue

__all__ = ["KeyValue", "KeyValueAdapter"]
