"""One worker process: started, talked to, cancelled, killed, and waited for when it has ended."""

from __future__ import annotations

import atexit
import json
import os
import socket
import struct
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from replicate.errors import PoolError
from replicate.processes.lifeline import Lifeline
from replicate.processes.transport import Channel, EndOfWorkerError

__all__ = ["WorkerProcess", "root_of"]

_BOOT = str(Path(__file__).with_name("boot.py"))
_CANCEL = struct.Struct("<q")
_LAST_WORDS = 2.0
"""How many seconds a worker that was told to end may take."""


def root_of(package: str) -> tuple[str, str] | None:
    """Give the top-level package of a module that is imported here, and the folder it lies in."""
    name = package.partition(".")[0]
    found = getattr(sys.modules.get(name), "__file__", None)
    if found is None or name == "__main__":
        return None
    path = Path(found).resolve()
    return name, str(path.parents[1] if path.name == "__init__.py" else path.parent)


def _search_path() -> list[str]:
    """List the folders that this interpreter imports from, but for its own library."""
    own = {os.path.realpath(sysconfig.get_path(kind)) for kind in ("stdlib", "platstdlib")}
    own |= {os.path.join(folder, "lib-dynload") for folder in own}
    folders = (os.path.realpath(folder or os.getcwd()) for folder in sys.path)
    return [folder for folder in folders if folder not in own and os.path.isdir(folder)]


def _environment(interpreter: str) -> dict[str, str]:
    environment = dict(os.environ)
    if interpreter != sys.executable:
        for name in ("PYTHONHOME", "PYTHONPATH", "__PYVENV_LAUNCHER__"):
            environment.pop(name, None)
    return environment


class WorkerProcess:
    """Be a worker process. Its standard output and error are this process's."""

    def __init__(self, interpreter: Path, roots: Mapping[str, str], recipe: int | None = None) -> None:
        """Start one, without waiting for it; `recipe` is a descriptor for it to inherit."""
        ours, theirs = socket.socketpair()
        control, theirs_control = socket.socketpair()
        lifeline = Lifeline()
        files = [theirs.fileno(), theirs_control.fileno(), lifeline.far, *([] if recipe is None else [recipe])]
        ways = json.dumps({"roots": dict(roots), "path": _search_path()})
        flags = ["-B"] if sys.dont_write_bytecode else []
        command = [str(interpreter), *flags, _BOOT, ways, *map(str, files)]
        self.owner = os.getpid()
        self._ended = False
        self.channel = Channel(ours)
        self._control = control
        self._lifeline = lifeline
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                pass_fds=files,
                env=_environment(str(interpreter)),
                # Out of the terminal's reach: Ctrl-C is for the process that uses the pool.
                start_new_session=True,
            )
        except BaseException as error:
            ours.close()
            control.close()
            lifeline.cut()
            if isinstance(error, OSError):
                raise PoolError(f"a worker process can't be started with {interpreter}: {error}") from error
            raise
        finally:
            theirs.close()
            theirs_control.close()
            lifeline.started()
        self.pid = self._process.pid

    def request(self, operation: str, *arguments: Any) -> None:
        """Send a request whose answer is read later; a worker that has gone isn't noticed before."""
        try:
            self.channel.send((operation, arguments, 0, None, None, None, 0))
        except EndOfWorkerError:
            pass

    def cancel(self, transaction: int) -> None:
        """Ask the worker to stop its guest, if it's still in that transaction; never waits."""
        try:
            self._control.send(_CANCEL.pack(transaction), socket.MSG_DONTWAIT)
        except OSError:
            pass

    def kill(self) -> None:
        """End the process at once, whatever it's doing."""
        if self.owner == os.getpid():
            self._process.kill()

    def describe_end(self) -> str:
        """Say how the process ended."""
        try:
            status = self._process.wait(_LAST_WORDS)
        except subprocess.TimeoutExpired:
            return "closed its connection"
        return f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"

    def end(self) -> None:
        """Let the process go: it ends as soon as it sees that nobody asks any more. Ending twice is fine."""
        if self._ended:
            return
        self._ended = True
        self.channel.close()
        self._control.close()
        if self.owner == os.getpid():
            _reaper.add(self._process, self._lifeline)


class _Reaper:
    """Wait for processes that are ending, in a thread of its own, and kill those that take too long."""

    def __init__(self) -> None:
        self._lock = threading.Condition(threading.Lock())
        self._ending: list[tuple[subprocess.Popen[bytes], Lifeline, float]] = []
        self._thread: threading.Thread | None = None

    def add(self, process: subprocess.Popen[bytes], lifeline: Lifeline) -> None:
        """Have a process waited for."""
        with self._lock:
            self._ending.append((process, lifeline, time.monotonic() + _LAST_WORDS))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="replicate-reaper", daemon=True)
                self._thread.start()
            self._lock.notify_all()

    def _run(self) -> None:
        delay = 0.001
        while True:
            with self._lock:
                if not self._ending:
                    self._lock.wait(5.0)
                    if not self._ending:
                        self._thread = None
                        return
                    delay = 0.001
            self._look()
            time.sleep(delay)
            delay = min(delay * 2, 0.02)

    def _look(self) -> None:
        with self._lock:
            left = []
            for process, lifeline, deadline in self._ending:
                if process.poll() is not None:
                    lifeline.cut()
                    continue
                if time.monotonic() > deadline:
                    process.kill()
                left.append((process, lifeline, deadline))
            self._ending = left

    def drain(self) -> None:
        """Wait for all, at the exit of this process: what they still have to print is printed then."""
        deadline = time.monotonic() + _LAST_WORDS
        while self._ending and time.monotonic() < deadline:
            self._look()
            time.sleep(0.002)


_reaper = _Reaper()
atexit.register(_reaper.drain)


def _after_fork() -> None:
    """Leave the parent's workers to the parent."""
    _reaper.__init__()  # type: ignore[misc]


os.register_at_fork(after_in_child=_after_fork)
