"""The Linux calls that copy-on-write replication is made of, each declared once.

All of them are short, and are made with the interpreter lock held (``ctypes.PyDLL``): releasing it means having to get it
back, which takes up to a switch interval (5 ms) while another Python thread is busy. Long copies release it.

Constants are those of the generic Linux ABI: mmap(2), madvise(2), ioctl_pagemap_scan(2) (Linux 6.7), and
Documentation/admin-guide/mm/pagemap.rst for ``/proc/self/pagemap``.
"""

from __future__ import annotations

import array
import ctypes
import errno
import itertools
import mmap
import os
import sys
import threading
from ctypes import c_int, c_long, c_size_t, c_ulong, c_void_p
from typing import Any

__all__ = [
    "PAGE_SIZE",
    "PageMap",
    "advise_no_fork",
    "available",
    "copy",
    "copy_long",
    "differs",
    "drop",
    "map_private",
    "map_readable",
    "map_shared",
    "populate_write",
    "unmap",
    "zeros",
]

PAGE_SIZE = mmap.PAGESIZE

_PROT_READ, _PROT_READ_WRITE = 0x1, 0x1 | 0x2
_MAP_SHARED, _MAP_PRIVATE, _MAP_FIXED, _MAP_NORESERVE = 0x01, 0x02, 0x10, 0x4000
_MADV_DONTNEED, _MADV_DONTFORK, _MADV_POPULATE_WRITE = 4, 10, 23

_IS_FILE, _IS_PRESENT, _IS_SWAPPED, _IS_ZERO = 1 << 2, 1 << 3, 1 << 4, 1 << 5
"""PAGE_IS_FILE, PAGE_IS_PRESENT, PAGE_IS_SWAPPED, PAGE_IS_PFNZERO."""
_BIT_PRESENT, _BIT_SWAPPED, _BIT_FILE_OR_SHARED = 1 << 63, 1 << 62, 1 << 61
_REGIONS = 512


class _ScanArguments(ctypes.Structure):
    """struct pm_scan_arg of linux/fs.h."""

    _fields_ = [
        (name, ctypes.c_uint64)
        for name in (
            *("size", "flags", "start", "end", "walk_end", "vec", "vec_len", "max_pages"),
            *("category_inverted", "category_mask", "category_anyof_mask", "return_mask"),
        )
    ]


# _IOWR('f', 16, struct pm_scan_arg)
_PAGEMAP_SCAN = (3 << 30) | (ctypes.sizeof(_ScanArguments) << 16) | (ord("f") << 8) | 16

available = sys.platform == "linux" and hasattr(os, "memfd_create")
"""Whether this is a Linux with what is needed to try."""

if available:
    import resource

    _libc: Any = ctypes.PyDLL(None, use_errno=True)
    _mmap = _libc.mmap
    _mmap.restype = c_void_p
    _mmap.argtypes = [c_void_p, c_size_t, c_int, c_int, c_int, c_long]
    _munmap = _libc.munmap
    _munmap.argtypes = [c_void_p, c_size_t]
    _madvise = _libc.madvise
    _madvise.argtypes = [c_void_p, c_size_t, c_int]
    _ioctl = _libc.ioctl
    _ioctl.argtypes = [c_int, c_ulong, c_void_p]
    _memcpy = _libc.memcpy
    _memcpy.restype = c_void_p
    _memcpy.argtypes = [c_void_p, c_void_p, c_size_t]
    _memcmp = _libc.memcmp
    _memcmp.argtypes = [c_void_p, c_void_p, c_size_t]

_FAILED = c_void_p(-1).value


def _raise(call: str) -> None:
    number = ctypes.get_errno()
    if number == errno.ENOMEM:
        raise MemoryError(f"{call}: {os.strerror(number)}")
    raise OSError(number, f"{call}: {os.strerror(number)}")


def map_shared(file: int, size: int) -> int:
    """Map a file, writes going to it, and give the address."""
    address = _mmap(None, size, _PROT_READ_WRITE, _MAP_SHARED, file, 0)
    if address == _FAILED:
        _raise("mmap")
    result: int = address
    return result


def map_readable(file: int, size: int) -> int:
    """Map a file to read what others write to it, and give the address."""
    address = _mmap(None, size, _PROT_READ, _MAP_SHARED, file, 0)
    if address == _FAILED:
        _raise("mmap")
    result: int = address
    return result


def map_private(address: int, size: int, file: int, offset: int) -> None:
    """Map a file copy-on-write over what is at `address`. Nothing is reserved for the copies (MAP_NORESERVE)."""
    flags = _MAP_PRIVATE | _MAP_FIXED | _MAP_NORESERVE
    if _mmap(address, size, _PROT_READ_WRITE, flags, file, offset) == _FAILED:
        _raise("mmap")


def unmap(address: int, size: int) -> None:
    """Remove a mapping."""
    if _munmap(address, size):
        _raise("munmap")


def drop(address: int, size: int) -> None:
    """Throw private copies away: the mapping shows the file again."""
    if _madvise(address, size, _MADV_DONTNEED):
        _raise("madvise(MADV_DONTNEED)")


def populate_write(address: int, size: int) -> None:
    """Make private copies of pages now, as a write would, leaving their content (Linux 5.14)."""
    if _madvise(address, size, _MADV_POPULATE_WRITE):
        _raise("madvise(MADV_POPULATE_WRITE)")


