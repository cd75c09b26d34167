"""The user's cache folder: compiled modules and fetched files, safe against crashes and damage.

Everything in it can be deleted at any time. Entries are written to a temporary name and renamed, and carry their own
SHA-256, so that a damaged one is noticed and made again. Hazard: compiled code is executed as it is; the checksum guards
against accidents, not against somebody who may write to the folder, which is therefore made readable by its owner only.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from pathlib import Path

from replicate.errors import CacheError

__all__ = ["ArtifactCache", "cache_folder", "state_folder"]


def cache_folder() -> Path:
    """Give this library's cache folder: ``$REPLICATE_CACHE_DIR``, or the platform's usual place."""
    return _folder("REPLICATE_CACHE_DIR", ("XDG_CACHE_HOME", ".cache"), "cache", "Caches")


def state_folder() -> Path:
    """Give the folder for what is kept between runs and can't be made again: ``$REPLICATE_STATE_DIR``, or the usual place."""
    return _folder("REPLICATE_STATE_DIR", ("XDG_STATE_HOME", ".local/state"), "state", "Application Support")


def _folder(variable: str, xdg: tuple[str, str], windows: str, macos: str) -> Path:
    chosen = os.environ.get(variable)
    if chosen:
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA")
        return Path(local or Path.home() / "AppData" / "Local") / "wasm-replicate" / windows
    if sys.platform == "darwin":
        return Path.home() / "Library" / macos / "wasm-replicate"
    # The XDG base directory specification wants relative values ignored.
    base = os.environ.get(xdg[0], "")
    return (Path(base) if os.path.isabs(base) else Path.home() / xdg[1]) / "wasm-replicate"


class ArtifactCache:
    """Keep files under a key, each checked against its SHA-256 when it's fetched.

    A folder that can't be written is no error: nothing is kept then. `limit` bytes are kept at most, the longest unused
    entries go first.
    """

    def __init__(self, folder: Path, *, limit: int = 2 << 30) -> None:
        self.folder = folder
        self.limit = limit

    def find(self, key: str) -> Path | None:
        """Give the file kept under `key`, or None; a damaged one is deleted."""
        try:
            found = sorted(self.folder.glob(f"{key}.*"))
        except OSError:
            return None
        for path in found:
            if len(path.suffix) != 65:
                continue
            try:
                with path.open("rb") as file:
                    digest = _sha256(file.read())
                if f".{digest}" == path.suffix:
                    os.utime(path)
                    return path
                path.unlink(missing_ok=True)
            except OSError:
                continue
        return None

    def keep(self, key: str, data: bytes) -> Path | None:
        """Keep `data` under `key` and give its file, or None where nothing can be kept."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            path = self.folder / f"{key}.{_sha256(data)}"
            handle, temporary = tempfile.mkstemp(dir=self.folder, prefix="new-")
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(data)
                os.replace(temporary, path)
            except BaseException:
                Path(temporary).unlink(missing_ok=True)
                raise
            self._trim(path)
        except OSError:
            return None
        return path

    def _trim(self, newest: Path) -> None:
        entries = sorted(
            ((stat.st_mtime, stat.st_size, path) for path in self.folder.iterdir() for stat in [path.stat()]),
            reverse=True,
        )
        total = 0
        for _, size, path in entries:
            total += size
            if total > self.limit and path != newest:
                path.unlink(missing_ok=True)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def read_checked(path: Path, sha256: str) -> bytes | None:
    """Read a cached file, or None when it's missing or isn't the one with this SHA-256."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CacheError(
            f"can't read {path}: {error}; remove it or set REPLICATE_CACHE_DIR to another folder"
        ) from error
    return data if _sha256(data) == sha256 else None
