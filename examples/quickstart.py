"""Three calls: write, read, and a write that fails.

The guest is the key-value store that comes with the library. Any other module is opened by its path:
``Pool.open("guest.wasm")``.
"""

from __future__ import annotations

import replicate
from replicate_kv import KeyValueAdapter

with replicate.Pool.open(KeyValueAdapter(), replicas=2) as pool:
    # A write runs on the leader and commits when it returns: every read that starts later sees it.
    pool.write(lambda guest: guest.call("put", 1, 42))
    print("read:", pool.read(lambda guest: guest.call("get", 1)))

    # Whatever ends a write early undoes it. Here the guest traps after it has stored -1.
    try:
        pool.write(lambda guest: guest.call("put_then_trap", 1, -1))
    except replicate.Trap as error:
        print("the write failed:", error.code.value)
    print("read:", pool.read(lambda guest: guest.call("get", 1)))

    # The same as blocks: what is raised inside the `with` rolls the write back too.
    try:
        with pool.writing() as guest:
            guest.call("put", 1, 7)
            raise ValueError("seven isn't allowed")
    except ValueError as error:
        print("the write failed:", error)
    with pool.reading() as guest:
        print("read:", guest.call("get", 1), "at version", pool.version)
