"""Where clauses and goals end, seen from outside."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from replicate_trealla import PrologSyntaxError
from replicate_trealla.text import Clauses, check_goal, end_of_file, ends_open, line_of, split_clauses

ONE_GOAL = [
    "foo(X)",
    "foo(X).",
    "foo(X). % and that's it",
    "foo(X).\n/* really. yes. */\n",
    "X = 'a. b', Y = \"c. d\", Z = `e. f`",
    "X = 'it''s. so'",
    r"X = 'a\'. b'",
    r"X = 'a\x41\', Y = '. b'",
    r"X = 'a\101\', Y = '. b'",
    "X = 0'. , Y = 0'a",
    "X = 0'', Y = 0'\\x41\\. ",
    "X = 1.5",
    "X = a.b",
    "X =.. Y",
    "% foo. bar\nX = 1",
    "/* foo. bar */ X = 1",
    "X = [].",
]
MORE_THAN_ONE = [
    "foo. bar",
    "foo. bar.",
    "foo.\nbar",
    "X = 'a'. Y = 1",
    "foo. .",
    "foo.% bar\nbaz",
    "X = \"a\". 'b. c'",
    r'X = "\x0\". Y = 1',
    r"X = 'a\12\'. Y = 1",
]


@pytest.mark.parametrize("goal", ONE_GOAL)
def test_one_goal_is_taken(goal: str) -> None:
    check_goal(goal)


@pytest.mark.parametrize("goal", MORE_THAN_ONE)
def test_text_after_a_goal_is_refused(goal: str) -> None:
    with pytest.raises(PrologSyntaxError, match="final period"):
        check_goal(goal)


def test_a_zero_byte_in_a_goal_is_refused() -> None:
    with pytest.raises(PrologSyntaxError, match="zero byte"):
        check_goal("X = 'a\0b'")


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("a. end_of_file. b((", "end_of_file. b(("),
        ("a.\nend_of_file.", "end_of_file."),
        ("a. b.", ""),
        ("a(end_of_file). b.", ""),
        ("a. % end_of_file.\nb.", ""),
        ("a. 'end_of_file. '. b.", ""),
        ("end_of_file(x). b.", ""),
    ],
)
def test_a_program_ends_at_its_end_of_file(text: str, rest: str) -> None:
    assert text[end_of_file(text) :] == rest


@pytest.mark.parametrize("text", ["", "a.", "a. ", "a. % b", "a.\n/* b */", "a('b. ').", "% only this", "a.\n%b"])
def test_a_program_that_ends_is_seen_to(text: str) -> None:
    assert ends_open(text) is None


@pytest.mark.parametrize(
    ("text", "clause"),
    [
        ("a. b", "b"),
        ("a. b(c", "b(c"),
        ("a.\nb('c. d.", "b('c. d."),
        ('a. "b.', '"b.'),
        ("a. /* b. c.", "/* b. c."),
        ("a.b", "a.b"),
        ("a :- b,\n c", "a :- b,\n c"),
    ],
)
def test_a_clause_that_does_not_end_is_found(text: str, clause: str) -> None:
    start = ends_open(text)

    assert start is not None
    assert text[start:] == clause


def test_lines_count_from_one() -> None:
    assert [line_of("a\nb\nc", position) for position in (0, 1, 2, 4)] == [1, 1, 2, 3]


@pytest.mark.parametrize(
    ("text", "clauses", "rest"),
    [
        ("", [], ""),
        ("% nothing", [], ""),
        ("a. b :- c.\n", ["a", "b :- c"], ""),
        ("a. b", ["a"], "b"),
        ("/* a. */ 'b. c'. d", ["'b. c'"], "d"),
        ("a. % b.", ["a"], ""),
        ("X = a.b. Y = 1.5.", ["X = a.b", "Y = 1.5"], ""),
        ("a :- 'b. c.", [], "a :- 'b. c."),
        ("a. /* b.", ["a"], "/* b."),
        (r'X = "\x41\". b.', [r'X = "\x41\"', "b"], ""),
        (". a.", ["", "a"], ""),
    ],
)
def test_a_text_is_split_into_clauses(text: str, clauses: list[str], rest: str) -> None:
    assert split_clauses(text) == (clauses, rest)


@given(st.lists(st.text("ab. '\"\\%/*\n0x", max_size=6), max_size=8))
@example(["0'", "0."])
@example(["'a'", "'. b'."])
@example(["'a''", ". b'."])
@example(["X = 0'\\x4", "1\\. b."])
@example(["X = 0'\\1", "01\\. b."])
@settings(max_examples=1000)
def test_it_doesnt_matter_in_which_pieces_a_text_comes(pieces: list[str]) -> None:
    splitter = Clauses()
    clauses = [clause for piece in pieces for clause in splitter.feed(piece)] + splitter.feed("", last=True)

    assert (clauses, splitter.begun) == split_clauses("".join(pieces))
