"""Run other programs so that nothing of them outlives the wait for them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence

import attrs

__all__ = ["Finished", "describe_status", "run_child", "stream_child"]


@attrs.frozen
class Finished:
    """Hold what a program printed, and the status it ended with: negative for a signal."""

    status: int
    out: str
    err: str


def run_child(command: Sequence[str], environment: Mapping[str, str], *, timeout: float) -> Finished:
    """Run a program without input to its end; raise `TimeoutError` after `timeout` seconds, `OSError` if it can't start."""
    with _started(command, environment, stderr=subprocess.PIPE) as process:
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired as error:
            raise TimeoutError(f"no answer within {timeout:g} s") from error
    return Finished(process.returncode, out, err)


def stream_child(command: Sequence[str], environment: Mapping[str, str], on_line: Callable[[str], None]) -> int:
    """Run a program without input, give each line that it prints to `on_line`, and return its status."""
    with _started(command, environment, stderr=subprocess.STDOUT) as process:
        assert process.stdout is not None
        for line in process.stdout:
            on_line(line.rstrip())
        return process.wait()


@contextlib.contextmanager
def _started(command: Sequence[str], environment: Mapping[str, str], *, stderr: int) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=stderr,
        env=dict(environment),
        encoding="utf-8",
        errors="replace",
        # A group of its own: what a script has started holds the pipe open too, and has to end with it.
        start_new_session=True,
    ) as process:
        try:
            yield process
        except BaseException:
            _kill(process)
            raise


def _kill(process: subprocess.Popen[str]) -> None:
    if os.name == "posix":
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()


def describe_status(status: int) -> str:
    """Spell how a program ended: ``ended with status 127``, ``was killed by SIGSEGV``."""
    if status >= 0:
        return f"ended with status {status}"
    try:
        return f"was killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"was killed by signal {-status}"
