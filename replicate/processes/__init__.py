"""Engines in worker processes, under an interpreter that their runtime can be imported in."""

from __future__ import annotations

__all__: list[str] = []
