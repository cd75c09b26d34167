"""`Wasi`: what a guest gets of the world outside."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs

from replicate.errors import Finding, WasiError
from replicate.imports import HostFunction
from replicate.wasi import output, rights
from replicate.wasi.caller import Caller, wasi_state
from replicate.wasi.clocks import Clock, SystemClock
from replicate.wasi.descriptors import DIRECTORY, STDERR, STDOUT, STREAM, Descriptor, known_table
from replicate.wasi.entropy import reseed, seed_key
from replicate.wasi.errno import Refusal
from replicate.wasi.hostfiles import Roots, reopen
from replicate.wasi.output import Output, OutputMode
from replicate.wasi.paths import supported
from replicate.wasi.surface import PREVIEW1, UNSTABLE, bind
from replicate.wasi.system import System

__all__ = ["Preopen", "Wasi", "preopens_of"]


def _path(given: str | os.PathLike[str]) -> str:
    if not isinstance(given, (str, os.PathLike)):
        raise WasiError(f"a preopened folder is {given!r:.80}; give its path")
    return os.fspath(given)


@attrs.frozen
class Preopen:
    """Give a guest the folder `host` under the name `guest`.

    The guest gets at nothing outside it: not by ``..``, absolute paths or symlinks, not by races either. What it may do
    inside is what the process may, without writing, renaming, unlinking and the like if `read_only`.

    Hazards: what files contain isn't the guest's state. A write to a file isn't undone when the guest rolls back, and
    every replica sees it at once. Replicas open the leader's files again by their paths, so all must have the same
    folder.
    """

    host: str = attrs.field(converter=_path)
    guest: str
    read_only: bool = attrs.field(default=False, kw_only=True)


def preopens_of(given: Mapping[str, str | os.PathLike[str]] | Iterable[Preopen]) -> tuple[Preopen, ...]:
    """Give the folders of an option that takes a mapping or a list of them; raise `WasiError` for what is neither."""
    if isinstance(given, Mapping):
        return tuple(Preopen(host, guest) for guest, host in given.items())
    if isinstance(given, (str, bytes, os.PathLike)) or not isinstance(given, Iterable):
        raise WasiError(
            f"preopens is {given!r:.80}; give a mapping of the guest's names to folders, such as {{'/data': {given!r:.80}}}, "
            "or a list of Preopen"
        )
    folders = tuple(given)
    strange = next((each for each in folders if not isinstance(each, Preopen)), None)
    if strange is not None:
        raise WasiError(
            f"preopens has {strange!r:.80} in it; give Preopen(host, guest), or a mapping of names to folders"
        )
    return folders


def _strings(given: Sequence[str]) -> tuple[str, ...]:
    if isinstance(given, (str, bytes)):
        raise WasiError(f"args is a sequence of strings, not one: give [{given!r}]")
    if not isinstance(given, Iterable):
        raise WasiError(f"args is {given!r:.80}; give a sequence of strings")
    return tuple(given)


def _dict(given: Mapping[str, str]) -> dict[str, str]:
    if not isinstance(given, Mapping):
        raise WasiError(f"env is {given!r:.80}; give a mapping of strings to strings, such as os.environ")
    return dict(given)


def _clock(given: Clock | str) -> Clock:
    if isinstance(given, Clock):
        return given
    if given == "system":
        return SystemClock()
    raise WasiError(f"clock is {given!r}; give 'system', a FixedClock or a Clock of your own")


@attrs.frozen(kw_only=True)
class Wasi:
    """Say what a guest gets of the world outside, as WASI preview 1.

    One value serves any number of guests, on any number of threads: all that a guest can observe and that lasts (open
    descriptors, offsets and flags, captured output, a seeded generator, a fixed clock) is in that guest's `state` under
    ``"wasi"``, and commits, rolls back and replicates with it. A guest's first use of its part puts it there.

    `args` and `env` are what the guest finds as such; `stdin` is all it can read from its standard input.

    `preopens` maps the guest's names of folders to folders, or is a list of `Preopen`. Needs a system that can look
    files up relative to an open folder (Linux, macOS; not Windows).

    `seed` makes random bytes repeat, see `reseed`; without one they are the system's. `clock` is ``"system"``,
    `FixedClock` or a `Clock` of your own.

    `stdout` and `stderr` are ``"capture"`` (into the state: the last `capture_limit` bytes of each, older ones are
    dropped and counted), ``"inherit"`` (the Python process's own), ``"discard"``, or a function that gets the bytes of
    each write. What is captured rolls back with the guest; inherited output and functions get theirs at once, from
    writes that fail later and from every replica, and it isn't undone. What such a function raises ends the guest's
    call. With `line_buffered` both look like terminals, so that C libraries don't hold output back in the guest's
    memory.

    `max_sleep` is the longest that one `poll_oneoff` sleeps, in seconds; a guest that asks for more wakes early. A
    sleep can't be interrupted, so a deadline can be missed by this much. `descriptor_limit` bounds the open
    descriptors.

    Raises `WasiError` for what can't be honoured.
    """

    args: tuple[str, ...] = attrs.field(default=(), converter=_strings)
    env: Mapping[str, str] = attrs.field(factory=dict, converter=_dict)
    stdin: bytes = b""
    preopens: tuple[Preopen, ...] = attrs.field(default=(), converter=preopens_of)
    seed: int | None = None
    clock: Clock = attrs.field(factory=SystemClock, converter=_clock)
    stdout_mode: OutputMode = attrs.field(default="capture", alias="stdout")
    stderr_mode: OutputMode = attrs.field(default="capture", alias="stderr")
    capture_limit: int = 1 << 20
    line_buffered: bool = True
    max_sleep: float = 1.0
    descriptor_limit: int = 1024
    _system: System = attrs.field(init=False, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "_system", _system(self))

    def __reduce__(self) -> tuple[Any, ...]:
        fields = {field.alias: getattr(self, field.name) for field in attrs.fields(Wasi) if field.init}
        return _make, (fields,)

    def imports(self) -> dict[str, dict[str, HostFunction]]:
        """Give the host functions, for modules of WASI preview 1 and of its forerunner `wasi_unstable`.

        Each has this configuration's `check_replicable` as an attribute.
        """
        apis = {"wasi_snapshot_preview1": PREVIEW1, "wasi_unstable": UNSTABLE}
        check = self.check_replicable
        return {
            api: {name: bind(self._system, declared, check) for name, declared in functions.items()}
            for api, functions in apis.items()
        }

    def stdout(self, guest: Caller) -> bytes:
        """Give what the guest has written to its captured standard output, or the last `capture_limit` bytes of it."""
        return output.captured(guest.state.get("wasi", {}), STDOUT, self.capture_limit)[0]

    def stderr(self, guest: Caller) -> bytes:
        """Give what the guest has written to its captured standard error, or the last `capture_limit` bytes of it."""
        return output.captured(guest.state.get("wasi", {}), STDERR, self.capture_limit)[0]

    def take_output(self, guest: Caller) -> Output:
        """Give the guest's captured output and empty it.

        Hazard: taking it inside a write that fails later puts it back; and a read's output is gone with the read.
        """
        if "wasi" not in guest.state:
            return Output(b"", b"")
        return output.take(wasi_state(guest), self.capture_limit)

    def reseed(self, guest: Caller, entropy: bytes) -> None:
        """Mix bytes into a seeded guest's generator, so that guests that were equal draw different bytes from now on.

        Without a seed there's nothing to do: every draw is the system's.
        """
        reseed(self._system, guest, entropy)

    def check_replicable(self, state: Mapping[str, Any]) -> tuple[Finding, ...]:
        """Say which open descriptors in a guest's `state` couldn't be opened in another instance.

        To be asked before a commit. Costs about 10 us for each descriptor that the guest has opened itself.
        """
        findings = []
        for number, found in enumerate(known_table(state.get("wasi", {}))):
            if found is not None and "preopen" in found:
                reason = self._reason(found)
                if reason is not None:
                    findings.append(Finding(f"WASI descriptor {number}", reason))
        return tuple(findings)

    def _reason(self, found: Descriptor) -> str | None:
        folder = found["preopen"]
        if folder not in self._system.granted:
            return f"it is in the preopened folder {folder!r}, which this configuration doesn't have"
        if "path" not in found:
            return None
        what = f"{found['path'].decode(errors='replace')!r} in {folder!r}"
        if found["kind"] == STREAM:
            return f"{what} is a pipe or device, and what was read from it can't be read again; close it first"
        try:
            reopen(self._system, found)
        except Refusal:
            kind = "folder" if found["kind"] == DIRECTORY else "file"
            return f"the {kind} {what} was unlinked, replaced or moved from outside since it was opened; close it first"
        except OSError as error:
            return f"{what} can't be opened again: {error.strerror}"
        return None


def _make(fields: dict[str, Any]) -> Wasi:
    return Wasi(**fields)


def _encoded(text: object, what: str) -> bytes:
    if not isinstance(text, str):
        raise WasiError(f"{what} is {text!r}; give a string")
    try:
        data = text.encode()
    except UnicodeEncodeError as error:
        raise WasiError(f"{what} is {text!r}, which isn't Unicode text: {error.reason}") from error
    if b"\0" in data:
        raise WasiError(f"{what} is {text!r}; WASI has no way to say a zero byte in it")
    return data


def _environ(env: Mapping[str, str]) -> tuple[bytes, ...]:
    variables = []
    for name, value in env.items():
        encoded = _encoded(name, "env name")
        if not name or "=" in name:
            raise WasiError(f"env has a variable named {name!r}; a name isn't empty and has no '=' in it")
        variables.append(encoded + b"=" + _encoded(value, f"env[{name!r}]") + b"\0")
    return tuple(variables)


def _granted(preopens: tuple[Preopen, ...]) -> dict[str, int]:
    if preopens and not supported():
        raise WasiError(
            "preopened folders need a system that opens files relative to a folder without following symlinks "
            "(os.supports_dir_fd, O_NOFOLLOW); this one can't, so give no preopens"
        )
    granted: dict[str, int] = {}
    for preopen in preopens:
        _encoded(preopen.guest, "preopened folder's guest name")
        if preopen.guest in granted:
            raise WasiError(f"preopens has two folders named {preopen.guest!r}; give each its own name")
        if not os.path.isdir(preopen.host):
            raise WasiError(f"preopened folder {preopen.host!r} (as {preopen.guest!r}) isn't a folder; create it first")
        granted[preopen.guest] = rights.ALL & ~rights.MUTATING if preopen.read_only else rights.ALL
    return granted


def _system(wasi: Wasi) -> System:
    for stream, mode in (("stdout", wasi.stdout_mode), ("stderr", wasi.stderr_mode)):
        if mode not in ("capture", "inherit", "discard") and not callable(mode):
            raise WasiError(f"{stream} is {mode!r}; give 'capture', 'inherit', 'discard' or a function of bytes")
    for name, least in (("capture_limit", 0), ("max_sleep", 0), ("descriptor_limit", 3 + len(wasi.preopens))):
        value = getattr(wasi, name)
        kinds = (int, float) if name == "max_sleep" else int
        if isinstance(value, bool) or not isinstance(value, kinds) or not least <= value < float("inf"):
            raise WasiError(f"{name} is {value!r:.80}; give a number, at least {least}")
    if wasi.seed is not None and not isinstance(wasi.seed, int):
        raise WasiError(f"seed is {wasi.seed!r:.80}; give an int, or None for the system's random bytes")
    if not isinstance(wasi.stdin, (bytes, bytearray, memoryview)):
        raise WasiError(f"stdin is {wasi.stdin!r:.80}; give all that the guest can read, as bytes")
    granted = _granted(wasi.preopens)
    return System(
        args=tuple(_encoded(arg, "args") + b"\0" for arg in wasi.args),
        environ=_environ(wasi.env),
        stdin=bytes(wasi.stdin),
        granted=granted,
        roots=Roots({preopen.guest: os.path.abspath(preopen.host) for preopen in wasi.preopens}),
        seed_key=None if wasi.seed is None else seed_key(wasi.seed),
        clock=wasi.clock,
        sinks={STDOUT: output.sink_for(STDOUT, wasi.stdout_mode), STDERR: output.sink_for(STDERR, wasi.stderr_mode)},
        capture_limit=wasi.capture_limit,
        line_buffered=wasi.line_buffered,
        max_sleep_ns=round(wasi.max_sleep * 1e9),
        descriptor_limit=wasi.descriptor_limit,
    )
