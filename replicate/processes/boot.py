"""Start a worker: run by its path, under whatever interpreter, by the library of the process that starts it.

Arguments: as JSON, the packages that must be those of the parent, each with the folder it lies in, and the folders to look
for anything else that this interpreter doesn't have; then the descriptors of its socket, of the socket for cancellations,
of its lifeline, and of the file that says what its instance is made of, if there's one yet.
"""

from __future__ import annotations

import importlib
import json
import sys
from importlib.machinery import ModuleSpec, PathFinder

__all__ = ["main"]


class _Finder:
    """Find the parent's packages before this interpreter's own of the same names."""

    def __init__(self, roots: dict[str, str]) -> None:
        self._roots = roots

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Find a package by name."""
        root = self._roots.get(name)
        return None if root is None else PathFinder.find_spec(name, [root])


def main() -> None:
    """Set up where modules come from, and serve."""
    ways = json.loads(sys.argv[1])
    files = [int(argument) for argument in sys.argv[2:]]
    # The folder of this file holds no modules for anybody to import by these names.
    sys.path[0:1] = []
    sys.path += [folder for folder in ways["path"] if folder not in sys.path]
    sys.meta_path.insert(0, _Finder(ways["roots"]))
    importlib.import_module("replicate.processes.worker").run(*files)


if __name__ == "__main__":
    main()
