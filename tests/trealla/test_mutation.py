"""Reads that change something: nobody else ever sees it, and a pool can be told to refuse them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from replicate.errors import AdapterError, ArgumentRangeError
from replicate_trealla import MutationError, PrologError, PrologPool, TreallaAdapter, watch
from replicate_trealla.fetch import module_path

Open = Callable[..., Any]
PROGRAM = """
:- dynamic([n/1, more/2]).
n(0). n(1).
safe(G, R) :- catch((call(G) -> R = yes ; R = no), E, (E = error(K, _) -> R = K ; R = E)).
quietly(G) :- catch(G, _, true).
quietly(_).
seen(G, S) :- catch(findall(G, call(G), S), error(S, _), true).
"""
CHANGES = [
    "assertz(n(2))",
    "asserta(n(3))",
    "assert(n(4))",
    "assertz((more(X, Y) :- n(X), n(Y)))",
    "assertz(fresh(1))",
    "retract(n(0))",
    "retract((n(_) :- true))",
    "retractall(n(_))",
    "abolish(n/1)",
    "abolish(more/2)",
    "dynamic(born/3)",
    "bb_put(key, 1)",
    "bb_b_put(key, 2)",
    "nb_setval(variable, 3)",
    "b_setval(variable, 4)",
    "set_prolog_flag(double_quotes, codes)",
    "set_prolog_flag(unknown, fail)",
    "set_prolog_flag(occurs_check, true)",
    "op(700, xfx, ===>)",
    "op(0, xfx, =@=)",
    "consult('/data/more.pl')",
    "use_module(library(dif))",
    "use_module(library(assoc))",
    "set_seed(7)",
    "open('/data/facts.txt', read, _)",
    "open('/data/facts.txt', read, _, [alias(left)])",
    "open('/data/facts.txt', read, S), read(S, _)",
    "open('/data/facts.txt', read, S), set_input(S)",
    "setenv('COLOUR', blue)",
    "G = assertz(n(5)), call(G)",
    "maplist(assertz, [n(6), n(7)])",
    "forall(member(X, [8, 9]), assertz(n(X)))",
    "findall(X, (member(X, [1, 2]), assertz(n(X))), _)",
    "\\+ \\+ assertz(n(10))",
    "catch((assertz(n(11)), throw(x)), _, true)",
    "Name = assertz, G =.. [Name, n(12)], call(G)",
    "setup_call_cleanup(true, member(_, [1, 2, 3]), assertz(n(13)))",
    "freeze(X, assertz(n(14))), X = 1",
    "retract(n(1)), assertz(n(1))",
    "assertz((:- dynamic(zz/1)))",
    "user:assertz(n(15))",
    "assertz(other:n(16))",
    "other:assertz(n(17))",
    "write(half)",
]
OBSERVERS = [
    "findall(X, n(X), L)",
    "findall(X-Y, more(X, Y), L)",
    "safe(fresh(_), R)",
    "safe(born(_, _, _), R)",
    "safe(bb_get(key, X), R)",
    "safe(nb_getval(variable, X), R)",
    "safe(b_getval(variable, X), R)",
    'X = "ab", X = [A|_]',
    "safe(undefined_here, R)",
    "(X = f(X) -> R = yes ; R = no)",
    "safe(current_op(_, _, ===>), R)",
    "safe(current_op(P, T, =@=), R)",
    "safe(loaded_by_a_read(_), R)",
    "safe(dif(a, b), R)",
    "safe(list_to_assoc([], _), R)",
    "findall(F-V, (member(F, [double_quotes, unknown, occurs_check]), current_prolog_flag(F, V)), L)",
    "safe(stream_property(_, alias(left)), R)",
    "findall(x, stream_property(_, mode(_)), L)",
    "current_input(S), safe(stream_property(S, alias(user_input)), R)",
    "safe(getenv('COLOUR', X), R)",
    "safe(zz(_), R)",
    "safe(other:n(X), R)",
]
# All of them at once: a query for each would make of these tests the longest of all.
OBSERVATION = ", ".join(f"seen(({goal}), S{number})" for number, goal in enumerate(OBSERVERS))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder for guests."""
    tmp_path = tmp_path_factory.mktemp("data")
    (tmp_path / "more.pl").write_text("loaded_by_a_read(1).\n")
    (tmp_path / "facts.txt").write_text("fact(1).\nfact(2).\n")
    return tmp_path


