"""What Prolog users get wrong, and what an interpreter can't take: an error that says so, and nothing lost."""

from __future__ import annotations

import math
import pickle
from pathlib import Path
from typing import Any

import pytest

from replicate.errors import ArgumentTypeError, Trap
from replicate_trealla import (
    ConsultError,
    InterpreterError,
    OutOfMemoryError,
    Prolog,
    PrologPool,
    PrologResourceError,
    PrologSyntaxError,
    StackOverflowError,
    TreallaAdapter,
)
from replicate_trealla.refusals import find_errno

GREEDY = "deep(X) :- deep(s(X)). count(N) :- M is N + 1, count(M), true. double(A) :- atom_concat(A, A, B), double(B)."
SMALL = 48 << 20


@pytest.mark.parametrize(
    ("goal", "line", "column"),
    [
        ("foo(", 1, 4),
        ("a,\n  [1, 2), b", 2, 3),
        (")", 1, 1),
        ("X = 'x", 1, 5),
        ("{a", 1, 1),
        ("X = ['(', \"]\", 0'[, (a]", 1, 21),
        ("/*", 1, 1),
        ("a,\nb /* c", 2, 3),
        ("a b", None, None),
    ],
)
def test_a_goal_s_syntax_error_has_a_place(shared: Prolog, goal: str, line: int | None, column: int | None) -> None:
    with pytest.raises(PrologSyntaxError) as caught:
        shared.query_once(goal)

    assert (caught.value.line, caught.value.column) == (line, column)


@pytest.mark.parametrize(
    ("goal", "what"), [("", "empty"), (" \n", "empty"), ("?- true.", "without"), (" ?-true", "without")]
)
def test_what_is_no_goal_is_refused_with_what_to_give(shared: Prolog, goal: str, what: str) -> None:
    with pytest.raises(PrologSyntaxError, match=what):
        shared.query_once(goal)


@pytest.mark.parametrize("predicates", [[len], len, "double/2"])
def test_predicates_are_given_by_name(wasm: Path, predicates: Any) -> None:
    with pytest.raises(ArgumentTypeError, match=r"predicates is .*'double/2': double"):
        TreallaAdapter(wasm=wasm, predicates=predicates)


@pytest.mark.parametrize(
    "goal",
    [
        "deep(x)",
        "count(0)",
        "length(L, 100000000)",
        "numlist(1, 30000000, L)",
        "findall(X, repeat, L)",
        "catch(deep(x), _, true)",
        "catch(count(0), _, true)",
        "catch(length(L, 100000000), _, true)",
        "(deep(x) ; true)",
        "\\+ deep(x)",
        "forall(deep(x), true)",
        "(catch(deep(x), _, true) ; true)",
        "\\+ catch(deep(x), _, true)",
    ],
)
def test_no_memory_never_looks_like_no_answer(wasm: Path, goal: str) -> None:
    with PrologPool(wasm=wasm, replicas=1, max_memory=SMALL, program=GREEDY) as pool:
        for ask in (pool.query_once, pool.query_all, lambda goal: pool.query(goal, stream=True).all()):
            with pytest.raises(PrologResourceError, match="memory"):
                ask(goal)
        assert pool.query_once("true") == {}
        assert pool.query_once("fail") is None


@pytest.mark.parametrize("goal", ["findall(X, between(1, 100000, X), L), fail", "numlist(1, 20000, L), fail"])
@pytest.mark.parametrize("limit", [40 << 20, 48 << 20])
def test_a_goal_that_fails_near_the_limit_just_fails(wasm: Path, goal: str, limit: int) -> None:
    with Prolog(wasm=wasm, max_memory=limit) as prolog:
        assert prolog.query_once(goal) is None
        assert prolog.query_once("true") == {}


def test_memory_that_was_refused_to_one_goal_is_not_held_against_the_next(wasm: Path) -> None:
    with PrologPool(wasm=wasm, replicas=1, max_memory=SMALL, program=GREEDY) as pool:
        for _ in range(3):
            with pytest.raises(PrologResourceError):
                pool.query_once("catch(count(0), _, true)")
            assert pool.query_once("fail") is None
            assert pool.query_all("member(X, [1, 2])") == [{"X": 1}, {"X": 2}]


def test_where_the_c_library_notes_refusals_is_found_in_the_code(wasm: Path) -> None:
    assert find_errno(wasm.read_bytes()) > 0
    # i32.const 1024, i32.const 48, i32.store; and the address as offset
    store, offset = b"\x41\x80\x08\x41\x30\x36\x02\x00", b"\x41\x00\x41\x30\x36\x02\x80\x08"
    other = b"\x41\x80\x10\x41\x30\x36\x02\x00"
    assert find_errno(store * 5 + offset) == 1024
    assert find_errno(store * 8 + other) == 1024
    assert find_errno(store * 2) == find_errno(store * 4 + other * 4) == find_errno(b"") == 0


