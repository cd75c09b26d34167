"""Results made up for tests."""

from __future__ import annotations

import random
from typing import Any

from replicate.cli.bench.results import Result, Role, Series, Unit

__all__ = ["made_up", "noisy"]

MACHINE = {
    "cpu": "Imagined",
    "cores": 2,
    "memory_bytes": 1 << 30,
    "kernel": "Linux 6.18",
    "python": "CPython 3.11.7",
    "interpreter_lock": True,
    "engine": "wasmtime 50.0.1",
    "library": "0.1.0",
    "copy_on_write": "yes",
    "nice": 0,
    "load_before": 0.1,
    "load_after": 0.2,
}


def noisy(seed: int, *, middle: float = 1e-5, factor: float = 1.0, passes: int = 4, of_a_pass: int = 5) -> list[float]:
    """Draw samples as a machine gives them: each pass a little off, each sample too, and now and then one far too slow."""
    draw = random.Random(seed)
    found = []
    for _ in range(passes):
        off = draw.gauss(1, 0.015)
        for _ in range(of_a_pass):
            late = 1.5 if draw.random() < 0.05 else 1.0
            found.append(middle * factor * off * late * (1 + abs(draw.gauss(0, 0.02))))
    return found


def made_up(
    samples: dict[str, list[float]],
    *,
    passes: int = 4,
    role: Role = "call",
    unit: Unit = "s",
    speed: float = 1.0,
    others: float = 0.02,
    **fields: Any,
) -> Result:
    """Give a result with these series, all of one experiment."""
    named: dict[str, Any] = {
        "benchmark": "module",
        "subject": {"file": "kv.wasm", "read": "get(1)", "write": "", "before": ""},
        "settings": {"threads": 100, "engine": "wasmtime", "workers": "threads"},
        "module": "00" * 32,
        "machine": MACHINE,
        "began": "2026-01-01T00:00:00+00:00",
        "seconds": 1.0,
        "reference": tuple(3e-4 * speed for _ in range(20)),
        "cores": (1.95,),
        "others": {"calls": (others,) * 20},
        "repeated": 0,
        "groups": {"calls": "one thread"},
        "notes": (),
        "series": tuple(
            Series(group="calls", name=name, curve=name, role=role, unit=unit, passes=passes, samples=tuple(taken))
            for name, taken in samples.items()
        ),
    }
    return Result(**{**named, **fields})
