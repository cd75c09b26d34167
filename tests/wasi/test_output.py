"""Captured output is state; what is handed on is gone at once."""

from __future__ import annotations

import itertools
import sys

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from replicate.errors import WasiError
from replicate.wasi import Errno, Output, Wasi

from .support import FakeGuest


def block_sizes(guest: FakeGuest) -> list[int]:
    return [len(block) for block in guest.state["wasi"]["output"]["stdout"]["blocks"]]


def text(length: int, start: int = 0) -> bytes:
    """Make text in which a byte that is missing or out of place shows."""
    return b"".join(b"%06d." % index for index in range(start, start + length // 7 + 1))[:length]


@given(lengths=st.lists(st.integers(0, 20_000), max_size=12), limit=st.integers(0, 50_000))
@example(lengths=[30_000, 30_000], limit=0)
@example(lengths=[8191, 1, 8192, 1], limit=8192)
@settings(deadline=None)
def test_the_last_bytes_are_kept_and_the_others_counted(lengths: list[int], limit: int) -> None:
    pieces = [text(length, index * 1000) for index, length in enumerate(lengths)]
    wasi = Wasi(capture_limit=limit)
    guest = FakeGuest(wasi)
    for piece in pieces:
        assert guest.write(1, piece) == (0, len(piece))
        if "output" in guest.state.get("wasi", {}):
            assert sum(block_sizes(guest)) < limit + 2 * 8192
    everything = b"".join(pieces)
    kept = everything[len(everything) - min(limit, len(everything)) :]
    assert wasi.stdout(guest) == kept
    assert wasi.take_output(guest) == Output(kept, b"", len(everything) - len(kept), 0)
    assert wasi.take_output(guest) == Output(b"", b"", 0, 0)


@given(length=st.integers(1, 40_000), cuts=st.lists(st.integers(0, 40_000), max_size=6))
@example(length=16_384, cuts=[8300])
@settings(deadline=None)
def test_the_same_output_is_the_same_state_however_it_was_cut(length: int, cuts: list[int]) -> None:
    content = text(length)
    wasi = Wasi(capture_limit=9000)
    whole, cut = FakeGuest(wasi), FakeGuest(wasi)
    whole.write(1, content)
    edges = [0, *sorted(min(at, len(content)) for at in cuts), len(content)]
    for start, end in itertools.pairwise(edges):
        cut.write(1, content[start:end])
    assert cut.state == whole.state


def test_output_written_byte_by_byte_stays_in_few_blocks() -> None:
    wasi = Wasi(capture_limit=1 << 16)
    guest = FakeGuest(wasi)
    guest._put(32768, b"x")
    iovs = guest._iovs([1])
    for _ in range(1 << 17):
        guest.functions["fd_write"].fn(guest, 1, *iovs, 24576)
    assert max(block_sizes(guest)) <= 8192
    assert len(block_sizes(guest)) <= 10
    assert wasi.stdout(guest) == b"x" * (1 << 16)


def test_captured_output_rolls_back_and_replicates() -> None:
    wasi = Wasi()
    guest = FakeGuest(wasi)
    guest.write(1, b"kept")
    saved = guest.save()
    guest.write(1, b" lost")
    guest.write(2, b"lost too")
    guest.restore(saved)
    assert wasi.take_output(guest.replica()) == Output(b"kept", b"")


def test_both_streams_are_captured_apart() -> None:
    wasi = Wasi()
    guest = FakeGuest(wasi)
    guest.write(1, b"out", b"", b"put")
    guest.write(2, b"err")
    assert (wasi.stdout(guest), wasi.stderr(guest)) == (b"output", b"err")


def test_looking_at_the_output_of_a_guest_without_wasi_leaves_no_state() -> None:
    wasi = Wasi()
    guest = FakeGuest(wasi)
    assert wasi.stdout(guest) == b""
    assert wasi.take_output(guest) == Output(b"", b"")
    assert guest.state == {}


def test_a_function_gets_each_write_at_once_and_nothing_is_captured() -> None:
    got: list[bytes] = []
    wasi = Wasi(stdout=got.append)
    guest = FakeGuest(wasi)
    saved = guest.save()
    guest.write(1, b"one", b" write")
    guest.restore(saved)
    guest.write(1, b"two")
    assert got == [b"one write", b"two"]
    assert wasi.stdout(guest) == b""


@pytest.mark.parametrize("error", [OSError(28, "full"), ValueError("no"), IndexError("outside")])
def test_what_a_sink_raises_reaches_the_caller_as_it_was(error: Exception) -> None:
    def sink(data: bytes) -> None:
        raise error

    guest = FakeGuest(Wasi(stdout=sink))
    with pytest.raises(type(error)) as caught:
        guest.write(1, b"x")
    assert caught.value is error


def test_discarded_output_is_accepted() -> None:
    wasi = Wasi(stdout="discard", stderr="discard")
    guest = FakeGuest(wasi)
    assert guest.write(1, b"gone") == (0, 4)
    assert wasi.take_output(guest) == Output(b"", b"")


def test_inherited_output_comes_in_order_with_pythons_own(capfd: pytest.CaptureFixture[str]) -> None:
    guest = FakeGuest(Wasi(stdout="inherit", stderr="inherit"))
    print("first ", end="")
    guest.write(1, b"second ")
    print("third", end="")
    guest.write(2, b"error")
    assert capfd.readouterr() == ("first second third", "error")


def test_inherited_output_without_a_standard_stream_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    guest = FakeGuest(Wasi(stdout="inherit"))
    monkeypatch.setattr(sys, "stdout", None)
    assert guest.write(1, b"x") == (0, 1)


@pytest.mark.parametrize(("line_buffered", "filetype"), [(True, 2), (False, 0)])
def test_line_buffered_output_looks_like_a_terminal(line_buffered: bool, filetype: int) -> None:
    guest = FakeGuest(Wasi(line_buffered=line_buffered))
    errno, (kind, _, rights, _) = guest.fdstat(1)
    assert (errno, kind) == (0, filetype)
    assert not rights & (1 << 2 | 1 << 5)


def test_output_can_not_be_read_nor_input_written() -> None:
    guest = FakeGuest(Wasi(stdin=b"in"))
    assert guest.read(1, 5)[0] == Errno.NOTCAPABLE
    assert guest.write(0, b"x")[0] == Errno.NOTCAPABLE


def test_buffers_outside_the_memory_are_a_fault_and_write_nothing() -> None:
    wasi = Wasi()
    guest = FakeGuest(wasi)
    guest.memory.pack("<IIII", 0, 100, 5, (1 << 20) - 2, 5)
    assert guest.call("fd_write", 1, 0, 2, 64) == Errno.FAULT
    assert guest.call("fd_write", 1, (1 << 20) - 4, 1, 64) == Errno.FAULT
    assert guest.call("fd_write", 1, -8, 1, 64) == Errno.FAULT
    assert wasi.stdout(guest) == b""


def test_more_buffers_than_the_limit_are_invalid() -> None:
    guest = FakeGuest(Wasi())
    assert guest.call("fd_write", 1, 0, 1025, 64) == Errno.INVAL
    assert guest.call("fd_write", 1, 0, -1, 64) == Errno.INVAL


@pytest.mark.parametrize("option", [{"stdout": "nowhere"}, {"stderr": 3}, {"capture_limit": -1}])
def test_an_impossible_output_is_refused(option: dict[str, object]) -> None:
    with pytest.raises(WasiError):
        Wasi(**option)  # type: ignore[arg-type]
