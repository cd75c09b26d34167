"""The guest's source of random bytes."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

from replicate.wasi.caller import Caller, wasi_state

if TYPE_CHECKING:
    from replicate.wasi.system import System

__all__ = ["draw", "reseed", "seed_key"]


def seed_key(seed: int) -> bytes:
    """Turn a seed into the generator's first key."""
    return hashlib.sha256(b"wasi seed %d" % seed).digest()


def draw(system: System, caller: Caller, length: int) -> bytes:
    """Give `length` random bytes: the system's, or with a seed the next ones of the generator in the guest's state.

    The generator is SHAKE-256 over key and draw number: its whole state is 32 bytes and a count, a draw repeats after
    a roll back, and no draw tells what the next one is.
    """
    if system.seed_key is None:
        return os.urandom(length)
    state = wasi_state(caller)
    generator = state.get("random")
    if generator is None:
        generator = state["random"] = {"key": system.seed_key, "draws": 0}
    material = generator["key"] + generator["draws"].to_bytes(8, "little")
    generator["draws"] += 1
    return hashlib.shake_256(material).digest(length)


def reseed(system: System, caller: Caller, entropy: bytes) -> None:
    """Mix `entropy` into a seeded generator: guests that were equal draw different bytes from now on."""
    if system.seed_key is None:
        return
    state = wasi_state(caller)
    generator = state.get("random") or {"key": system.seed_key, "draws": 0}
    material = b"wasi reseed" + generator["key"] + generator["draws"].to_bytes(8, "little") + entropy
    state["random"] = {"key": hashlib.sha256(material).digest(), "draws": 0}
