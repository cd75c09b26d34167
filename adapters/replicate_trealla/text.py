"""Look at Prolog text from outside: where clauses end. The interpreter does all the real reading."""

from __future__ import annotations

import re
from collections.abc import Iterator

from replicate_trealla.errors import PrologSyntaxError

__all__ = [
    "Clauses",
    "check_goal",
    "clause_starts",
    "end_of_file",
    "ends_open",
    "line_of",
    "line_of_token",
    "place_of",
    "split_clauses",
    "unpartnered",
]

# As in 0'\x41\ and "\x41\": the second backslash ends the escape, and escapes nothing.
_ESCAPE = r"\\(?:x[0-9a-fA-F]+\\|[0-7]+\\|.)"
_ITEM = re.compile(
    rf"""
    (?P<layout> \s+ | %[^\n]* | /\*.*?\*/ )
  | (?P<text> '(?:[^'\\]|{_ESCAPE}|'')*' | "(?:[^"\\]|{_ESCAPE}|"")*" | `(?:[^`\\]|{_ESCAPE}|``)*` )
  | (?P<code> 0'(?: {_ESCAPE} | '' | . ) )
  | (?P<open> (?: /\* | ['"`] ) .* )
  | (?P<end> \.(?=\s|%|\Z) )
  | (?P<word> \w+ )
  | (?P<symbol> [-+*/\\^<>=~:.?@\#&$]+ )
  | (?P<other> . )
    """,
    re.VERBOSE | re.DOTALL,
)
_CLOSING = {")": "(", "]": "[", "}": "{"}
_BEGUN_CODE = re.compile(r"0'\\(?:x[0-9a-fA-F]*|[0-7]+)\Z")
_MAY_END = re.compile(r"\.[\s%]")


def _items(text: str) -> Iterator[re.Match[str]]:
    return _ITEM.finditer(text)


def check_goal(goal: str) -> None:
    """Raise `PrologSyntaxError` if text follows the goal's end, which the interpreter would ignore without a word.

    And for a zero byte, a comment that doesn't end, no text at all, and what a toplevel shows before a goal.
    """
    if "\0" in goal:
        raise PrologSyntaxError(
            "the text contains a zero byte, where the interpreter would stop reading: write it as \\0\\"
        )
    if not goal.strip():
        raise PrologSyntaxError("the goal is empty; give Prolog text, as in 'member(X, [1, 2])'")
    if goal.lstrip().startswith("?-"):
        raise PrologSyntaxError(f"a goal is given without ?-: {goal:.200}")
    if "/*" in goal:
        _check_comments(goal)
    if _MAY_END.search(goal) is None:
        return
    ended = False
    for item in _items(goal):
        if ended and item.lastgroup != "layout":
            rest = goal[item.start() :]
            raise PrologSyntaxError(
                f"text follows the goal's final period: {rest!r:.60}; give one goal at a time, or join them by ','",
                line=line_of(goal, item.start()),
            )
        ended = ended or item.lastgroup == "end"


def _check_comments(goal: str) -> None:
    # A goal that is nothing but the beginning of one ends Trealla 0.23 by a trap.
    for item in _items(goal):
        if item.lastgroup == "open" and item[0].startswith("/*"):
            line, column = place_of(goal, item.start())
            raise PrologSyntaxError(
                f"the comment that begins at line {line}, column {column} doesn't end: {goal:.200}",
                line=line,
                column=column,
            )


def end_of_file(text: str) -> int:
    """Give where a program's text ends for its reader: before a clause ``end_of_file.`` if it has one."""
    if "end_of_file" not in text:
        return len(text)
    clause: list[re.Match[str]] = []
    for item in _items(text):
        if item.lastgroup == "end":
            if len(clause) == 1 and clause[0][0] == "end_of_file":
                return clause[0].start()
            clause.clear()
        elif item.lastgroup != "layout":
            clause.append(item)
    return len(text)


def _spans(text: str) -> Iterator[tuple[int, int | None]]:
    """Give where each clause starts, and where its final period is: None for the last if nothing ends it."""
    start: int | None = None
    for item in _items(text):
        if start is None and item.lastgroup != "layout":
            start = item.start()
        if start is not None and item.lastgroup == "end":
            yield start, item.start()
            start = None
    if start is not None:
        yield start, None


def ends_open(text: str) -> int | None:
    """Give where the last clause starts if nothing ends it: no period, or a quote or comment that stays open."""
    return next((start for start, end in _spans(text) if end is None), None)


def clause_starts(text: str) -> list[tuple[int, str]]:
    """Give each clause of a program, without its final period, and where it starts; the last may be one that doesn't end."""
    return [(start, text[start:end]) for start, end in _spans(text)]


def line_of_token(text: str, token: str) -> int | None:
    """Give the line, counted from 1, of a token that is there once; else None."""
    found = [item.start() for item in _items(text) if item[0] == token]
    return line_of(text, found[0]) if len(found) == 1 else None


def _may_go_on(item: re.Match[str], text: str) -> bool:
    """Tell whether an item may be another one when more of the text is known."""
    end = item.end()
    if end == len(text):
        return True
    if item.lastgroup == "text":
        return text[end] == item[0][0]  # half of a quote that's written twice
    if item.lastgroup == "word":
        return item[0] == "0" and text[end] == "'"
    return item.lastgroup == "code" and _BEGUN_CODE.match(text, item.start()) is not None


class Clauses:
    """Split text that comes piece by piece into clauses. What may go on in the next piece waits for it."""

    def __init__(self) -> None:
        self._begun: list[str] = []
        self._tail = ""

    def feed(self, text: str, *, last: bool = False) -> list[str]:
        """Take the next piece, and give the clauses that end in it, without their final periods."""
        text = self._tail + text
        clauses: list[str] = []
        start = 0 if self._begun else None
        at = 0
        for item in _items(text):
            if not last and _may_go_on(item, text):
                break
            at = item.end()
            if item.lastgroup == "end":
                clauses.append("".join([*self._begun, text[item.start() if start is None else start : item.start()]]))
                self._begun.clear()
                start = None
            elif item.lastgroup != "layout" and start is None:
                start = item.start()
        if start is not None:
            self._begun.append(text[start:at])
        self._tail = text[at:]
        return clauses

    @property
    def begun(self) -> str:
        """The clause that has begun, as far as it's known."""
        return "".join(self._begun)


def unpartnered(text: str) -> int | None:
    """Give where the first bracket or quote is that has no partner; None if all have."""
    opened: list[tuple[str, int]] = []
    for item in _items(text):
        kind, shown = item.lastgroup, item[0]
        if kind == "open":
            return item.start()
        if kind == "other" and shown in _CLOSING.values():
            opened.append((shown, item.start()))
        elif kind == "other" and shown in _CLOSING:
            if not opened:
                return item.start()
            bracket, at = opened.pop()
            if bracket != _CLOSING[shown]:
                return at
    return opened[-1][1] if opened else None


def split_clauses(text: str) -> tuple[list[str], str]:
    """Split a text into its clauses, without their final periods, and what follows the last: "" if that's only layout."""
    splitter = Clauses()
    return splitter.feed(text, last=True), splitter.begun


def place_of(text: str, position: int) -> tuple[int, int]:
    """Give the line and the column, both counted from 1, of a position."""
    return line_of(text, position), position - text.rfind("\n", 0, position)


def line_of(text: str, position: int) -> int:
    """Give the line, counted from 1, of a position."""
    return text.count("\n", 0, position) + 1
