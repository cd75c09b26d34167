"""The guest's open descriptors, as plain data in its replicated state.

A descriptor remembers everything that WASI lets a guest observe about it, and enough to open its file again in another
instance. No host descriptor is in it: `replicate.wasi.hostfiles` keeps those, per instance.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypedDict, cast

from replicate.wasi import rights
from replicate.wasi.caller import STATE_KEY, Caller, wasi_state
from replicate.wasi.errno import Errno, Refusal
from replicate.wasi.layout import FILETYPE_CHARACTER_DEVICE, FILETYPE_DIRECTORY, FILETYPE_UNKNOWN, MASK32

if TYPE_CHECKING:
    from replicate.wasi.system import System

__all__ = [
    "DIRECTORY",
    "FILE",
    "PREOPEN",
    "STDERR",
    "STDIN",
    "STDOUT",
    "STREAM",
    "Descriptor",
    "Identity",
    "descriptor",
    "descriptor_with",
    "file_with",
    "free_number",
    "install",
    "known_table",
    "refused",
    "remove",
    "require",
    "table",
]

# -- kinds of descriptors ---------------------------------------------------------------------------------------------

STDIN: Final = "stdin"
STDOUT: Final = "stdout"
STDERR: Final = "stderr"
PREOPEN: Final = "preopen"
DIRECTORY: Final = "directory"
FILE: Final = "file"
STREAM: Final = "stream"  # a pipe or device: what has been read from it is gone, so it can't be replicated


class Identity(NamedTuple):
    """Say which host file a descriptor stands for and how it was opened.

    While an instance keeps the file open its inode number can't be given to another file. So equal identities mean one
    and the same file, whatever was unlinked, renamed or rolled back in between, and no counter is needed that would
    make two equal runs differ. The folder's own identity tells whether the other numbers mean anything here: a snapshot
    restored over another copy of the folder goes by path.

    Hazard: a write that closes a file, unlinks it, creates another one under its name, and rolls back, gets the new file
    if the file system has given it the old one's number. The unlinking isn't undone either way.
    """

    root_device: int
    root_inode: int
    device: int
    inode: int
    sync_flags: int
    """`fdflags` that can't change after opening."""
    readable: bool
    writable: bool


class _Always(TypedDict):
    kind: str
    filetype: int
    flags: int
    rights: int
    inheriting: int


class Descriptor(_Always, total=False):
    """Be one open descriptor. At run time it's a plain dict of plain data."""

    offset: int
    """Where the next read or write starts, in bytes. Of `stdin`, `file` and `stream`."""
    preopen: str
    """The guest's name of the preopened folder it is in. Of all but the standard streams."""
    path: bytes
    """Relative to the preopened folder, symlinks resolved. Of `directory`, `file` and `stream`."""
    identity: tuple[Any, ...]
    """An `Identity` as a plain tuple. Of `directory`, `file` and `stream`."""
    listing: bytes
    """The folder's entries as `fd_readdir` hands them out, taken when the guest last started over."""


def known_table(state: dict[str, Any]) -> list[Descriptor | None]:
    """Give the descriptors in a WASI state; none before the guest's first use of one."""
    return cast("list[Descriptor | None]", state.get("descriptors", []))


def table(system: System, caller: Caller) -> list[Descriptor | None]:
    """Give the guest's descriptors by number, made as the configuration says on first use."""
    state = wasi_state(caller)
    try:
        return cast("list[Descriptor | None]", state["descriptors"])
    except KeyError:
        made = state["descriptors"] = _initial(system)
        return made


def _initial(system: System) -> list[Descriptor | None]:
    terminal = FILETYPE_CHARACTER_DEVICE if system.line_buffered else FILETYPE_UNKNOWN
    descriptors: list[Descriptor | None] = [
        Descriptor(kind=STDIN, filetype=FILETYPE_UNKNOWN, flags=0, rights=rights.STDIN, inheriting=0, offset=0),
        Descriptor(kind=STDOUT, filetype=terminal, flags=0, rights=rights.STDOUT, inheriting=0),
        Descriptor(kind=STDERR, filetype=terminal, flags=0, rights=rights.STDOUT, inheriting=0),
    ]
    for guest, mask in system.granted.items():
        descriptors.append(
            Descriptor(
                kind=PREOPEN,
                filetype=FILETYPE_DIRECTORY,
                flags=0,
                rights=rights.DIRECTORY & mask,
                # A C library asks for no more than this, so a read-only folder says all: opening for writing then fails.
                inheriting=rights.DIRECTORY | rights.FILE,
                preopen=guest,
            )
        )
    return descriptors


def descriptor(system: System, caller: Caller, fd: int) -> Descriptor:
    """Give descriptor `fd`; refuse with EBADF if it isn't open."""
    found: Descriptor | None
    try:
        found = caller.state[STATE_KEY]["descriptors"][fd & MASK32]
    except KeyError:  # the guest's first use of any
        found = dict(enumerate(table(system, caller))).get(fd & MASK32)
    except IndexError:
        found = None
    if found is None:
        raise Refusal(Errno.BADF)
    return found


def descriptor_with(system: System, caller: Caller, fd: int, needed: int) -> Descriptor:
    """Give descriptor `fd` if it has all rights in `needed`; refuse with EBADF or as `require` does."""
    return require(system, descriptor(system, caller, fd), needed)


def file_with(system: System, caller: Caller, fd: int, needed: int) -> Descriptor:
    """Give descriptor `fd` like `descriptor_with`; a folder is refused with EBADF."""
    found = descriptor(system, caller, fd)
    if found["filetype"] == FILETYPE_DIRECTORY:
        raise Refusal(Errno.BADF)
    return require(system, found, needed)


def require(system: System, found: Descriptor, needed: int) -> Descriptor:
    """Give `found` back if it has all rights in `needed`; refuse with ENOTCAPABLE otherwise.

    Today's configuration counts too, so that a state from elsewhere can't widen it: a folder that is read-only answers
    EROFS to what would change it.
    """
    if needed & ~found["rights"]:
        raise refused(system, found, needed)
    folder = found.get("preopen")
    if folder is not None and needed & ~system.granted.get(folder, 0):
        raise refused(system, found, needed)
    return found


def refused(system: System, found: Descriptor, needed: int) -> Refusal:
    """Make the refusal of an operation that needs rights which `found` lacks."""
    folder = found.get("preopen")
    if folder is not None and needed & rights.MUTATING & ~system.granted.get(folder, 0):
        return Refusal(Errno.ROFS)
    return Refusal(Errno.NOTCAPABLE)


def free_number(system: System, caller: Caller) -> int:
    """Give the lowest number that isn't open; refuse with EMFILE when all are."""
    descriptors = table(system, caller)
    for number, taken in enumerate(descriptors):
        if taken is None:
            return number
    if len(descriptors) >= system.descriptor_limit:
        raise Refusal(Errno.MFILE)
    return len(descriptors)


def install(descriptors: list[Descriptor | None], number: int, made: Descriptor) -> None:
    """Open `made` as `number`, which is free, in the table or just past its end."""
    if number == len(descriptors):
        descriptors.append(made)
    else:
        descriptors[number] = made


def remove(descriptors: list[Descriptor | None], number: int) -> None:
    """Close `number`; no trace of it is left, so that states which are equal to the guest are equal."""
    descriptors[number] = None
    while descriptors and descriptors[-1] is None:
        descriptors.pop()