def advise_no_fork(address: int, size: int) -> None:
    """Keep a mapping out of forked children, who could otherwise write to what it shares."""
    if _madvise(address, size, _MADV_DONTFORK):
        _raise("madvise(MADV_DONTFORK)")


def copy(target: int, source: int, size: int) -> None:
    """Copy a few pages, keeping the interpreter lock."""
    _memcpy(target, source, size)


copy_long = ctypes.memmove
"""Copy much, releasing the interpreter lock meanwhile."""


_zeros = ctypes.create_string_buffer(1 << 16)


def zeros() -> int:
    """Give the address of 64 KiB of zeros."""
    return ctypes.addressof(_zeros)


def differs(one: int, other: int, size: int) -> bool:
    """Tell whether two ranges differ."""
    return bool(_memcmp(one, other, size))


class PageMap:
    """List the private pages of mappings of this process: those that were written, and are in memory or swapped out.

    Asks PAGEMAP_SCAN, or reads ``/proc/self/pagemap`` where the kernel doesn't have it. Either needs no privileges. Costs
    about 4 us and 30 ns for every page that is mapped. Hazard: the file belongs to the process that opened it, so a forked
    child must open its own.
    """

    def __init__(self, *, scan: bool = True) -> None:
        self._file = os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC)
        self._local = threading.local()
        self.scans = scan and self._can_scan()
        """Whether PAGEMAP_SCAN is used."""
        self._changes = itertools.count()
        self.counts_faults = self._faults_are_counted()
        """Whether the kernel counts page faults."""

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def faults(self) -> int:
        """Count this process's page faults so far, those of its threads that have ended too (getrusage(2)).

        Where they aren't counted, every look gives another number.
        """
        if not self.counts_faults:
            return next(self._changes)
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return usage.ru_minflt + usage.ru_majflt

    def _faults_are_counted(self) -> bool:
        self.counts_faults = True
        with mmap.mmap(-1, 4 * PAGE_SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as room:
            for page in range(4):
                before = self.faults()
                room[page * PAGE_SIZE] = 1
                if self.faults() == before:
                    return False
        return True

    def _can_scan(self) -> bool:
        try:
            self._scan(0, 0)
        except OSError:
            return False
        return True

    def private(self, start: int, end: int) -> list[tuple[int, int]]:
        """List the ranges of private pages between two page-aligned addresses, in order.

        In an anonymous mapping those are all pages that were touched, except by reading zeros.
        """
        return self._scan(start, end) if self.scans else self._read(start, end)

    def _buffer(self) -> tuple[_ScanArguments, Any, memoryview]:
        local = self._local
        try:
            kept: tuple[_ScanArguments, Any, memoryview] = local.kept
        except AttributeError:
            vector = (ctypes.c_uint64 * (3 * _REGIONS))()
            arguments = _ScanArguments(
                size=ctypes.sizeof(_ScanArguments),
                vec=ctypes.addressof(vector),
                vec_len=_REGIONS,
                category_inverted=_IS_FILE,
                category_mask=_IS_FILE,
                category_anyof_mask=_IS_PRESENT | _IS_SWAPPED,
                return_mask=_IS_PRESENT | _IS_SWAPPED | _IS_ZERO,
            )
            kept = local.kept = (arguments, vector, memoryview(vector).cast("B").cast("Q"))
        return kept

    def _scan(self, start: int, end: int) -> list[tuple[int, int]]:
        arguments, _, regions = self._buffer()
        found: list[tuple[int, int]] = []
        arguments.start, arguments.end = start, end
        where = ctypes.addressof(arguments)
        while True:
            count = _ioctl(self._file, _PAGEMAP_SCAN, where)
            if count < 0:
                _raise("ioctl(PAGEMAP_SCAN)")
            values = regions[: 3 * count].tolist()
            for first, last, category in zip(values[::3], values[1::3], values[2::3], strict=True):
                if category & _IS_ZERO:
                    continue
                # Present and swapped pages come as regions of their own, side by side.
                if found and found[-1][1] == first:
                    found[-1] = (found[-1][0], last)
                else:
                    found.append((first, last))
            # A full buffer ends the walk early: stopping here was a bug elsewhere (wasmtime issue 14357).
            if arguments.walk_end >= end:
                return found
            arguments.start = arguments.walk_end

    def _read(self, start: int, end: int) -> list[tuple[int, int]]:
        found: list[tuple[int, int]] = []
        chunk = 1 << 20
        for at in range(start, end, chunk * PAGE_SIZE // 8):
            stop = min(end, at + chunk * PAGE_SIZE // 8)
            entries = array.array("Q", os.pread(self._file, (stop - at) // PAGE_SIZE * 8, at // PAGE_SIZE * 8))
            if len(entries) != (stop - at) // PAGE_SIZE:
                raise OSError(errno.EIO, "/proc/self/pagemap gave less than asked for")
            for position, entry in enumerate(entries):
                if entry >= _BIT_SWAPPED and not entry & _BIT_FILE_OR_SHARED:
                    first = at + position * PAGE_SIZE
                    if found and found[-1][1] == first:
                        found[-1] = (found[-1][0], first + PAGE_SIZE)
                    else:
                        found.append((first, first + PAGE_SIZE))
        return found
