"""Prolog in worker processes: on wasmer, which needs another interpreter, and on wasmtime."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from replicate.errors import EngineUnavailableError, GuestTimeoutError, UnsupportedError
from replicate.processes.interpreters import find_interpreter
from replicate.wasi import SystemClock
from replicate_trealla import Atom, PrologError, PrologPool, TreallaAdapter
from replicate_trealla.errors import ConsultError

if sys.platform != "linux":
    pytest.skip("worker processes are for Linux", allow_module_level=True)


@pytest.fixture(params=["wasmtime", "wasmer"])
def pool(request: pytest.FixtureRequest, wasm: Path) -> Iterator[PrologPool]:
    """Open a pool of workers with a small program."""
    try:
        find_interpreter(request.param)
    except EngineUnavailableError as missing:
        pytest.skip(str(missing))
    program = ":- dynamic(edge/2). edge(a, b). edge(b, c)."
    with PrologPool(wasm=wasm, replicas=2, program=program, engine=request.param, workers="processes") as opened:
        yield opened


def test_queries_and_changes_work_as_in_threads(pool: PrologPool) -> None:
    assert pool.query_all("edge(X, _)") == [{"X": Atom("a")}, {"X": Atom("b")}]
    assert pool.execute("assertz(edge(c, d))") == {}
    assert pool.execute("(assertz(edge(d, e)), fail)") is None
    assert pool.query_all("edge(X, _)", limit=1) == [{"X": Atom("a")}]
    assert [answer["X"] for answer in pool.query_all("edge(X, _)")] == [Atom("a"), Atom("b"), Atom("c")]
    answer = pool.query_once("(write(hello), X = Y)", bindings={"Y": [1, "text", 2.5]})
    assert answer is not None
    assert (answer["X"], answer.stdout) == ([1, "text", 2.5], "hello")
    with pytest.raises(PrologError, match="foo/1") as caught:
        pool.execute("(assertz(edge(x, y)), foo(1))")
    assert caught.value.ball is not None
    assert pool.query_once("edge(x, _)") is None


def test_transactions_of_several_goals_and_streams(pool: PrologPool) -> None:
    with pool.writing() as prolog:
        prolog.execute("assertz(edge(c, d))")
        assert len(list(prolog.query("edge(_, X)", stream=True))) == 3
    with pool.reading() as prolog:
        stream = prolog.query("edge(X, _)", stream=True)
        assert next(stream) == {"X": Atom("a")}
        assert prolog.query_once("edge(b, X)") == {"X": Atom("c")}
        assert next(stream) == {"X": Atom("b")}
        stream.close()
        assert prolog.query_once("edge(c, X)") == {"X": Atom("d")}
    assert [answer["X"] for answer in pool.query("edge(X, _)", stream=True)] == [Atom("a"), Atom("b"), Atom("c")]


def test_programs_are_loaded_whole_or_not_at_all(pool: PrologPool, tmp_path: Path) -> None:
    path = tmp_path / "more.pl"
    path.write_text("more(1). more(2).\n")
    pool.consult(path)
    assert len(pool.query_all("more(_)")) == 2
    with pytest.raises(ConsultError):
        pool.consult_text("less(1). less(2) :- .\n")
    with pytest.raises(PrologError):
        pool.query_once("less(_)")


def test_an_endless_goal_is_stopped(pool: PrologPool) -> None:
    for ask in (pool.query_once, pool.execute):
        with pytest.raises(GuestTimeoutError):
            ask("(repeat, fail)", timeout=0.3)
    assert pool.query_once("edge(a, X)") == {"X": Atom("b")}
    assert pool.execute("assertz(edge(c, d))", timeout=60) == {}
    assert pool.version == 1


def test_deep_answers_of_writes_arrive(wasm: Path) -> None:
    program = "nest(0, z) :- !. nest(N, s(T)) :- M is N - 1, nest(M, T)."
    with PrologPool(wasm=wasm, program=program, replicas=1, workers="processes") as pool:
        answer = pool.execute("nest(5000, X)")

    assert answer is not None
    assert str(answer["X"]).count("s(") == 5000


def test_an_adapter_that_cannot_be_carried_to_a_worker_is_refused(wasm: Path) -> None:
    """Half of it there and half of it here would wait for each other for ever."""

    class Here(SystemClock):
        pass

    with pytest.raises(
        UnsupportedError, match="'trealla' has to be carried to the worker processes.*workers='threads'"
    ):
        PrologPool(wasm=wasm, workers="processes", clock=Here())


def test_adapters_are_pickled_without_paths(wasm: Path, tmp_path: Path) -> None:
    """Python 3.13 pickles paths in a way that other versions can't read."""
    program = tmp_path / "program.pl"
    program.write_text("p(1).")
    adapter = TreallaAdapter(
        wasm=wasm, consult=[program], preopens={"/data": tmp_path}, library=tmp_path, files={"/files/x.pl": "x(1)."}
    )
    adapter.source()
    assert b"pathlib" not in pickle.dumps(adapter, 5)
