"""Messages between a pool and a worker: pickled, whole, one side speaking at a time.

The two trust each other as one process trusts itself; a guest reaches neither side's socket. What one side has asked is
answered before it asks again, save that the answer may be a question first (a host function), and that a worker is told at
once all that it needs to start.
"""

from __future__ import annotations

import pickle
import socket
import struct
from collections.abc import Sequence
from typing import Any

__all__ = ["Channel", "EndOfWorkerError"]

_LENGTH = struct.Struct("<Q")
_READ = 1 << 16
_LOOK = int(socket.MSG_PEEK | getattr(socket, "MSG_DONTWAIT", 0))
_PROTOCOL = 5
"""Every Python this library runs on reads it."""


class EndOfWorkerError(Exception):
    """Say that the other side is gone."""


class Channel:
    """Send and receive messages over one connected socket."""

    __slots__ = ("_more", "socket")

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected
        self._more = b""

    def send(self, message: Any) -> None:
        """Send a message; raise `EndOfWorkerError`, or what pickling it raises, having sent nothing then."""
        data = pickle.dumps(message, _PROTOCOL)
        self.send_pickled(data)

    def send_pickled(self, data: bytes) -> None:
        """Send a message that has been pickled."""
        try:
            self.socket.sendall(_LENGTH.pack(len(data)) + data)
        except OSError as error:
            raise EndOfWorkerError from error

    def receive(self) -> Any:
        """Wait for a message; raise `EndOfWorkerError` when there's none to come."""
        try:
            data, self._more = self._more or self.socket.recv(_READ), b""
            while len(data) < 8:
                more = self.socket.recv(_READ) if data else b""
                if not more:
                    raise EndOfWorkerError
                data += more
            (length,) = _LENGTH.unpack_from(data)
            end = 8 + length
            if len(data) >= end:
                if len(data) > end:
                    self._more = data[end:]
                return pickle.loads(memoryview(data)[8:end])
            whole = bytearray(length)
            view = memoryview(whole)
            at = len(data) - 8
            view[:at] = data[8:]
            while at < length:
                count = self.socket.recv_into(view[at:])
                if not count:
                    raise EndOfWorkerError
                at += count
        except OSError as error:
            raise EndOfWorkerError from error
        return pickle.loads(whole)

    def send_files(self, files: Sequence[int]) -> None:
        """Pass descriptors to the other side, which is in `receive_files`."""
        try:
            # Not before it's ready: a plain read that came upon them would lose them.
            if self.socket.recv(1) != b"!":
                raise EndOfWorkerError
            socket.send_fds(self.socket, [b"+"], list(files))
        except OSError as error:
            raise EndOfWorkerError from error

    def receive_files(self, count: int) -> list[int]:
        """Take `count` descriptors from the other side; they aren't passed on to programs that are started."""
        try:
            self.socket.sendall(b"!")
            data, files, _, _ = socket.recv_fds(self.socket, 1, count, socket.MSG_CMSG_CLOEXEC)
        except OSError as error:
            raise EndOfWorkerError from error
        if data != b"+" or len(files) != count:
            raise EndOfWorkerError
        return list(files)

    def is_open(self) -> bool:
        """Tell whether the other side was there a moment ago; nothing is expected from it just now."""
        try:
            return bool(self.socket.recv(1, _LOOK))
        except BlockingIOError:
            return True
        except OSError:
            return False

    def close(self) -> None:
        """Hang up."""
        self.socket.close()
