"""Loading programs: whole, or not at all and with the interpreter's reason."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from replicate_trealla import (
    Atom,
    Compound,
    Consulted,
    ConsultError,
    Prolog,
    PrologError,
    PrologPool,
    PrologSyntaxError,
)

SYNTAX = {
    "in the middle": ("a(1).\na(2.\na(3).\n", 2, "mismatched parens"),
    "at the end": ("a(1).\na(2.", 2, "mismatched parens"),
    "in a first clause": ("a(.", 1, ""),
    "a bracket too many": ("a(1).\na(2)).\na(3).", 2, ""),
    "a bracket alone": ("a(1).\n)\na(3).", None, "start of rule expected"),
    "a list that stays open": ("a(1).\na([1, 2).\na(3).", 2, "mismatched"),
    "no operator": ("a(1).\na b c.\n", 2, "operator expected"),
    "no operand": ("a(1).\na :- .\n", 2, "operand"),
    "no final period": ("a(1). a(2)", 1, "the last clause doesn't end"),
    "no final period after a newline": ("a(1).\na(2)\n", 2, "the last clause doesn't end"),
    "no final period after an operator": ("a(1).\na(2) :-\n", 2, "the last clause doesn't end"),
    "a comment after no final period": ("a(1).\na(2) % .\n", 2, "the last clause doesn't end"),
    "an unterminated quoted atom": ("a(1).\na('x).\na(3).", 2, "unterminated quoted"),
    "an unterminated string": ('a(1).\na("x).\na(3).', 2, "unterminated"),
    "an unterminated comment": ("a(1).\n/* a(2).\na(3).", 2, "the last clause doesn't end"),
    "an unterminated comment at the end": ("a(1).\na(2). /*", 2, "the last clause doesn't end"),
    "an escape that isn't one": ("a(1).\na('\\q').", 2, ""),
    "a quote that spans lines": ("a(1).\na('x\ny').\na(3).", 2, ""),
}
PLACES = {
    "after a comment": ("% a\na(1).\na(2.\n", 3),
    "after comments of both kinds": ("a(1).\n\n% a\n/* b\n c */ a(2.\n", 5),
    "in a clause of several lines": ("a(1).\na(X) :- b(X),\n  c(X.\na(3).\n", 3),
    "a token in a clause of several lines": ("% a\na :-\n  b,\n  c d,\n  e.\n", 4),
    "a token that's there several times": ("% a\na :-\n  b,\n  b b,\n  e.\n", 2),
    "after a declaration that it needs": (":- op(700, xfx, ===>).\n% a\na ===> b.\na ==> c.\n", 4),
    "after a flag": (':- set_prolog_flag(double_quotes, atom).\n% a\na("x").\na(.\n', 4),
    "a built-in's clause": ("% a\na(1).\natom_length(x, y).\n", 3),
    "a number for a body": ("% a\na(1).\na :-\n  b,\n  ( c ; 3 ).\n", 3),
    "a number for a head": ("% a\n3 :- a.\n", 2),
    "after a clause for another module": ("m:foo(x).\n% a\nm:foo(x) :- true.\na(.\n", 4),
    "with operators of a module": (":- module(m, []).\n:- op(700, xfx, =>>).\na =>> b.\n\n\na(a b).\n", 6),
    "with an operator that's gone": (":- op(700, xfx, :::).\na ::: b.\n:- op(0, xfx, :::).\n\n\na(.\n", 6),
    "in a grammar": ("a --> b.\n% a\na --> [1.\n", 3),
}
OTHERWISE = {
    "a built-in's clause": ("a(1). atom_length(x, y). a(2).", "permission error"),
    "a number for a body": ("a(1).\na :- b, 3.", "not callable"),
    "a number for a head": ("a(1).\n3 :- a.", "callable"),
    "a variable for a head": ("a(1).\nX :- a.", ""),
    "a module that isn't there": (":- use_module(library(nowhere)). a(1).", "module file not found"),
    "an unknown directive": ("a(1).\n:- write(hello).\na(2).", r"unknown directive: write/1; .*initialization"),
    "an unknown directive that's a fact": ("a(1).\n:- go(1).\na(2).", "unknown directive: go/1"),
    "an unknown directive without arguments": ("a(1).\n:- go.\na(2).", "unknown directive: go/0"),
    "a throwing directive": ("a(1).\n:- throw(x).\na(2).", "unknown directive: throw/1"),
    "an unknown directive of a module": (":- module(m, []).\n:- go(1).\na(2).", "unknown directive: go/1"),
    "a directive with a variable": ("a(1).\n:- go(X).\na(2).", ""),
    "an initialization goal that fails": (":- initialization(a(2)).\na(1).", r"a\(2\)"),
    "an initialization goal that throws": (":- initialization(throw(my(1))).\na(1).", r"threw my\(1\)"),
    "a condition that never ends": ("a(1).\n:- if(fail).\na(2).", "before its end"),
}
GOOD = {
    "nothing": "",
    "a comment": "% a(1).\n/* a(2). */",
    "facts and rules": "a(1). a(X) :- X = 2.",
    "no newline at the end": "a(1).\na(2).",
    "a comment at the end": "a(1). % a(2).",
    "declarations": ":- dynamic(a/1). :- dynamic([b/1, c/2]). :- discontiguous(a/1). :- op(700, xfx, =>). a(1). x => y.",
    "a grammar": "greeting --> [hello], name. name --> [world].",
    "a module": ":- module(m, [a/1]). a(1).",
    "a library": ":- use_module(library(lists)). a(X) :- append(X, _, [1]).",
    "conditions": ":- if(true). a(1). :- else. a(2). :- endif. a(3).",
    "an end of file": "a(1). end_of_file. a((((",
    "end_of_file in other places": "a(end_of_file). a('. end_of_file. '). % end_of_file.\n",
    "an initialization goal": ":- initialization(assertz(a(1))). :- dynamic(a/1).",
    "a quoted newline": "a('x\\\ny').",
    "unicode": "a('h\u00e9llo \U0001f600'). \u00fcber(1).",
}


def knows_nothing(prolog: Prolog) -> None:
    """Check that nothing of the program was kept."""
    for name in ("a", "m:a"):
        with pytest.raises(PrologError, match="existence_error"):
            prolog.query_once(f"{name}(_)")


@pytest.mark.parametrize("case", PLACES)
def test_the_line_of_an_error_is_right_whatever_is_before_it(single: Prolog, case: str) -> None:
    text, line = PLACES[case]

    with pytest.raises(ConsultError, match=f"^program.pl:{line}: ") as caught:
        single.consult_text(text, name="program.pl")

    assert caught.value.line == line
    knows_nothing(single)


@pytest.mark.parametrize("case", SYNTAX)
def test_a_syntax_error_is_raised_and_nothing_loaded(single: Prolog, case: str) -> None:
    text, line, message = SYNTAX[case]

    with pytest.raises(PrologSyntaxError, match=message or None) as caught:
        single.consult_text(text, name="program.pl")

    assert str(caught.value).startswith("program.pl:")
    assert "replicate" not in str(caught.value)
    if line is not None:
        assert caught.value.line == line
    knows_nothing(single)


@pytest.mark.parametrize("case", OTHERWISE)
def test_whatever_else_stops_loading_is_raised_and_nothing_loaded(single: Prolog, case: str) -> None:
    text, message = OTHERWISE[case]

    with pytest.raises(ConsultError, match=message or None):
        single.consult_text(text)

    knows_nothing(single)
    single.consult_text("a(7).")
    assert single.query_all("a(X)") == [{"X": 7}]


@pytest.mark.parametrize("case", GOOD)
def test_programs_are_loaded(single: Prolog, case: str) -> None:
    done = single.consult_text(GOOD[case])

    assert done == Consulted()
    assert single.query_once("catch(forall(a(_), true), error(existence_error(_, _), _), true)") is not None


def test_the_ball_of_an_initialization_goal_is_kept(single: Prolog) -> None:
    with pytest.raises(ConsultError) as caught:
        single.consult_text(":- initialization(throw(my(1, 'Two words', [x]))).")

    assert caught.value.ball == Compound("my", (1, Atom("Two words"), "x"))


def test_a_syntax_error_s_ball_says_what_and_where(single: Prolog) -> None:
    with pytest.raises(PrologSyntaxError) as caught:
        single.consult_text("a(1).\na(2.\n", name="p.pl")

    reason = Atom("mismatched parens/brackets/braces")
    assert caught.value.ball == Compound(
        "error", (Compound("syntax_error", (reason,)), Compound(":", (Atom("p.pl"), 2)))
    )


def test_warnings_are_told_and_raise_nothing(single: Prolog) -> None:
    done = single.consult_text("a(X).\nb(1).\na(2).\n", name="p.pl")

    assert "p.pl:1: singleton: X" in done.warnings
    assert single.query_all("a(1)") == [{}]
    assert single.query_all("b(X)") == [{"X": 1}]


def test_clauses_are_added_to_those_there_are(single: Prolog) -> None:
    for _ in range(2):
        single.consult_text("a(1). b(1). a(2).")

    assert [answer["X"] for answer in single.query("a(X)")] == [1, 2, 1, 2]


def test_what_initialization_goals_write_is_given(single: Prolog) -> None:
    done = single.consult_text(":- initialization((write(hello), nl)). :- initialization(write(there)).")

    assert done.stdout == "hello\nthere"


def test_text_of_megabytes_is_loaded(single: Prolog) -> None:
    single.consult_text("".join(f"row({number}, 'text number {number}').\n" for number in range(20_000)))

    assert single.query_once("row(19999, X)") == {"X": Atom("text number 19999")}


def test_a_zero_byte_is_refused(single: Prolog) -> None:
    with pytest.raises(PrologSyntaxError, match="zero byte") as caught:
        single.consult_text("a(1).\na(\0).")

    assert caught.value.line == 2


def test_files_are_read_here_and_named_in_messages(single: Prolog, tmp_path: Path) -> None:
    good, bad = tmp_path / "good.pl", tmp_path / "bad.pl"
    good.write_text("a(1).\n", "utf-8")
    bad.write_text("a(2).\na(", "utf-8")

    with pytest.raises(PrologSyntaxError, match=r"bad\.pl:2"):
        single.consult(good, bad)
    knows_nothing(single)
    single.consult(str(good))
    assert single.query_all("a(X)") == [{"X": 1}]


def test_files_that_cannot_be_read_say_so(single: Prolog, tmp_path: Path) -> None:
    latin = tmp_path / "latin.pl"
    latin.write_bytes(b"a('\xe9').")

    with pytest.raises(ConsultError, match="can't read"):
        single.consult(tmp_path / "missing.pl")
    with pytest.raises(ConsultError, match="isn't UTF-8"):
        single.consult(latin)


def test_a_pool_rolls_a_program_back_and_goes_on(open_pool: Callable[..., PrologPool]) -> None:
    pool = open_pool(replicas=2, program="a(1).")

    for text, _, _ in SYNTAX.values():
        with pytest.raises(PrologSyntaxError):
            pool.consult_text(text)
    for text, _ in OTHERWISE.values():
        with pytest.raises(ConsultError):
            pool.consult_text(text)

    assert pool.version == 0
    assert pool.execute("true") == {}
    assert pool.query_all("a(X)") == [{"X": 1}]
    pool.consult_text("a(2).")
    assert [pool.query_all("a(X)") for _ in range(3)] == [[{"X": 1}, {"X": 2}]] * 3


def test_programs_given_at_the_start_are_loaded_or_nothing_opens(wasm: Path, tmp_path: Path) -> None:
    file = tmp_path / "more.pl"
    file.write_text("b(X) :- a(X).", "utf-8")

    with Prolog(wasm=wasm, program="a(1).", consult=[file]) as prolog:
        assert prolog.query_all("b(X)") == [{"X": 1}]
    for options in ({"program": "a(1"}, {"consult": [tmp_path / "missing.pl"]}):
        with pytest.raises(ConsultError):
            PrologPool(wasm=wasm, **options)  # type: ignore[arg-type]


def test_an_open_stream_survives_a_program(single: Prolog) -> None:
    answers = single.query("member(X, [1, 2])", stream=True)
    assert next(answers) == {"X": 1}

    single.consult_text(":- set_prolog_flag(occurs_check, true). a(1).")

    assert single.query_all("a(X)") == [{"X": 1}]
    assert list(answers) == [{"X": 2}]
    assert single.query_once("X = f(X)") is None
