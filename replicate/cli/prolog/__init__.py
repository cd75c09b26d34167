"""What `replicate prolog` is made of: a toplevel over a pool of Prolog interpreters."""

from __future__ import annotations

__all__: list[str] = []
