"""What an interpreter gets of the world outside: files, libraries, seeds, and where its output goes."""

from __future__ import annotations

import gc
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from replicate.errors import ArgumentRangeError, ArgumentTypeError, PoolTimeoutError, WasiError
from replicate_trealla import Atom, ConsultError, Prolog, PrologPool, TreallaAdapter, randomness

Open = Callable[..., PrologPool]


# -- files -------------------------------------------------------------------------------------------------------------


def test_files_are_given_as_a_mapping(open_pool: Open) -> None:
    files = {"/data/facts.pl": "fact('h\u00e9').\n", "/data/sub/more.pl": b"more(1).\n", "/etc/x": "x"}
    pool = open_pool(replicas=2, files=files)

    pool.execute("consult('/data/facts.pl'), consult('/data/sub/more.pl')")
    assert pool.query_once("fact(X), more(Y)") == {"X": Atom("h\u00e9"), "Y": 1}
    goal = "open('/etc/x', read, S), get_char(S, C), close(S)"
    assert [pool.query_once(goal)["C"] for _ in range(4)] == [Atom("x")] * 4  # type: ignore[index]
    for change in ("open('/data/facts.pl', write, _)", "open('/data/new', write, _)"):
        assert pool.query_once(f"catch({change}, _, fail)") is None
    pool.query_once("catch(delete_file('/data/facts.pl'), _, true)")
    assert pool.query_once("open('/data/facts.pl', read, S), read(S, X), close(S)") is not None


def test_files_are_there_as_long_as_their_interpreter(wasm: Path) -> None:
    with Prolog(wasm=wasm, files={"/data/x.pl": "a(1)."}) as prolog:
        gc.collect()
        folder = Path(prolog._adapter._files.preopens[0].host)
        assert prolog.query_once("consult('/data/x.pl'), a(X)") == {"X": 1}
    del prolog
    gc.collect()
    assert not folder.exists()


@pytest.mark.parametrize("name", ["x", "/x", "data/x", "/data/../x", "/data//x", "/data/", "/data/\0", ""])
def test_names_of_files_are_absolute(wasm: Path, name: str) -> None:
    with pytest.raises(ArgumentRangeError, match="absolute name in a folder"):
        TreallaAdapter(wasm=wasm, files={name: ""})


@pytest.mark.parametrize("files", [["/data/x"], {3: ""}, {"/data/x": 3}, {"/data/x": None}])
def test_what_are_no_files_is_refused(wasm: Path, files: Any) -> None:
    with pytest.raises(ArgumentTypeError):
        TreallaAdapter(wasm=wasm, files=files)


def test_files_cannot_be_in_a_folder_that_is_given_already(wasm: Path, tmp_path: Path) -> None:
    with pytest.raises(WasiError, match="two folders named '/data'"):
        TreallaAdapter(wasm=wasm, files={"/data/x": ""}, preopens={"/data": tmp_path})


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_child_of_a_fork_leaves_the_files(wasm: Path) -> None:
    adapter = TreallaAdapter(wasm=wasm, files={"/data/x": "1"})
    folder = Path(adapter._files.preopens[0].host)

    child = os.fork()
    if child == 0:
        del adapter
        gc.collect()
        os._exit(0)
    os.waitpid(child, 0)
    assert (folder / "x").exists()


# -- libraries ---------------------------------------------------------------------------------------------------------


def test_a_folder_may_hold_libraries(open_pool: Open, tmp_path: Path) -> None:
    (tmp_path / "shapes.pl").write_text(":- module(shapes, [area/2]). area(square(X), A) :- A is X * X.", "utf-8")
    pool = open_pool(
        replicas=2, library=tmp_path, program=":- use_module(library(shapes)). :- use_module(library(lists))."
    )

    assert pool.query_once("area(square(3), A), last([1, 2], X)") == {"A": 9, "X": 2}
    with pytest.raises(ConsultError, match="module file not found"):
        open_pool(replicas=1, program=":- use_module(library(shapes)).")
    with pytest.raises(WasiError, match="isn't a folder"):
        open_pool(library=tmp_path / "missing")


# -- random numbers ----------------------------------------------------------------------------------------------------

DRAW = "X is random_integer, Y is random_integer"


def test_a_seed_makes_numbers_repeat(wasm: Path) -> None:
    def draw(seed: int | None) -> Any:
        with Prolog(wasm=wasm, seed=seed) as prolog:
            return [prolog.query_once(DRAW), prolog.query_once(DRAW)]

    one, same, other, free = draw(1), draw(1), draw(2), draw(None)

    assert one == same
    assert one[0] != one[1]
    assert one != other
    assert free not in (one, draw(None))


def test_a_seeded_pool_s_reads_repeat_and_a_write_goes_on(open_pool: Open) -> None:
    def draw(pool: PrologPool) -> Any:
        return [pool.query_once(DRAW), pool.query_once(DRAW), pool.execute(DRAW), pool.query_once(DRAW)]

    pools = [open_pool(replicas=1, seed=5, reset="each_read") for _ in range(2)]
    one, two = map(draw, pools)

    assert one == two
    assert one[0] == one[1] == one[2] != one[3]


@pytest.mark.parametrize("reset", ["on_commit", "each_read"])
def test_reads_draw_numbers_of_their_own(open_pool: Open, reset: str) -> None:
    pool = open_pool(replicas=2, reset=reset)
    pool.execute(DRAW)

    drawn = [pool.query_once(DRAW) for _ in range(6)]
    pool.execute(DRAW)
    drawn += [pool.query_once(DRAW) for _ in range(6)]

    assert len({str(numbers) for numbers in drawn}) == 12


