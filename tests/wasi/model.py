"""What the state machine believes of a guest's descriptors, and a naive walk along paths."""

from __future__ import annotations

import os
import stat

import attrs

__all__ = ["Model", "Open", "escapes"]


@attrs.define
class Open:
    """Be one descriptor of the model: a host descriptor that is never closed, and the offset beside it."""

    fd: int
    offset: int = 0
    append: bool = False
    readable: bool = True
    writable: bool = False
    folder: bool = False


@attrs.define
class Model:
    """Be all of the model that rolls back."""

    table: dict[int, Open] = attrs.field(factory=dict)
    draws: int = 0
    clock: int = 0
    stdout: bytes = b""

    def copy(self) -> Model:
        return attrs.evolve(self, table={number: attrs.evolve(entry) for number, entry in self.table.items()})


def escapes(base: int, path: bytes, follow: bool) -> bool:
    """Tell whether a walk along `path` leaves the folder `base` before anything else stops it."""
    follow = follow or path.endswith((b"/", b"."))
    todo = [part for part in path.split(b"/") if part not in (b"", b".")]
    walked: list[bytes] = []
    for _ in range(200):
        if not todo:
            return False
        part = todo.pop(0)
        if part == b"..":
            if not walked:
                return True
            walked.pop()
            continue
        try:
            mode = os.lstat(b"/".join([*walked, part]), dir_fd=base).st_mode
        except OSError:
            return False
        if stat.S_ISLNK(mode) and (todo or follow):
            target = os.readlink(b"/".join([*walked, part]), dir_fd=base)
            todo[:0] = [piece for piece in target.split(b"/") if piece not in (b"", b".")]
            continue
        if todo and not stat.S_ISDIR(mode):
            return False
        walked.append(part)
    return False
