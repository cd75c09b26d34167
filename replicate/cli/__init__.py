"""The command `replicate`: a demonstration, and a look at modules and engines.

Needs the extra ``cli``; nothing else of the library imports it.
"""

from __future__ import annotations

import sys

__all__ = ["main"]

_NEEDED = ("typer", "rich")


def main() -> int:
    """Run the command line on `sys.argv` and give the exit code; see ``replicate --help``."""
    import replicate

    if not hasattr(replicate, "Pool"):
        # PyPI's `replicate`, an AI service's client, was installed after this library, and its __init__.py replaced ours.
        print(
            "error: PyPI's 'replicate' (an AI service's client) was installed over wasm-replicate, which has the same import "
            "name: use separate virtual environments, or uninstall both and install only wasm-replicate",
            file=sys.stderr,
        )
        return 1
    try:
        from replicate.cli.app import run
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in _NEEDED:
            raise
        print(
            f"error: the command line needs {' and '.join(_NEEDED)}: pip install 'wasm-replicate[cli]'", file=sys.stderr
        )
        return 1
    except KeyboardInterrupt:
        return 130
    return run()
