"""Where the Trealla module comes from: the user, the cache, or the npm package, never the network by any other way."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

from replicate.cache import cache_folder, read_checked
from replicate.errors import CacheError, ChecksumError

__all__ = ["DIGEST", "PACKAGE", "cached_path", "fetch", "module_path"]

PACKAGE = "trealla@0.17.10"
"""The npm package the module is taken from: Trealla 0.23.3."""
DIGEST = "5d6fcf41b960b9ce1b3bab65acf25f02b531c880c9dc31eab8c58409caf7cf60"
"""The SHA-256 of the module in it."""
ENVIRONMENT = "REPLICATE_TREALLA_WASM"
"""The environment variable that names a module to use instead."""

_MEMBER = "package/trealla.js"
_LITERAL = re.compile(rb'"(AGFz[A-Za-z0-9+/]+=*)"')
_SECONDS = 300

Progress = Callable[[str], object]


def module_path(wasm: str | os.PathLike[str] | None = None, *, progress: Progress | None = None) -> Path:
    """Give the path of a Trealla module: `wasm`, else ``$REPLICATE_TREALLA_WASM``, else the cached or fetched one.

    Raises `CacheError` for a path that isn't a file, and what `fetch` raises.
    """
    given = wasm if wasm is not None else os.environ.get(ENVIRONMENT)
    if given:
        path = Path(given)
        if not path.is_file():
            source = "wasm" if wasm is not None else f"${ENVIRONMENT}"
            raise CacheError(
                f"{source} names {os.fspath(path)!r}, which isn't a file; give the path of a Trealla module"
            )
        return path
    return fetch(progress=progress)


def fingerprint(module: Path) -> tuple[Path, int, int]:
    """Tell a module's file from what may lie there at another time: by its path, its size, and when it was changed (ns)."""
    status = module.stat()
    return module, status.st_size, status.st_mtime_ns


def cached_path() -> Path:
    """Say where the fetched module is kept."""
    return cache_folder() / "trealla" / f"trealla-{PACKAGE.rpartition('@')[2]}.wasm"


def fetch(*, progress: Progress | None = None) -> Path:
    """Give the path of the npm package's module, taking it from the cache or fetching it with ``npm pack`` (1.5 MB).

    `progress` is called with a line of text at each step. Several processes may fetch at once. Raises `CacheError` when
    npm is missing or fails, and `ChecksumError`, keeping nothing, when what came isn't the module expected.
    """
    tell = progress or _silent
    path = cached_path()
    if read_checked(path, DIGEST) is not None:
        tell(f"{path} is there")
        return path
    npm = shutil.which("npm")
    if npm is None:
        raise CacheError(
            f"Trealla's module isn't in the cache ({path}), and npm, which would fetch it, isn't installed: install Node.js "
            f"with npm, or give a module yourself, as wasm=path or in ${ENVIRONMENT}"
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix="fetch-") as folder:
            tell(f"fetching {PACKAGE} with npm")
            package = _pack(npm, Path(folder))
            tell("taking the module out of it")
            module = _extract(package)
            temporary = Path(folder) / "module.wasm"
            temporary.write_bytes(module)
            # Whoever comes last replaces an equal file.
            os.replace(temporary, path)
    except OSError as error:
        raise CacheError(
            f"can't keep Trealla's module in {path.parent}: {error}; set REPLICATE_CACHE_DIR to another folder"
        ) from error
    tell(f"kept as {path}")
    return path


def _silent(line: str) -> None:
    pass


def _pack(npm: str, folder: Path) -> Path:
    """Let npm put the package's archive into a folder."""
    # In a folder of its own, so that no project's settings or workspaces take part; the user's do.
    command = [npm, "pack", PACKAGE, "--loglevel=error", "--pack-destination", str(folder)]
    try:
        done = subprocess.run(
            command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, timeout=_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise CacheError(f"'npm pack {PACKAGE}' took longer than {_SECONDS} s; try again, or give wasm=path") from error
    archives = list(folder.glob("*.tgz"))
    if done.returncode or not archives:
        said = done.stderr.decode("utf-8", "replace").strip()
        raise CacheError(
            f"'npm pack {PACKAGE}' failed with status {done.returncode}; is there a network, or a registry that npm may use? "
            f"Without one, give wasm=path. npm said:\n{said[-1000:] or '(nothing)'}"
        )
    return archives[0]


def _extract(package: Path) -> bytes:
    """Take the module out of the package: one of several that its script carries as base64."""
    try:
        with tarfile.open(package) as archive:
            member = archive.extractfile(_MEMBER)
            script = member.read() if member is not None else b""
    except (tarfile.TarError, KeyError, EOFError) as error:
        raise ChecksumError(f"what npm packed as {PACKAGE} can't be read: {error}; nothing was kept") from error
    digests = []
    for literal in _LITERAL.finditer(script):
        try:
            module = base64.b64decode(literal[1], validate=True)
        except binascii.Error:
            continue
        digest = hashlib.sha256(module).hexdigest()
        if digest == DIGEST:
            return module
        digests.append(digest)
    raise ChecksumError(
        f"no module in {PACKAGE} has the SHA-256 {DIGEST}; found {', '.join(digests) or 'none'}; nothing was kept. "
        "The package isn't the published one, or it was changed on its way"
    )
