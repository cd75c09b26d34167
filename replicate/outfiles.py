"""Write files whole or not at all, and say why one can't be written."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from replicate.errors import ReplicateError

__all__ = ["why_not_writable", "write_whole"]


def why_not_writable(path: Path) -> str | None:
    """Say why a file can't be written at `path`, and what to do; None if nothing is known against it."""
    try:
        if path.is_dir():
            return "it's a folder; give a file"
        if not path.parent.is_dir():
            return f"there's no folder {str(path.parent)!r}; make it first"
        if not os.access(path if path.exists() else path.parent, os.W_OK):
            return "that isn't allowed; give another file"
    except (OSError, ValueError) as error:
        return f"{error}; give another file"
    return None


def write_whole(path: str | os.PathLike[str], data: bytes, *, what: str, error: type[ReplicateError]) -> None:
    """Write `data` to a file that is afterwards as it was or has all of it; `what` names the content in an `error`.

    A new file gets the permissions that the umask leaves, one that is replaced keeps its own. What a symlink leads to is
    replaced, not the link; what isn't a file, a pipe say, is written to.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise error(f"can't write {what} to {path!r:.80}; give the path of a file")
    target = Path(path)
    try:
        _write(target, data)
    except (OSError, ValueError) as cause:
        reason = why_not_writable(target) or (cause.strerror if isinstance(cause, OSError) else None) or str(cause)
        raise error(f"can't write {what} to {str(target)!r}: {reason}") from cause


def _write(path: Path, data: bytes) -> None:
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        mode = None
    if mode is not None and not stat.S_ISREG(mode):
        path.write_bytes(data)
        return
    target = Path(os.path.realpath(path))
    # Not by `tempfile`, whose files are for their owner only, whatever the umask.
    temporary = target.with_name(f".{target.name[:40]}.{secrets.token_hex(8)}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        if mode is not None:
            os.chmod(temporary, stat.S_IMODE(mode))
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
