"""WASI's error numbers, and how the operating system's errors become them."""

from __future__ import annotations

import enum
import errno as os_errno

__all__ = ["Errno", "PassOn", "Refusal", "errno_of"]


class Errno(enum.IntEnum):
    """Number the reasons a WASI function can give for failing (`errno` of WASI preview 1)."""

    SUCCESS = 0
    TOOBIG = 1
    ACCES = 2
    ADDRINUSE = 3
    ADDRNOTAVAIL = 4
    AFNOSUPPORT = 5
    AGAIN = 6
    ALREADY = 7
    BADF = 8
    BADMSG = 9
    BUSY = 10
    CANCELED = 11
    CHILD = 12
    CONNABORTED = 13
    CONNREFUSED = 14
    CONNRESET = 15
    DEADLK = 16
    DESTADDRREQ = 17
    DOM = 18
    DQUOT = 19
    EXIST = 20
    FAULT = 21
    FBIG = 22
    HOSTUNREACH = 23
    IDRM = 24
    ILSEQ = 25
    INPROGRESS = 26
    INTR = 27
    INVAL = 28
    IO = 29
    ISCONN = 30
    ISDIR = 31
    LOOP = 32
    MFILE = 33
    MLINK = 34
    MSGSIZE = 35
    MULTIHOP = 36
    NAMETOOLONG = 37
    NETDOWN = 38
    NETRESET = 39
    NETUNREACH = 40
    NFILE = 41
    NOBUFS = 42
    NODEV = 43
    NOENT = 44
    NOEXEC = 45
    NOLCK = 46
    NOLINK = 47
    NOMEM = 48
    NOMSG = 49
    NOPROTOOPT = 50
    NOSPC = 51
    NOSYS = 52
    NOTCONN = 53
    NOTDIR = 54
    NOTEMPTY = 55
    NOTRECOVERABLE = 56
    NOTSOCK = 57
    NOTSUP = 58
    NOTTY = 59
    NXIO = 60
    OVERFLOW = 61
    OWNERDEAD = 62
    PERM = 63
    PIPE = 64
    PROTO = 65
    PROTONOSUPPORT = 66
    PROTOTYPE = 67
    RANGE = 68
    ROFS = 69
    SPIPE = 70
    SRCH = 71
    STALE = 72
    TIMEDOUT = 73
    TXTBSY = 74
    XDEV = 75
    NOTCAPABLE = 76


class Refusal(Exception):
    """Carry an errno from where it is found to the guest's call; never leaves this package."""

    def __init__(self, errno: Errno) -> None:
        super().__init__(errno.name)
        self.errno = errno


class PassOn(Exception):
    """Carry an exception of the user's own code past the translation into an errno; never leaves this package."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


# The operating system's names are WASI's with an E in front, except for E2BIG.
_FROM_OS = {
    getattr(os_errno, "E" + member.name): int(member) for member in Errno if hasattr(os_errno, "E" + member.name)
}
_FROM_OS[os_errno.E2BIG] = int(Errno.TOOBIG)
for _alias, _member in (("EOPNOTSUPP", Errno.NOTSUP), ("EWOULDBLOCK", Errno.AGAIN), ("EDEADLOCK", Errno.DEADLK)):
    if hasattr(os_errno, _alias):
        _FROM_OS.setdefault(getattr(os_errno, _alias), int(_member))


def errno_of(error: OSError) -> int:
    """Translate an `OSError`; what WASI has no number for becomes EIO."""
    return _FROM_OS.get(error.errno or 0, int(Errno.IO))