def test_a_trap_for_want_of_memory_says_so(wasm: Path) -> None:
    with PrologPool(wasm=wasm, replicas=1, max_memory=64 << 20, program=GREEDY) as pool:
        for ask in (pool.query_once, pool.execute):
            with pytest.raises(PrologResourceError, match="memory"):
                ask("double(abcdefgh)", timeout=30)
            assert pool.query_once("true") == {}


@pytest.mark.parametrize(
    "goal", ["X = " + "s(" * 30_000 + "z" + ")" * 30_000, "nest(10000, X), copy_term(X, Y), X == Y"]
)
def test_terms_nested_too_deep_overflow_a_stack_and_say_so(wasm: Path, goal: str) -> None:
    program = "nest(0, z) :- !. nest(N, s(T)) :- M is N - 1, nest(M, T)."
    with PrologPool(wasm=wasm, replicas=1, program=program) as pool:
        for ask in (pool.query_once, pool.query_all, pool.execute, lambda goal: pool.query(goal, stream=True).all()):
            with pytest.raises(StackOverflowError, match="nested too deep") as caught:
                ask(goal)
            assert isinstance(caught.value, PrologResourceError)
            assert isinstance(caught.value, Trap)
            assert pickle.loads(pickle.dumps(caught.value)).code is caught.value.code
            assert pool.query_once("true") == {}


def test_an_interpreter_without_memory_is_lost_and_says_so(wasm: Path) -> None:
    with Prolog(wasm=wasm, max_memory=SMALL, program=GREEDY) as prolog:
        with pytest.raises(OutOfMemoryError) as caught, prolog.transaction():
            prolog.query_once("deep(x)")
        assert isinstance(caught.value, InterpreterError)
        assert prolog.query_once("true") == {}


def test_a_goal_of_megabytes_is_taken(shared: Prolog) -> None:
    answer = shared.query_once("length(X, N)", bindings={"X": "x" * 10_000_000})
    assert answer is not None
    assert answer["N"] == 10_000_000


def test_a_goal_of_megabytes_with_an_error_is_shown_in_part(shared: Prolog) -> None:
    with pytest.raises(PrologSyntaxError) as caught:
        shared.query_once(f"X = '{'1,' * 1_000_000}")
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("stream", [False, True])
def test_of_a_hundred_thousand_answers_as_many_are_given_as_are_wanted(shared: Prolog, stream: bool) -> None:
    goal = "between(1, 1000000, X)"

    assert [answer["X"] for answer in shared.query(goal, limit=3, stream=stream)] == [1, 2, 3]
    if not stream:
        assert len(shared.query_all(goal, limit=100_000)) == 100_000


@pytest.mark.parametrize(("data", "line"), [(b"a(1).\na('\xe9').", 2), (b"\xff\xfea(1).", 1)])
def test_a_file_that_isn_t_utf_8_names_the_line(single: Prolog, tmp_path: Path, data: bytes, line: int) -> None:
    (tmp_path / "latin.pl").write_bytes(data)

    with pytest.raises(ConsultError, match=rf"latin\.pl:{line}: this isn't UTF-8") as caught:
        single.consult(tmp_path / "latin.pl")
    assert caught.value.line == line


def test_a_byte_order_mark_and_other_line_ends_are_fine(single: Prolog, tmp_path: Path) -> None:
    (tmp_path / "windows.pl").write_bytes(b"\xef\xbb\xbfa(1).\r\na(2).\r\n")

    single.consult(tmp_path / "windows.pl")

    assert single.query_all("a(X)") == [{"X": 1}, {"X": 2}]


# -- the interpreter's own errors, as docs/PROLOG.md tells them: if one of these fails, the guide is to be changed -----


def test_npm_s_interpreter_cuts_computed_integers(shared: Prolog, is_npm: bool) -> None:
    right: dict[str, Any] = {"X": 10**21}

    assert (shared.query_once("X is 1000000000 * 1000000000 * 1000") == right) is not is_npm
    assert shared.query_once("X is 1000000000000000000 * 1000") == right
    assert shared.query_once("X is 10 ^ 21") == right
    assert shared.query_once(
        "X is 20 * 19 * 18 * 17 * 16 * 15 * 14 * 13 * 12 * 11 * 10 * 9 * 8 * 7 * 6 * 5 * 4 * 3 * 2"
    ) == {"X": math.factorial(20)}


def test_npm_s_interpreter_misses_facts_among_many(single: Prolog, is_npm: bool) -> None:
    single.consult_text("".join(f'row("t{number}", {number}).\n' for number in range(600)))

    assert (single.query_all('row("t2", X)') == [{"X": 2}]) is not is_npm
    assert single.query_all("row(X, 2)") == [{"X": "t2"}]
