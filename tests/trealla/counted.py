"""A predicate that is a generator and tells what becomes of it, for tests of threads and of worker processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any


class Counted:
    """Count what a generator does."""

    def __init__(self) -> None:
        self.given: list[int] = []
        self.ended: list[Any] = []
        """What those that have ended were to count to."""

    @property
    def closed(self) -> int:
        """How many have ended."""
        return len(self.ended)

    def upto(self, count: Any, number: Any) -> Iterator[Any]:
        """Give the numbers from 0 on."""
        try:
            for each in range(count):
                self.given.append(each)
                yield each
        finally:
            self.ended.append(count)


def check_that_streams_are_closed_with_their_transaction(open_pool: Callable[..., Any]) -> None:
    """Leave streams open in transactions, and check that their generators end with these."""
    counted = Counted()
    pool = open_pool(replicas=1, predicates={"upto/2": counted.upto})
    for number, opened in ((3, pool.reading()), (4, pool.writing())):
        with opened as prolog:
            stream = prolog.query(f"upto({number}, X)", stream=True)
            assert next(stream) == {"X": 0}
            assert number not in counted.ended
        assert number in counted.ended
    assert pool.query_all("upto(2, X)") == [{"X": 0}, {"X": 1}]
