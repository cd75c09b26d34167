"""Measure variants against each other and print what was aimed at and what came out.

Absolute times say little on a shared machine: the variants of one figure run in turn, many short rounds each, and the
figure is the ratio of their best rounds.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence

import attrs

__all__ = ["Figure", "best_of", "show"]


@attrs.frozen
class Figure:
    """Hold one measured figure beside its goal; `better` is ``"at least"`` or ``"at most"``."""

    what: str
    goal: float
    measured: float
    better: str = "at least"
    unit: str = "x"
    detail: str = ""

    @property
    def passed(self) -> bool:
        """Tell whether the goal was reached."""
        return self.measured >= self.goal if self.better == "at least" else self.measured <= self.goal


def best_of(variants: Sequence[Callable[[], object]], *, calls: int, rounds: int = 25) -> list[float]:
    """Give each variant's seconds per call: the best of `rounds` interleaved rounds of `calls` calls."""
    best = [float("inf")] * len(variants)
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            for position, variant in enumerate(variants):
                began = time.perf_counter()
                for _ in range(calls):
                    variant()
                best[position] = min(best[position], (time.perf_counter() - began) / calls)
    finally:
        gc.enable()
    return best


def show(figures: Sequence[Figure]) -> int:
    """Print the figures as a table; give the number that missed their goal."""
    width = max(len(figure.what) for figure in figures)
    print(f"{'what':{width}}  {'goal':>16}  {'measured':>10}  pass  detail")
    for figure in figures:
        goal = f"{figure.better} {figure.goal:g} {figure.unit}"
        measured = f"{figure.measured:.2f} {figure.unit}"
        print(
            f"{figure.what:{width}}  {goal:>16}  {measured:>10}  {'yes' if figure.passed else 'NO':4}  {figure.detail}"
        )
    return sum(not figure.passed for figure in figures)