def observe(ask: Any) -> Any:
    try:
        return str(ask(OBSERVATION))
    except PrologError as error:
        return str(error)


@pytest.fixture(scope="module")
def pool(wasm: Path, data: Path) -> Iterator[PrologPool]:
    """Open a pool of one replica, which every read must share."""
    with PrologPool(wasm=wasm, replicas=1, program=PROGRAM, preopens={"/data": data}) as opened:
        yield opened


@pytest.fixture(scope="module")
def refusing(wasm: Path, data: Path) -> Iterator[PrologPool]:
    """Open one whose reads mustn't change facts."""
    with PrologPool(wasm=wasm, replicas=1, program=PROGRAM, preopens={"/data": data}, on_mutation="raise") as opened:
        yield opened


@pytest.mark.parametrize("goal", CHANGES)
def test_what_a_read_changes_is_seen_by_itself_only(pool: Any, goal: str) -> None:
    before = observe(pool.query_once)
    for ask in (pool.query_once, pool.query_all, lambda goal: pool.query(goal, stream=True).first()):
        try:
            ask(goal)
        except PrologError:
            ask(f"quietly(({goal}))")
        assert observe(pool.query_once) == before
    with pool.reading() as reader:
        try:
            reader.query_once(goal)
        except PrologError:
            pass
    assert observe(pool.query_once) == before


def test_the_observers_see_every_change(data: Path, wasm: Path) -> None:
    """Without a reset, most goals are seen: otherwise the test above would prove nothing."""
    unseen = []
    with PrologPool(wasm=wasm, replicas=1, program=PROGRAM, preopens={"/data": data}) as pool:
        for goal in CHANGES:
            with pool.reading() as reader:
                before = observe(reader.query_once)
                try:
                    reader.query_once(goal)
                except PrologError:
                    unseen.append(goal)
                    continue
                if observe(reader.query_once) == before:
                    unseen.append(goal)
    assert len(unseen) <= len(CHANGES) // 4, unseen


def test_any_order_of_reads_that_change_and_writes(open_pool: Open, data: Path) -> None:
    pool = open_pool(replicas=1, program=PROGRAM, preopens={"/data": data})
    choose = random.Random(5)
    model = [0, 1]
    for step in range(80):
        if choose.random() < 0.15:
            pool.execute("assertz(n(N))", bindings={"N": step + 100})
            model.append(step + 100)
        goal = ", ".join(f"quietly(({one}))" for one in choose.sample(CHANGES, choose.randrange(1, 4)))
        ending = choose.choice(["true", "fail", "throw(stop)"])
        try:
            choose.choice([pool.query_once, pool.query_all])(f"{goal}, {ending}")
        except PrologError:
            pass
        assert pool.query_once("findall(_X, n(_X), L)") == {"L": model}
        assert pool.query_once('X = "ab"') == {"X": "ab"}


HARMLESS = [
    "n(X)",
    "X is 2 ** 100 + random_integer mod 2",
    "findall(X, n(X), L), length(L, N), sort(L, S), msort(L, M)",
    "bagof(X-Y, (n(X), n(Y)), L)",
    "setof(X, n(X), L)",
    "forall(n(X), integer(X))",
    "catch(throw(x), E, true)",
    "setup_call_cleanup(true, member(X, [1, 2]), true)",
    "copy_term(f(X, Y), Z), term_variables(Z, V)",
    "once(member(X, [1, 2])), between(1, 3, Y)",
    "atom_codes(A, [97]), sub_atom(A, 0, 1, _, S), atom_concat(S, S, T)",
    "append(X, Y, [1, 2, 3])",
    "clause(more(_, _), B)",
    "current_op(P, xfx, is)",
    "predicate_property(n(_), dynamic)",
    "current_prolog_flag(bounded, F)",
    "number_codes(N, [49]), X = 'new atom', Y = \"text\"",
    "length(L, 3), nth0(1, L, a), reverse(L, R), sum_list([1, 2], S)",
    "select(X, [1, 2, 3], R)",
    "phrase(([a], [b]), [a, b])",
]


