"""`replicate snapshot`, `diff`, `bake` and `verify`, and how calls are written."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from replicate import Snapshot, load_engine
from replicate.cli.calls import CallSyntaxError, parse_call

Run = Callable[..., Any]

COUNTER = """(module
  (global $n (mut i64) (i64.const 0))
  (func (export "add") (param i64) (result i64)
    (global.set $n (i64.add (global.get $n) (local.get 0))) (global.get $n))
  (func (export "scale") (param f64 externref) (result f64) (f64.mul (local.get 0) (f64.const 2)))
  (func (export "fail") unreachable))"""


@pytest.fixture
def counter(tmp_path: Path) -> Path:
    path = tmp_path / "counter.wat"
    path.write_text(COUNTER)
    return path


@pytest.mark.parametrize(
    ("text", "name", "args"),
    [
        ("clear()", "clear", ()),
        (" put( 1 , -2 ) ", "put", (1, -2)),
        ("f(0x1F,-0xff,+7,1_000)", "f", (31, -255, 7, 1000)),
        ("f(1.5, -2e9, .5, 3., inf, -inf)", "f", (1.5, -2e9, 0.5, 3.0, math.inf, -math.inf)),
        ("f(null)", "f", (None,)),
        ("ns:mod/fn, really(1)", "ns:mod/fn, really", (1,)),
        (f"f({2**127})", "f", (2**127,)),
    ],
)
def test_calls_are_read(text: str, name: str, args: tuple[Any, ...]) -> None:
    call = parse_call(text)

    assert (name, args) == (call.name, call.args)
    assert [*map(type, args)] == [*map(type, call.args)]


def test_nan_is_read() -> None:
    (value,) = parse_call("f(nan)").args

    assert isinstance(value, float)
    assert math.isnan(value)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("clear", "isn't a call"),
        ("f(1", "isn't a call"),
        ("f(1) 2", "isn't a call"),
        ("", "isn't a call"),
        ("(1)", "has no function's name"),
        ("f(1,)", "argument 2 of 'f(1,)' is missing"),
        ("f(,1)", "argument 1"),
        ("f(one)", "argument 1 of 'f(one)' is 'one'"),
        ("f(1, 'a')", "argument 2"),
        ("f(0x)", "argument 1"),
        ("f(1_)", "isn't a number"),
        ("f(--1)", "argument 1"),
    ],
)
def test_wrong_syntax_is_explained(text: str, problem: str) -> None:
    with pytest.raises(CallSyntaxError) as caught:
        parse_call(text)

    assert problem in caught.value.message


def test_snapshot_calls_and_saves(run: Run, counter: Path, tmp_path: Path) -> None:
    target = tmp_path / "s.snap"

    result = run(
        "snapshot",
        str(counter),
        "--call",
        "add(40)",
        "--call",
        "scale(1.5, null)",
        "--call",
        "add(-0x2)",
        "-o",
        str(target),
    )

    assert (0, "") == (result.code, result.err)
    assert [["add(40)", "40"], ["scale(1.5, null)", "3.0"], ["add(-0x2)", "38"]] == [
        line.strip().rsplit(maxsplit=1) for line in result.out.splitlines()[:3]
    ]
    assert ((0, 38),) == Snapshot.load(target).globals


@pytest.mark.parametrize(
    ("call", "code", "message"),
    [
        ("add", 2, "isn't a call"),
        ("add(1.5)", 1, "must be an int"),
        ("add()", 1, "takes 1 argument"),
        ("subtract(1)", 1, "subtract"),
        ("fail()", 1, "unreachable"),
    ],
)
def test_a_call_that_fails_saves_nothing(
    run: Run, counter: Path, tmp_path: Path, call: str, code: int, message: str
) -> None:
    target = tmp_path / "s.snap"

    result = run("snapshot", str(counter), "--call", call, "-o", str(target))

    assert code == result.code
    assert message in " ".join(result.err.replace("│", " ").split())
    assert not target.exists()


def test_snapshot_says_which_imports_it_cannot_give(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "needy.wat"
    path.write_text(
        '(module (import "env" "f" (func)) (import "wasi_snapshot_preview1" "fd_close" (func (param i32) (result i32))))'
    )

    result = run("snapshot", str(path), "-o", str(tmp_path / "s.snap"))

    assert 1 == result.code
    assert "imports env.f, which the command line can't give" in result.err


def test_snapshot_initialises_a_reactor(run: Run, kv_path: Path, tmp_path: Path) -> None:
    target = tmp_path / "kv.snap"

    result = run("snapshot", str(kv_path), "--call", "put(1,2)", "--call", "initialized()", "-o", str(target))

    assert 0 == result.code
    assert ["initialized()", "1"] == result.out.splitlines()[1].split()


def test_diff_tells_what_changed(run: Run, counter: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one.snap", tmp_path / "two.snap"
    run("snapshot", str(counter), "-o", str(one))
    run("snapshot", str(counter), "--call", "add(-1)", "-o", str(two))

    equal, bare, named = (
        run("diff", str(one), str(one)),
        run("diff", str(one), str(two)),
        run("diff", str(one), str(two), "--module", str(counter)),
    )

    assert (0, "no difference\n", "") == (equal.code, equal.out, equal.err)
    assert (3, "global 0: 0x0 -> 0xffffffffffffffff\n", "") == (bare.code, bare.out, bare.err)
    assert (3, "global 0 ($n): 0 -> -1\n", "") == (named.code, named.out, named.err)


def test_diff_refuses_what_is_no_snapshot_of_that_module(
    run: Run, counter: Path, kv_path: Path, tmp_path: Path
) -> None:
    one = tmp_path / "one.snap"
    run("snapshot", str(counter), "-o", str(one))

    for arguments, message in [
        ((str(one), str(counter)), "isn't a snapshot"),
        ((str(one), str(tmp_path / "none.snap")), "can't read the snapshot"),
        ((str(one), str(one), "--module", str(kv_path)), "the very binary"),
    ]:
        result = run("diff", *arguments)
        assert 1 == result.code
        assert message in result.err


def test_bake_writes_a_module_that_starts_there(run: Run, kv_path: Path, tmp_path: Path) -> None:
    taken, target = tmp_path / "kv.snap", tmp_path / "baked.wasm"
    run("snapshot", str(kv_path), "--call", "put(7, 49)", "-o", str(taken))

    result = run("bake", str(kv_path), str(taken), "-o", str(target), "--without-export", "_initialize")

    assert (0, "") == (result.code, result.err)
    with load_engine().compile(target).instantiate() as instance:
        assert 49 == instance.call("get", 7)
        assert 1 == instance.call("initialized")


def test_bake_refuses_another_module(run: Run, kv_path: Path, counter: Path, tmp_path: Path) -> None:
    taken, target = tmp_path / "kv.snap", tmp_path / "baked.wasm"
    run("snapshot", str(kv_path), "-o", str(taken))

    result = run("bake", str(counter), str(taken), "-o", str(target))

    assert 1 == result.code
    assert "of another module" in result.err
    assert not target.exists()


def test_verify_passes_a_module_that_is_carried(run: Run, counter: Path) -> None:
    result = run("verify", str(counter), "--calls", "4", "--scripts", "5", "--seed", "1")

    assert (0, "") == (result.code, result.err)
    assert "carried bit for bit: 5 scripts of up to 4 calls on wasmtime, --seed 1" in result.out


def test_verify_fails_with_a_script_and_its_seed(run: Run, counter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    genuine = Snapshot.from_bytes
    monkeypatch.setattr(
        Snapshot,
        "from_bytes",
        lambda data: Snapshot(
            **{**_fields(genuine(data)), "globals": tuple((at, 0) for at, _ in genuine(data).globals)}
        ),
    )

    result = run("verify", str(counter), "--seed", "3", "--calls", "5")

    assert 1 == result.code
    assert "isn't what it is alone" in result.err
    assert "add(" in result.err or "Call('add'" in result.err


def _fields(snapshot: Snapshot) -> dict[str, Any]:
    return {
        name: getattr(snapshot, name) for name in ("module_digest", "memories", "globals", "tables", "dropped", "host")
    }


def test_verify_refuses_what_cannot_be_replicated(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "shared.wat"
    path.write_text("(module (memory 1 1 shared))")

    result = run("verify", str(path))

    assert 1 == result.code
    assert "shared between threads" in result.err


def test_verify_says_which_extra_is_missing(run: Run, counter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("replicate.testing")]:
        monkeypatch.delitem(sys.modules, name)
    # As where it isn't installed: the kit's own check looks for it, and its import fails.
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    result = run("verify", str(counter))

    assert 1 == result.code
    assert "pip install 'wasm-replicate[testing]'" in result.err


INTERRUPTED = """
import signal, sys, threading
from replicate.cli import main
threading.Timer(1.5, signal.pthread_kill, [threading.main_thread().ident, signal.SIGINT]).start()
sys.argv[1:1] = ["snapshot"]
sys.exit(main())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there's no pthread_kill there")
def test_ctrl_c_ends_an_endless_call(tmp_path: Path) -> None:
    (tmp_path / "guest.wat").write_text('(module (memory 1) (func (export "spin") (loop $l (br $l))))')
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, "guest.wat", "--call", "spin()", "-o", "out.snap"],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=tmp_path,
    )
    assert (done.returncode, done.stderr) == (130, "error: interrupted\n")
    assert not (tmp_path / "out.snap").exists()


