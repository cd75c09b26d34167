"""Let ``python -m replicate.cli`` do what the command `replicate` does."""

from __future__ import annotations

import sys

from replicate.cli import main

__all__: list[str] = []

if __name__ == "__main__":
    sys.exit(main())
