"""What is known of the private pages of one instance: which they are, and whether they're worth keeping.

Both are decisions without I/O, so that they can be tested without a kernel.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs

__all__ = ["MOST_KEPT", "PrivatePages", "Ranges"]

Ranges = list[tuple[int, int]]
"""Byte ranges of whole pages, in order."""

MOST_KEPT = 2048
"""Pages that an instance keeps at most (8 MiB): with more, all are dropped."""
_FEW = 64
"""Pages that are always worth keeping."""
_FAULT = 10
"""How many pages can be copied in the time that one page takes to be made private by a fault."""
_SPIKE = 4
_TURNS = 64


@attrs.define(eq=False)
class PrivatePages:
    """Remember an instance's private pages, and decide when to drop them.

    A page that's kept costs a copy at each commit or restore, written or not; a page that's dropped costs a page fault when
    it's written again. After all were dropped, the pages that are private at the next turn are those that one turn writes
    (`usual`). What is copied beyond that is the price of keeping; when it has added up to what faulting would have cost,
    they're dropped: never more than twice the cost of the best one could do. They're dropped too after a turn that wrote far
    more than the one before (loading a program, say), and every now and then, in case `usual` was measured at such a turn.
    """

    ranges: Ranges | None = None
    """Which they are, as long as no page was made private since `faults`; None if that isn't known."""
    faults: int = -1
    usual: int = 0
    _fresh: bool = True
    _excess: int = 0
    _turns: int = 0

    def find(self, scan: Callable[[], Ranges], faults: Callable[[], int]) -> Ranges:
        """Give the ranges, by `scan` if need be: if `faults` has counted a page fault of this process since the last one.

        A page becomes private in a page fault of some thread, whoever writes to it, or counts as one.
        """
        now = faults()
        if self.ranges is None or self.faults != now:
            # Counted first: what is made private while the scan runs is found by the next.
            self.ranges, self.faults = scan(), now
        return self.ranges

    def forget(self) -> None:
        """Note that the ranges aren't what they were: pages were dropped, or mapped."""
        self.ranges = None

    def worn(self, pages: int) -> bool:
        """Note that so many private pages were copied at a commit or restore; tell whether to drop them all now."""
        drop = pages > MOST_KEPT
        if self._fresh:
            drop = drop or pages > _SPIKE * self.usual + _FEW
            self.usual = pages
        else:
            self.usual = min(self.usual, pages)
            self._excess += pages - self.usual
            self._turns += 1
            drop = drop or self._excess > _FAULT * self.usual + _FEW or (self._turns >= _TURNS and pages > _FEW)
        self._fresh = drop
        if drop:
            self._excess = self._turns = 0
            self.forget()
        return drop