@pytest.mark.parametrize("goal", HARMLESS)
def test_harmless_goals_cost_no_reset(refusing: PrologPool, goal: str) -> None:
    pool = refusing
    pool.query_once("true")
    before = pool.stats()
    for ask in (pool.query_once, pool.query_all):
        try:
            ask(goal, limit=20) if ask == pool.query_all else ask(goal)
        except PrologError as error:
            pytest.skip(f"this Trealla doesn't have it: {error}")
    pool.query_once("true")
    stats = pool.stats()
    assert (stats.resets, stats.failed_reads) == (before.resets, before.failed_reads)


@pytest.mark.parametrize("goal", [goal for goal in CHANGES if "assert" in goal or "retract" in goal or "flag" in goal])
def test_a_pool_can_refuse_them(refusing: PrologPool, goal: str) -> None:
    pool = refusing
    before = observe(pool.query_once)
    for ask in (pool.query_once, pool.query_all, lambda goal: pool.query(goal, stream=True).all()):
        with pytest.raises(MutationError, match="use execute"):
            ask(f"quietly(({goal}))")
        assert observe(pool.query_once) == before
    with pytest.raises(MutationError), pool.reading() as reader:
        reader.query_once(f"quietly(({goal}))")
    assert observe(pool.query_once) == before


def test_what_writes_change_costs_reads_no_reset(open_pool: Open) -> None:
    pool = open_pool(replicas=1, program=PROGRAM)

    def stream(writer: Any) -> None:
        for answer in writer.query("member(X, [5, 6]), assertz(n(X))", stream=True):
            assert answer["X"] == 5
            break

    for change in (
        lambda writer: writer.execute("assertz(n(3))"),
        lambda writer: writer.execute("setup_call_cleanup(true, member(_, [1, 2]), assertz(n(4)))"),
        lambda writer: writer.consult_text("p(1). :- initialization(assertz(n(5)))."),
        lambda writer: writer.query_all("retract(n(_))"),
        stream,
    ):
        with pool.writing() as writer:
            change(writer)
        for _ in range(3):
            assert pool.query_once("true") == {}
        assert pool.stats().resets == 0


def test_a_pool_that_refuses_lets_writes_change_what_they_like(open_pool: Open) -> None:
    pool = open_pool(replicas=1, program=PROGRAM, on_mutation="raise")
    pool.execute("assertz(n(20)), op(700, xfx, ===>)")
    with pool.writing() as writer:
        writer.execute("assertz(n(21))")
        writer.consult_text("p(1).")
    assert pool.query_all("n(X)")[-1] == {"X": 21}
    with pytest.raises(MutationError, match="consulting"), pool.reading() as reader:
        reader.consult_text("q(1).")
    with pytest.raises(PrologError):
        pool.query_once("q(X)")


def test_a_wrong_choice_is_refused(wasm: Path) -> None:
    with pytest.raises(ArgumentRangeError, match="'ignore'"):
        PrologPool(wasm=wasm, on_mutation="ignore")  # type: ignore[arg-type]


def test_a_module_that_cannot_be_watched_is_reset_after_each_read(
    wasm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REPLICATE_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(watch, "_ANCHORS", ("no_such_builtin/9",))
    watch._watched.cache_clear()
    try:
        assert TreallaAdapter(wasm=wasm).reset == "each_read"
        with PrologPool(wasm=wasm, replicas=1, program=PROGRAM) as pool:
            for _ in range(2):
                assert pool.query_once("assertz(n(2)), findall(_X, n(_X), L)") == {"L": [0, 1, 2]}
        with pytest.raises(AdapterError, match="on_mutation"):
            PrologPool(wasm=wasm, on_mutation="raise")
    finally:
        watch._watched.cache_clear()


def test_every_builtin_is_found_and_the_module_stays_what_it_was(trealla: Path) -> None:
    from replicate.binary import read_module

    wasm = module_path(trealla).read_bytes()
    info = read_module(wasm)
    base, functions = watch._only_element_segment(wasm, info) or (0, [])
    names = watch.find_builtins(wasm, info, range(base, base + len(functions)))
    assert sum(len(given) for given in names.values()) == 450
    made = read_module(watch._watch(wasm).wasm)
    assert made.functions[: len(info.functions)] == info.functions
    assert made.exports[: len(info.exports)] == info.exports
