"""Fake interpreters, in place of what is installed."""

from __future__ import annotations

from fake_interpreters import world

__all__ = ["world"]
