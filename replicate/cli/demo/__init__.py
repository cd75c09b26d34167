"""What `replicate demo` shows: the story, the guests it's told with, and the load they're put under."""

from __future__ import annotations

__all__: list[str] = []
