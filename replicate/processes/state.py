"""The host-side state of an instance in a worker, seen from the parent.

The values are the worker's. What the parent changes goes along with its next request; a list or dict that was handed out is
looked at again then, since it may have been changed in place. What isn't plain data stays here, for the commit to refuse.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping
from typing import Any

from replicate.errors import StateError
from replicate.plaindata import copy_plain, encode_plain

__all__ = ["RemoteState"]


class RemoteState(MutableMapping[str, Any]):
    """Map keys to values in the worker; `ask` sends a request there."""

    __slots__ = ("_ask", "_lent", "_odd", "_writes")

    def __init__(self, ask: Callable[..., Any]) -> None:
        self._ask = ask
        self._writes: dict[str, tuple[Any, ...]] = {}
        self._lent: dict[str, tuple[Any, bytes]] = {}
        self._odd: dict[str, Any] = {}

    def writes(self) -> list[tuple[Any, ...]] | None:
        """Give what the worker doesn't know of yet, which it's told now."""
        if self._lent:
            for key, (value, known) in list(self._lent.items()):
                try:
                    now = encode_plain(value)
                except StateError:
                    self._keep_odd(key, value)
                    continue
                if now != known:
                    self._lent[key] = (value, now)
                    self._writes[key] = (value,)
        if not self._writes:
            return None
        told = [(key, *value) for key, value in self._writes.items()]
        self._writes.clear()
        return told

    def put_back(self, writes: list[tuple[Any, ...]] | None) -> None:
        """Note that the worker wasn't told after all."""
        for key, *value in writes or ():
            self._writes[key] = tuple(value)

    def forget(self) -> None:
        """Forget what this side knows: the worker's state was replaced."""
        self._writes.clear()
        self._lent.clear()
        self._odd.clear()

    def settle(self) -> bool:
        """Take no notice of changes to what was handed out, from now on; tell whether all is plain data."""
        self._lent.clear()
        return not self._odd

    @property
    def is_pending(self) -> bool:
        """Tell whether the worker has something to be told."""
        return bool(self._writes or self._lent)

    def check(self) -> None:
        """Raise `StateError` for what isn't plain data."""
        for key, value in self._odd.items():
            copy_plain({key: value})
            # It is by now: it was changed in place.
            self._writes[key] = (value,)
        self._odd.clear()

    def _keep_odd(self, key: str, value: Any) -> None:
        self._lent.pop(key, None)
        self._writes.pop(key, None)
        self._odd[key] = value

    def __getitem__(self, key: str) -> Any:
        if key in self._odd:
            return self._odd[key]
        lent = self._lent.get(key)
        found = self._ask("state_get", key)
        if not found:
            self._lent.pop(key, None)
            raise KeyError(key)
        value = found[0]
        if isinstance(value, (dict, list)):
            known = encode_plain(value)
            if lent is not None and lent[1] == known:
                return lent[0]
            self._lent[key] = (value, known)
        return value

    def __setitem__(self, key: str, value: Any) -> None:
        self._odd.pop(key, None)
        self._lent.pop(key, None)
        try:
            copy_plain({key: value})
        except StateError:
            self._keep_odd(key, value)
            return
        self._writes[key] = (value,)
        if isinstance(value, (dict, list)):
            self._lent[key] = (value, encode_plain(value))

    def __delitem__(self, key: str) -> None:
        if self._odd.pop(key, None) is None and key not in list(self):
            raise KeyError(key)
        self._lent.pop(key, None)
        self._writes[key] = ()

    def __iter__(self) -> Iterator[str]:
        keys = dict.fromkeys(self._ask("state_keys"))
        keys.update(dict.fromkeys(self._odd))
        return iter(list(keys))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return repr(dict(self))
