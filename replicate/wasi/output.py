"""What the guest writes to its standard output and error: captured in its state, or handed on at once."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import attrs

from replicate.wasi.caller import STATE_KEY, Caller, wasi_state
from replicate.wasi.descriptors import STDERR, STDOUT
from replicate.wasi.errno import PassOn

if TYPE_CHECKING:
    from replicate.wasi.system import System

__all__ = ["Output", "OutputMode", "captured", "emit", "sink_for", "take"]

OutputMode: TypeAlias = "Literal['capture', 'inherit', 'discard'] | Callable[[bytes], object]"

# Captured output is a list of blocks of exactly this many bytes and a last, shorter one: appending a byte copies at
# most a block, a commit copies few references, and the same output is the same state however it was cut into writes.
_BLOCK = 8192


@attrs.frozen
class Output:
    """Be the output taken from a guest; the counts say how many bytes before it fell to the capture limit."""

    stdout: bytes
    stderr: bytes
    stdout_dropped_bytes: int = 0
    stderr_dropped_bytes: int = 0


def sink_for(stream: str, mode: OutputMode) -> Callable[[bytes], object] | None:
    """Give the function that takes a stream's output, None where it is captured."""
    if mode == "capture":
        return None
    if mode == "discard":
        return _discard
    if mode == "inherit":
        return _inherit_stdout if stream == STDOUT else _inherit_stderr
    return _user_sink(mode)


def emit(system: System, caller: Caller, stream: str, data: bytes) -> None:
    """Output `data` on `stream`."""
    sink = system.sinks[stream]
    if sink is not None:
        sink(data)
        return
    try:
        output = caller.state[STATE_KEY]["output"][stream]
    except KeyError:
        output = wasi_state(caller).setdefault("output", {})[stream] = {"blocks": [b""], "dropped": 0}
    blocks = output["blocks"]
    last = blocks[-1]
    if len(last) + len(data) < _BLOCK:
        blocks[-1] = last + data
        return
    data = last + data
    blocks[-1:] = [data[start : start + _BLOCK] for start in range(0, len(data) + 1, _BLOCK)]
    surplus = len(blocks) - 1 - -(-system.capture_limit // _BLOCK)
    if surplus > 0:
        del blocks[:surplus]
        output["dropped"] += surplus * _BLOCK


def captured(state: dict[str, Any], stream: str, limit: int) -> tuple[bytes, int]:
    """Give a stream's last `limit` captured bytes, and how many before them are lost."""
    output = state.get("output", {}).get(stream)
    if output is None:
        return b"", 0
    data = b"".join(output["blocks"])
    surplus = max(len(data) - limit, 0)
    return data[surplus:], output["dropped"] + surplus


def take(state: dict[str, Any], limit: int) -> Output:
    """Give both streams' captured output and empty them."""
    stdout, stdout_dropped = captured(state, STDOUT, limit)
    stderr, stderr_dropped = captured(state, STDERR, limit)
    state.pop("output", None)
    return Output(stdout, stderr, stdout_dropped, stderr_dropped)


def _discard(data: bytes) -> None:
    pass


def _inherit_stdout(data: bytes) -> None:
    _write_through(sys.stdout, data)


def _inherit_stderr(data: bytes) -> None:
    _write_through(sys.stderr, data)


def _write_through(stream: Any, data: bytes) -> None:
    if stream is None:  # a windowed Python has no standard streams
        return
    buffer = getattr(stream, "buffer", None)
    if buffer is None:  # replaced by a text-only stream, in a notebook for instance
        stream.write(data.decode("utf-8", "replace"))
        stream.flush()
        return
    stream.flush()
    buffer.write(data)
    buffer.flush()


def _user_sink(sink: Callable[[bytes], object]) -> Callable[[bytes], object]:
    def call(data: bytes) -> None:
        try:
            sink(data)
        except Exception as error:
            raise PassOn(error) from error

    return call