@pytest.mark.parametrize("command", ["snapshot", "bake", "bake over the snapshot", "bench"])
def test_an_output_is_never_an_input(run: Run, counter: Path, tmp_path: Path, command: str) -> None:
    taken = tmp_path / "counter.snap"
    run("snapshot", str(counter), "-o", str(taken))
    arguments = {
        "snapshot": ["snapshot", str(counter), "-o", str(counter)],
        "bake": ["bake", str(counter), str(taken), "-o", str(tmp_path / "." / counter.name)],
        "bake over the snapshot": ["bake", str(counter), str(taken), "-o", str(taken)],
        "bench": ["bench", str(counter), "--read", "add(1)", "--json", str(counter)],
    }[command]
    before = (counter.read_bytes(), taken.read_bytes())

    result = run(*arguments)

    assert (1, "") == (result.code, result.out)
    assert "is the input itself" in result.err
    assert before == (counter.read_bytes(), taken.read_bytes())


@pytest.mark.parametrize(("where", "reason"), [("no/file", "there's no folder"), (".", "it's a folder")])
@pytest.mark.parametrize("command", ["snapshot", "bake"])
def test_an_output_that_cannot_be_written_is_named(
    run: Run, counter: Path, tmp_path: Path, command: str, where: str, reason: str
) -> None:
    taken = tmp_path / "counter.snap"
    run("snapshot", str(counter), "-o", str(taken))
    inputs = [str(counter)] if command == "snapshot" else [str(counter), str(taken)]

    result = run(command, *inputs, "-o", str(tmp_path / where))

    assert (1, "") == (result.code, result.out)
    assert f"can't write {str(tmp_path / where)!r}: {reason}" in result.err
    assert {"counter.wat", "counter.snap"} == {path.name for path in tmp_path.iterdir()}


def test_a_snapshot_is_told_from_a_module(run: Run, counter: Path, tmp_path: Path) -> None:
    taken = tmp_path / "counter.snap"
    run("snapshot", str(counter), "-o", str(taken))

    result = run("inspect", str(taken))

    assert 1 == result.code
    assert "is a snapshot; give the module" in result.err


def test_verify_refuses_to_skip_what_is_not_there(run: Run, counter: Path) -> None:
    result = run("verify", str(counter), "--skip", "adds", "--scripts", "1")

    assert 1 == result.code
    assert "skip names 'adds'; the module exports no such function, but add, fail, scale" in result.err


def test_verify_names_what_took_too_long_and_its_options(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "endless.wat"
    path.write_text('(module (func (export "spin") (loop $on (br $on))))')

    result = run("verify", str(path), "--scripts", "3", "--calls", "2", "--timeout", "0.05", "--seed", "1")

    assert 0 == result.code
    said = " ".join(result.err.split())
    assert "spin ran for 0.05 s" in said
    for option in ("--skip", "--timeout"):
        assert option in said
        assert option in run("verify", "--help").out