def test_the_generator_is_found_in_memory(single: Prolog) -> None:
    address = single._guest.state["trealla-seed"]

    assert address
    single._guest.memory.pack("<I", address, 4711)
    written = single.query_once(DRAW)
    assert single.query_once(f"set_seed(4711), {DRAW}") == written


def test_a_generator_that_is_not_found_is_seeded_by_a_goal(open_pool: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(randomness, "_known", {})
    monkeypatch.setattr(randomness, "_kept", lambda guest, key: 0)
    monkeypatch.setattr(randomness, "_search", lambda guest: 0)
    pool = open_pool(replicas=2, reset="each_read")

    assert len({str(pool.query_once(DRAW)) for _ in range(6)}) == 6


def test_where_the_generator_is_is_kept_and_believed_only_if_it_is_there(
    single: Prolog, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(randomness, "cache_folder", lambda: tmp_path)
    guest, key = single._guest, (Path("module.wasm"), 1, 2)
    right = guest.state["trealla-seed"]

    def forget() -> int:
        randomness._known.pop(key, None)
        monkeypatch.setattr(randomness, "fingerprint", lambda module: key)
        randomness.find_seed(guest, key[0])
        found: int = guest.state["trealla-seed"]
        return found

    assert forget() == right
    with monkeypatch.context() as patch:
        patch.setattr(randomness, "_search", lambda guest: pytest.fail("it's known"))
        assert forget() == right
    for wrong in (b"%d" % (right + 4), b"x", b"-4", b"%d" % guest.memory.size, b"\xff"):
        for kept in (tmp_path / "trealla-seeds").iterdir():
            kept.unlink()
        randomness._cache().keep(randomness._name(key), wrong)
        assert forget() == right
    randomness._known.pop(key)


@pytest.mark.parametrize("seed", ["1", 1.5, True])
def test_a_seed_is_a_number(wasm: Path, seed: Any) -> None:
    with pytest.raises(ArgumentTypeError, match="seed is"):
        TreallaAdapter(wasm=wasm, seed=seed)


# -- output ------------------------------------------------------------------------------------------------------------


def test_functions_get_each_line_beside_the_answers(open_pool: Open) -> None:
    out: list[str] = []
    err: list[str] = []
    pool = open_pool(replicas=1, stdout=out.append, stderr=err.append)

    answer = pool.query_once(
        "write('h\u00e9'), nl, write(b), write(user_error, e), nl(user_error), write(user_error, 'f'(1))"
    )
    assert answer is not None
    assert (answer.stdout, answer.stderr) == ("h\u00e9\nb", "e\nf(1)")
    assert (out, err) == (["h\u00e9", "b"], ["e", "f(1)"])
    pool.query_all("write(c), nl, fail ; write(d), nl, fail")
    pool.consult_text("p(X). :- initialization((write(loaded), nl)).")
    assert out[2:] == ["c", "d", "loaded"]
    assert err[2:] == ["Warning: singleton: X, near user:1"] or "singleton: X" in err[2]


def test_what_a_goal_wrote_before_it_was_stopped_is_told(open_pool: Open) -> None:
    err: list[str] = []
    pool = open_pool(replicas=1, stderr=err.append)

    with pytest.raises(TimeoutError):
        pool.query_once("write(user_error, 'so far'), nl(user_error), repeat, fail", timeout=0.2)
    assert err == ["so far"]


def test_loggers_get_lines_by_level(open_pool: Open, caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("test.prolog")
    pool = open_pool(replicas=1, stdout=logger, stderr=logger)

    with caplog.at_level(logging.INFO, "test.prolog"):
        pool.query_once("write('100%s'), nl, write(user_error, bad), nl(user_error)")
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("INFO", "100%s"),
        ("WARNING", "bad"),
    ]


def test_a_sink_that_raises_ends_no_goal(open_pool: Open, caplog: pytest.LogCaptureFixture) -> None:
    def fail(line: str) -> None:
        raise PoolTimeoutError("on purpose")

    pool = open_pool(replicas=1, stdout=fail)

    assert pool.query_once("write(x), nl, X = 1") == {"X": 1}
    assert "on purpose" in caplog.text
    assert "can't take what a goal wrote: 'x'" in caplog.text


def test_threads_lines_are_not_mixed(open_pool: Open) -> None:
    lines: list[str] = []
    pool = open_pool(replicas=2, stderr=lines.append)

    def write(letter: str) -> None:
        for _ in range(20):
            pool.query_once(f"forall(between(1, 30, _), write(user_error, {letter})), nl(user_error)")

    threads = [threading.Thread(target=write, args=(letter,)) for letter in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(lines) == ["a" * 30] * 20 + ["b" * 30] * 20


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_what_takes_no_lines_is_refused(wasm: Path, name: str) -> None:
    with pytest.raises(ArgumentTypeError, match=f"{name} is 'inherit'"):
        TreallaAdapter(wasm=wasm, **{name: "inherit"})  # type: ignore[arg-type]


def test_quiet_leaves_warnings_out(wasm: Path) -> None:
    with Prolog(wasm=wasm, quiet=True) as prolog:
        assert prolog.consult_text("p(X).").warnings == ()
        with pytest.raises(ConsultError):
            prolog.consult_text("a(1).\n:- write(x).\n")


def test_a_trace_is_of_the_goal_alone(wasm: Path) -> None:
    lines: list[str] = []
    with Prolog(wasm=wasm, trace=True, stderr=lines.append, program="p(1). q(X) :- p(X).") as prolog:
        lines.clear()
        answer = prolog.query_once("q(X)")

    assert answer is not None
    assert answer == {"X": 1}
    assert any("CALL q(" in line for line in lines)
    assert any("EXIT p(1)" in line for line in lines)
    assert not any("$replicate:" in line for line in lines)
    assert "CALL p(" in answer.stderr
