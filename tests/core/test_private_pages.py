"""When private pages are listed again, and when they're dropped: decisions without a kernel."""

from __future__ import annotations

import random
from collections.abc import Callable

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from replicate.private_pages import MOST_KEPT, PrivatePages, Ranges

FAULT = 10
"""What a fault costs, in copies of a page."""


def cost(turns: list[set[int]], worn: Callable[[int], bool]) -> int:
    """Play turns that write pages; `worn` decides after each, from how many are private, whether all are dropped."""
    private: set[int] = set()
    total = 0
    for written in turns:
        total += FAULT * len(written - private)
        private |= written
        total += len(private)
        if worn(len(private)):
            private.clear()
    return total


def test_a_guest_that_writes_the_same_pages_keeps_them() -> None:
    turns = [set(range(60))] * 1000
    assert cost(turns, PrivatePages().worn) <= 1.1 * cost(turns, lambda pages: False)


def test_a_larger_set_is_dropped_seldom() -> None:
    turns = [set(range(500))] * 1000
    assert cost(turns, PrivatePages().worn) <= 1.3 * cost(turns, lambda pages: False)


def test_pages_that_are_never_written_again_are_given_up() -> None:
    turns = [set(range(1500)), *[set(range(50))] * 1000]
    assert cost(turns, PrivatePages().worn) <= 1.3 * cost(turns[1:], lambda pages: False) + 12 * 1500


def test_random_pages_dont_pile_up() -> None:
    rng = random.Random(1)
    turns = [set(rng.sample(range(100_000), 50)) for _ in range(500)]
    assert cost(turns, PrivatePages().worn) <= 1.5 * cost(turns, lambda pages: True)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 300),
    st.integers(0, 300),
    st.integers(1, 5000),
    st.lists(st.integers(0, 400), max_size=5),
    st.integers(0, 2**32),
)
def test_any_mixture_costs_little_more_than_the_better_extreme(
    fixed: int, loose: int, world: int, spikes: list[int], seed: int
) -> None:
    rng = random.Random(seed)
    always = set(range(fixed))
    turns = [always | {fixed + rng.randrange(world) for _ in range(loose)} for _ in range(400)]
    for at in spikes:
        if at < len(turns):
            turns[at] = turns[at] | set(range(10**6, 10**6 + 1000))
    best = min(cost(turns, lambda pages: False), cost(turns, lambda pages: True))
    assert cost(turns, PrivatePages().worn) <= 2 * best + FAULT * 1100 * (len(spikes) + 1) + 20_000


def test_no_instance_keeps_more_than_the_most() -> None:
    pages = PrivatePages()
    for _ in range(3):
        assert pages.worn(MOST_KEPT + 1)


@pytest.mark.parametrize("steps", ["sfs", "ssfsfs", "sffs"])
def test_ranges_are_listed_when_a_fault_was_counted_and_only_then(steps: str) -> None:
    """s: a look at the ranges; f: a page fault that makes a page private."""
    listed = 0
    truth: Ranges = []

    def scan() -> Ranges:
        nonlocal listed
        listed += 1
        return list(truth)

    def faults() -> int:
        return len(truth)

    pages = PrivatePages()
    for step in steps:
        if step == "f":
            truth.append((len(truth) * 8192, len(truth) * 8192 + 4096))
        else:
            assert pages.find(scan, faults) == truth
    assert listed == 1 + steps.lstrip("s").count("fs")


def test_ranges_that_were_forgotten_are_listed_again() -> None:
    pages = PrivatePages()
    assert pages.find(lambda: [(0, 4096)], lambda: 1) == [(0, 4096)]
    pages.forget()
    assert pages.find(list, lambda: 1) == []
    assert pages.worn(MOST_KEPT + 1)
    assert pages.find(lambda: [(4096, 8192)], lambda: 1) == [(4096, 8192)]
