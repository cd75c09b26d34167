"""What `replicate bench` measures, how, and how it shows and compares what came out."""

from __future__ import annotations

__all__: list[str] = []
