"""All functions of WASI preview 1 with their Wasm types, bound to a configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import attrs

from replicate.errors import Finding, MemoryAccessError
from replicate.imports import HostFunction
from replicate.wasi import unstable
from replicate.wasi.caller import Caller
from replicate.wasi.calls import data, folders, metadata, opening, paths, poll, process
from replicate.wasi.errno import Errno, PassOn, Refusal, errno_of
from replicate.wasi.system import System

__all__ = ["PREVIEW1", "UNSTABLE", "Declaration", "bind"]

_FAULT = int(Errno.FAULT)
_OVERFLOW = int(Errno.OVERFLOW)
_LETTERS = {"i": "i32", "I": "i64"}


def _types(letters: str) -> tuple[str, ...]:
    return tuple(_LETTERS[letter] for letter in letters)


@attrs.frozen
class Declaration:
    """Be a WASI function and its Wasm type."""

    fn: Callable[..., int]
    params: tuple[str, ...] = attrs.field(converter=_types)
    results: tuple[str, ...] = ("i32",)


PREVIEW1 = MappingProxyType(
    {
        "args_get": Declaration(process.args_get, "ii"),
        "args_sizes_get": Declaration(process.args_sizes_get, "ii"),
        "clock_res_get": Declaration(process.clock_res_get, "ii"),
        "clock_time_get": Declaration(process.clock_time_get, "iIi"),
        "environ_get": Declaration(process.environ_get, "ii"),
        "environ_sizes_get": Declaration(process.environ_sizes_get, "ii"),
        "fd_advise": Declaration(data.fd_advise, "iIIi"),
        "fd_allocate": Declaration(data.fd_allocate, "iII"),
        "fd_close": Declaration(metadata.fd_close, "i"),
        "fd_datasync": Declaration(data.fd_datasync, "i"),
        "fd_fdstat_get": Declaration(metadata.fd_fdstat_get, "ii"),
        "fd_fdstat_set_flags": Declaration(metadata.fd_fdstat_set_flags, "ii"),
        "fd_fdstat_set_rights": Declaration(metadata.fd_fdstat_set_rights, "iII"),
        "fd_filestat_get": Declaration(metadata.fd_filestat_get, "ii"),
        "fd_filestat_set_size": Declaration(data.fd_filestat_set_size, "iI"),
        "fd_filestat_set_times": Declaration(metadata.fd_filestat_set_times, "iIIi"),
        "fd_pread": Declaration(data.fd_pread, "iiiIi"),
        "fd_prestat_dir_name": Declaration(metadata.fd_prestat_dir_name, "iii"),
        "fd_prestat_get": Declaration(metadata.fd_prestat_get, "ii"),
        "fd_pwrite": Declaration(data.fd_pwrite, "iiiIi"),
        "fd_read": Declaration(data.fd_read, "iiii"),
        "fd_readdir": Declaration(folders.fd_readdir, "iiiIi"),
        "fd_renumber": Declaration(metadata.fd_renumber, "ii"),
        "fd_seek": Declaration(data.fd_seek, "iIii"),
        "fd_sync": Declaration(data.fd_sync, "i"),
        "fd_tell": Declaration(data.fd_tell, "ii"),
        "fd_write": Declaration(data.fd_write, "iiii"),
        "path_create_directory": Declaration(paths.path_create_directory, "iii"),
        "path_filestat_get": Declaration(paths.path_filestat_get, "iiiii"),
        "path_filestat_set_times": Declaration(paths.path_filestat_set_times, "iiiiIIi"),
        "path_link": Declaration(paths.path_link, "iiiiiii"),
        "path_open": Declaration(opening.path_open, "iiiiiIIii"),
        "path_readlink": Declaration(paths.path_readlink, "iiiiii"),
        "path_remove_directory": Declaration(paths.path_remove_directory, "iii"),
        "path_rename": Declaration(paths.path_rename, "iiiiii"),
        "path_symlink": Declaration(paths.path_symlink, "iiiii"),
        "path_unlink_file": Declaration(paths.path_unlink_file, "iii"),
        "poll_oneoff": Declaration(poll.poll_oneoff, "iiii"),
        "proc_exit": Declaration(process.proc_exit, "i", ()),
        "proc_raise": Declaration(process.proc_raise, "i"),
        "random_get": Declaration(process.random_get, "ii"),
        "sched_yield": Declaration(process.sched_yield, ""),
        "sock_accept": Declaration(process.sock_accept, "iii"),
        "sock_recv": Declaration(process.sock_recv, "iiiiii"),
        "sock_send": Declaration(process.sock_send, "iiiii"),
        "sock_shutdown": Declaration(process.sock_shutdown, "ii"),
    }
)

UNSTABLE = MappingProxyType(
    {
        **{name: declared for name, declared in PREVIEW1.items() if name != "sock_accept"},
        "fd_filestat_get": Declaration(unstable.fd_filestat_get, "ii"),
        "fd_seek": Declaration(unstable.fd_seek, "iIii"),
        "path_filestat_get": Declaration(unstable.path_filestat_get, "iiiii"),
        "poll_oneoff": Declaration(unstable.poll_oneoff, "iiii"),
    }
)


def bind(
    system: System, declared: Declaration, check: Callable[[Mapping[str, Any]], tuple[Finding, ...]]
) -> HostFunction:
    """Make the host function: with the configuration, and with what it raises turned into an errno.

    `check` becomes its attribute ``check_replicable``, so that whoever has only the imports can find it. Emscripten passes
    64-bit numbers in halves unless it's told to use BigInt, so that is taken as well.
    """
    call = _guarded(system, declared.fn)
    call.check_replicable = check  # type: ignore[attr-defined]
    return HostFunction(call, params=declared.params, results=declared.results, caller=True, legalised=True)


def _guarded(system: System, fn: Callable[..., int]) -> Callable[..., int]:
    def call(caller: Caller, *args: int) -> int:
        try:
            return fn(system, caller, *args)
        except Refusal as refusal:
            return int(refusal.errno)
        except MemoryAccessError:
            return _FAULT
        except OSError as error:
            return errno_of(error)
        except OverflowError:  # a number that the system's call has no room for
            return _OVERFLOW
        except PassOn as passed:
            raise passed.error from None

    call.__name__ = call.__qualname__ = fn.__name__
    return call
