"""Find files below a folder, with no way out of it.

The kernel never resolves more than one component of a guest's path: folders on the way are opened one by one relative
to the one before, never following a symlink; symlinks are read and resolved here, and ``..`` goes back to a folder that
is still open. Somebody who swaps folders and symlinks meanwhile can make a lookup fail, but not lead it outside. (The
way of Capsicum's and CloudABI's libraries; Linux' `openat2(2)` does the same in the kernel, but Python hasn't got it.)
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

import attrs

from replicate.wasi.caller import Caller
from replicate.wasi.errno import Errno, Refusal
from replicate.wasi.layout import MASK32

__all__ = ["PATH_LIMIT", "Place", "guest_path", "join", "located", "open_beneath", "supported"]

PATH_LIMIT = 4096
"""The longest path a guest can give, in bytes."""

_DEPTH_LIMIT = 256  # each level holds a host descriptor during the lookup
_SYMLINK_LIMIT = 40  # Linux' own

# O_PATH (Linux) needs no permission to read the folder, as the kernel's own lookup doesn't.
_FOLDER = getattr(os, "O_PATH", os.O_RDONLY) | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0)
# What a symlink in the way answers: ENOTDIR with O_DIRECTORY on Linux, ELOOP on macOS, EMLINK on FreeBSD.
_NOT_A_FOLDER = (errno.ENOTDIR, errno.ELOOP, errno.EMLINK)


def supported() -> bool:
    """Tell whether this system can look files up without a way out; Windows can't."""
    needed = (os.open, os.stat, os.readlink, os.unlink, os.mkdir, os.rename, os.link, os.symlink)
    return hasattr(os, "O_NOFOLLOW") and hasattr(os, "O_DIRECTORY") and all(f in os.supports_dir_fd for f in needed)


@attrs.frozen(eq=False)
class Place:
    """Be the last component of a path in the folder that holds it; valid until the lookup's ``with`` block ends."""

    parent: int
    """A host descriptor of the folder, usable only to look up in it."""
    name: bytes
    """One component; ``b"."`` is the folder itself, never ``b".."``."""
    trail: tuple[bytes, ...]
    """The components from the lookup's start to the folder."""
    must_be_folder: bool
    """The path ended with a slash or a dot."""

    @property
    def components(self) -> tuple[bytes, ...]:
        """Give the components from the lookup's start to the place itself."""
        return self.trail if self.name == b"." else (*self.trail, self.name)


def guest_path(caller: Caller, pointer: int, length: int) -> bytes:
    """Read a path from guest memory; refuse what isn't UTF-8 (EILSEQ), holds a zero byte (EINVAL) or is too long."""
    length &= MASK32
    if length > PATH_LIMIT:
        raise Refusal(Errno.NAMETOOLONG)
    path: bytes = caller.memory.read(pointer & MASK32, length)
    try:
        path.decode()
    except UnicodeDecodeError:
        raise Refusal(Errno.ILSEQ) from None
    if b"\0" in path:
        raise Refusal(Errno.INVAL)
    return path


def join(path: bytes, components: tuple[bytes, ...]) -> bytes:
    """Append components to a path relative to a preopened folder; the folder itself is ``b""``."""
    return b"/".join((path, *components) if path else components)


def _split(path: bytes) -> tuple[list[bytes], bool]:
    if not path:
        raise Refusal(Errno.NOENT)
    if path.startswith(b"/"):
        raise Refusal(Errno.PERM)
    parts = [part for part in path.split(b"/") if part]
    # A dot at the end counts: what comes before it has to be a folder that exists.
    components = [part for part in parts if part != b"."]
    if parts[-1] == b".":
        components.append(b".")
    return components, path.endswith(b"/") or parts[-1] in (b".", b"..")


def _symlink(name: bytes, parent: int) -> bytes | None:
    try:
        return os.readlink(name, dir_fd=parent)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOENT):  # not a symlink, nothing there
            return None
        raise


@contextmanager
def located(base: int, path: bytes, *, follow: bool, follow_before_slash: bool = False) -> Iterator[Place]:
    """Look `path` up below the folder open as `base`, as far as its last component, which needn't exist.

    `follow` resolves a symlink in the last component too; `follow_before_slash` does where the path ends with a slash.
    Refuses with EPERM what leads outside (an absolute path or symlink, too many ``..``), with ELOOP more than 40
    symlinks, with ENAMETOOLONG more than 256 folders. Raises `OSError` as the system does. Hazard: between the lookup
    and the use of the place its last component can become a symlink, so use it without following any.
    """
    components, must_be_folder = _split(path)
    follow = follow or (follow_before_slash and must_be_folder)
    pending = components[::-1]
    opened: list[int] = []
    trail: list[bytes] = []
    name, links = b".", 0
    try:
        while pending:
            component = pending.pop()
            if component == b".":
                continue
            if component == b"..":
                if not opened:
                    raise Refusal(Errno.PERM)
                os.close(opened.pop())
                trail.pop()
                continue
            parent = opened[-1] if opened else base
            if pending:
                target = _enter(component, parent, opened)
                if target is None:
                    trail.append(component)
                    continue
            else:
                target = _symlink(component, parent) if follow else None
                if target is None:
                    name = component
                    break
            links += 1
            if links > _SYMLINK_LIMIT:
                raise Refusal(Errno.LOOP)
            more, folder = _split(target)
            must_be_folder = must_be_folder or (folder and not pending)
            pending.extend(reversed(more))
        yield Place(opened[-1] if opened else base, name, tuple(trail), must_be_folder or name == b".")
    finally:
        for fd in opened:
            os.close(fd)


def _enter(component: bytes, parent: int, opened: list[int]) -> bytes | None:
    """Open a folder on the way and give None, or give the target of the symlink that is in its place."""
    if len(opened) >= _DEPTH_LIMIT:
        raise Refusal(Errno.NAMETOOLONG)
    try:
        opened.append(os.open(component, _FOLDER, dir_fd=parent))
    except OSError as error:
        target = _symlink(component, parent) if error.errno in _NOT_A_FOLDER else None
        if target is None:
            raise
        return target
    return None


def open_beneath(root: int, path: bytes, flags: int) -> int:
    """Open again the file at a resolved path below `root`, following no symlink at all.

    Raises `OSError`, and refuses with EPERM what leads outside, which only a forged state can contain.
    """
    components, _ = _split(path or b".")
    if b".." in components:
        raise Refusal(Errno.PERM)
    name = components.pop()
    parent = root
    try:
        for component in components:
            inner = os.open(component, _FOLDER, dir_fd=parent)
            if parent != root:
                os.close(parent)
            parent = inner
        return os.open(name, flags | os.O_NOFOLLOW, dir_fd=parent)
    finally:
        if parent != root:
            os.close(parent)
