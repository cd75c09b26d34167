"""Files that a program is given as a mapping of names to contents."""

from __future__ import annotations

import os
import posixpath
import shutil
import tempfile
import weakref
from collections.abc import Mapping
from pathlib import Path

from replicate.errors import ArgumentRangeError, ArgumentTypeError, WasiError
from replicate.wasi import Preopen

__all__ = ["GivenFiles"]


class GivenFiles:
    """Keep files for guests that can't change them, as long as this object lives.

    They lie in a temporary folder, so that guests read them as any others: WASI's rules, and what replicas need to open a
    file again, are the same. An object that was pickled for a worker process uses the folder of the one that made it.
    """

    def __init__(self, files: Mapping[str, str | bytes]) -> None:
        if not isinstance(files, Mapping):
            raise ArgumentTypeError(f"files are a mapping of names to contents; got {files!r:.80}")
        contents = {_checked(name): _content(name, content) for name, content in files.items()}
        self.preopens: tuple[Preopen, ...] = ()
        """The folders to give to the guests."""
        if not contents:
            return
        try:
            folder = tempfile.mkdtemp(prefix="replicate-files-")
            weakref.finalize(self, _remove, folder, os.getpid())
            for name, content in contents.items():
                path = Path(folder, name.lstrip("/"))
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
        except OSError as error:
            raise WasiError(f"the files can't be put into a temporary folder: {error}") from error
        roots = dict.fromkeys(name.split("/")[1] for name in contents)
        self.preopens = tuple(Preopen(os.path.join(folder, root), f"/{root}", read_only=True) for root in roots)


def _remove(folder: str, owner: int) -> None:
    if os.getpid() == owner:  # not in the child of a fork
        shutil.rmtree(folder, ignore_errors=True)


def _checked(name: str) -> str:
    if not isinstance(name, str):
        raise ArgumentTypeError(f"a file's name is text, as in '/data/facts.pl'; got {name!r:.80}")
    if "\0" in name or posixpath.normpath(name) != name or not name.startswith("/") or name.count("/") < 2:
        raise ArgumentRangeError(f"files has {name!r}; give each an absolute name in a folder, as '/data/facts.pl'")
    return name


def _content(name: str, content: str | bytes) -> bytes:
    if isinstance(content, str):
        return content.encode()
    if isinstance(content, (bytes, bytearray)):
        return bytes(content)
    raise ArgumentTypeError(f"files[{name!r}] is {content!r:.80}; give text or bytes")
