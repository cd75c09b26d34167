"""Modules that an engine has compiled and somebody still uses, so that a binary given twice is compiled once."""

from __future__ import annotations

import hashlib
import threading
import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from replicate.interfaces import Module

__all__ = ["KnownModules"]

M = TypeVar("M", bound="Module")


class KnownModules(Generic[M]):
    """Find an engine's modules by their binaries, from any thread; who is used by nobody is forgotten."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._modules: weakref.WeakValueDictionary[str, M] = weakref.WeakValueDictionary()

    def find(self, wasm: bytes) -> M | None:
        """Give the module that was compiled of this binary, if it's known."""
        digest = hashlib.sha256(wasm).hexdigest()
        with self._lock:
            return self._modules.get(digest)

    def keep(self, module: M) -> M:
        """Give the module that is known for the same binary, which is this one unless another thread was faster."""
        with self._lock:
            return self._modules.setdefault(module.info.digest, module)

    def __iter__(self) -> Iterator[M]:
        with self._lock:
            return iter(list(self._modules.values()))
