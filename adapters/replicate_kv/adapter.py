"""What the key-value guest needs around it: its module, and random numbers that differ between replicas."""

from __future__ import annotations

import secrets
from importlib import resources
from typing import TYPE_CHECKING, ClassVar

from replicate.adapter import Adapter

if TYPE_CHECKING:
    from replicate.handles import Guest

__all__ = ["KeyValueAdapter"]


class KeyValueAdapter(Adapter):
    """Serve the key-value guest. It imports nothing, and its ``_initialize`` does all the preparing there is."""

    name: ClassVar[str] = "kv"

    def source(self) -> bytes:
        """Give the module that this package carries."""
        return resources.files("replicate_kv").joinpath("kv.wasm").read_bytes()

    def reseed(self, guest: Guest) -> None:
        """Seed the guest's random generator (its export ``draw``) from the operating system."""
        guest.call("seed", secrets.randbits(64))
