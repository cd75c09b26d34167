"""Engines in worker processes: each instance in a process of its own, under an interpreter that has its runtime."""

from __future__ import annotations

__all__: list[str] = []
