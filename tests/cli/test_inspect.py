"""`replicate inspect`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest

from replicate.cli import module_report
from replicate.cli.module_report import ModuleReport

Run = Callable[..., Any]

EVERYTHING = r"""(module $bad
  (import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_close" (func (param i64) (result i32)))
  (import "wasi_snapshot_preview1" "fd_seek" (func (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "t" (tag))
  (import "env" "[bold]x" (func (param i32)))
  (import "env" "m" (memory 1 2))
  (import "env" "g" (global i64))
  (memory $shared 1 1 shared)
  (memory $fixed 1)
  (table $objects 1 externref)
  (global $any (mut anyref) (ref.null any))
  (global $never (mut i32) (i32.const 0))
  (data $greeting "hello")
  (func (export "set")
    (global.set $any (ref.null any)) (data.drop $greeting)
    (table.set $objects (i32.const 0) (ref.null extern)))
  (func $begin)
  (start $begin)
  (export "\1b[31mred" (table $objects))
  (func (export "_start")))"""

LEGACY_EXCEPTIONS = b"\0asm\1\0\0\0\1\4\1\x60\0\0\3\2\1\0\x0a\x08\1\6\0\6\x40\x19\x0b\x0b"
ATOMIC_GLOBAL = b"\0asm\1\0\0\0\1\4\1\x60\0\0\3\2\1\0\6\6\1\x7f\1\x41\0\x0b\x0a\x09\1\7\0\xfe\x4f\0\0\x1a\x0b"


@pytest.fixture
def everything(tmp_path: Path) -> Path:
    path = tmp_path / "everything.wat"
    path.write_text(EVERYTHING)
    return path


def test_shows_a_module_that_can_be_replicated(run: Run, kv_path: Path) -> None:
    result = run("inspect", str(kv_path))

    assert (result.code, result.err) == (0, "")
    lines = [line.split() for line in result.out.splitlines()]
    for expected in (
        "can be replicated yes",
        "WASI not used",
        "runs on opening _initialize",
        "memory 0 128.0 KiB or more 'memory' content and size",
        "global 0 (mut i32) hidden value",
        "table 0 1 1 funcref hidden nothing",
        "put func (i64, i64) -> i64",
    ):
        assert expected.split() in lines


def test_shows_why_a_module_cant_be_replicated_and_exits_3(run: Run, everything: Path) -> None:
    result = run("inspect", str(everything))

    assert (result.code, result.err) == (3, "")
    said = " ".join(result.out.split())
    for expected in (
        "can be replicated no - memory 1 ($shared): it is shared between threads",
        "- global 1 ($any): it can change and holds references to garbage-collected objects",
        "env.t tag (tag () -> ()) made for each instance",
        "WASI command",
        "runs on opening start function 5 ($begin), _start, if run_start=True",
        "wasi_snapshot_preview1 2 functions replicate.wasi.Wasi().imports()",
        "wasi_snapshot_preview1.fd_close func (i64) -> i32 you, in imports=",
        "env.[bold]x func (i32) -> () you, in imports=",
        "env.m memory (memory 1 2) made for each instance",
        "memory 0 64.0 KiB to 128.0 KiB import content and size",
        "memory 1 ($shared) 64.0 KiB, shared hidden content",
        "memory 2 ($fixed) 64.0 KiB or more hidden content",
        "env.g global (global i64) you, in imports=",
        r"table 0 ($objects) 1 externref '\x1b[31mred' elements and size",
        "global 2 ($never) (mut i32) hidden nothing",
        "data segment 0 ($greeting) 5 bytes hidden can be dropped",
        "and 1 constant global",
    ):
        assert expected in said
    assert "\x1b" not in result.out


def test_json_has_every_documented_field_and_no_other(run: Run, everything: Path) -> None:
    result = run("inspect", "--json", str(everything))
    found = json.loads(result.out)

    assert result.code == 3
    assert list(found) == [field.name for field in attrs.fields(ModuleReport)]
    shapes = {
        "engine": module_report.EngineReport,
        "start": module_report.FunctionReport,
        "memories": module_report.MemoryReport,
        "globals": module_report.GlobalReport,
        "tables": module_report.TableReport,
        "segments": module_report.SegmentReport,
        "imports": module_report.ImportReport,
        "exports": module_report.ExportReport,
    }
    for name, shape in shapes.items():
        for each in found[name] if isinstance(found[name], list) else [found[name]]:
            assert sorted(each) == sorted(field.name for field in attrs.fields(shape))
    documented = " ".join(run("inspect", "--help").out.split()).partition("The JSON has: ")[2].partition(".")[0]
    assert documented.split(", ") == list(found)


def test_json_of_schema_1_stays_as_it_is(run: Run, everything: Path) -> None:
    found = json.loads(run("inspect", "--json", str(everything)).out)

    assert found["schema"] == 1
    assert found["file"] == str(everything)
    assert found["name"] == "bad"
    assert found["engine"]["name"] == "wasmtime"
    assert (found["replicable"], len(found["findings"])) == (False, 2)
    assert found["findings"][0] == {
        "place": "memory 1 ($shared)",
        "reason": "it is shared between threads, which may write it at any moment; build the module without threads",
    }
    assert (found["wasi"], found["start"]) == ("command", {"index": 5, "name": "begin"})
    assert (found["has_initialize"], found["has_start"]) == (False, True)
    assert found["memories"][0] == {
        "index": 0,
        "name": None,
        "type": "(memory 1 2)",
        "imported": True,
        "exports": [],
        "hidden": False,
        "minimum_pages": 1,
        "maximum_pages": 2,
        "page_bytes": 65536,
        "is_64": False,
        "shared": False,
        "grows": True,
    }
    assert [each["grows"] for each in found["memories"]] == [True, False, False]
    assert found["globals"][2] == {
        "index": 2,
        "name": "never",
        "type": "(global (mut i32))",
        "imported": False,
        "exports": [],
        "hidden": True,
        "mutable": True,
        "changes": False,
    }
    assert found["tables"] == [
        {
            "index": 0,
            "name": "objects",
            "type": "(table 1 externref)",
            "imported": False,
            "exports": ["\x1b[31mred"],
            "hidden": False,
            "minimum": 1,
            "maximum": None,
            "changes": True,
        }
    ]
    assert found["segments"] == [{"kind": "data", "index": 0, "name": "greeting", "length": 5}]
    assert {f"{each['module']}.{each['name']}": each["given_by"] for each in found["imports"]} == {
        "wasi_snapshot_preview1.fd_write": "wasi",
        "wasi_snapshot_preview1.fd_close": "host",
        "wasi_snapshot_preview1.fd_seek": "wasi",
        "env.t": "pool",
        "env.[bold]x": "host",
        "env.m": "pool",
        "env.g": "host",
    }
    assert found["exports"][0] == {"name": "set", "kind": "func", "type": "() -> ()", "index": 4}


def test_notes_what_can_be_carried_only_while_it_holds_nulls(run: Run) -> None:
    wat = b"""(module (table (export "objects") 1 externref) (table 1 externref) (table (export "f") 1 funcref)
        (global $kept (mut externref) (ref.null extern)) (global (mut externref) (ref.null extern))
        (global externref (ref.null extern)) (global (export "n") (mut nullexternref) (ref.null noextern))
        (func (export "keep") (param externref) (global.set $kept (local.get 0))))"""
    shown = run("inspect", "-", stdin=wat)
    found = json.loads(run("inspect", "--json", "-", stdin=wat).out)

    assert (shown.code, found["replicable"], found["findings"]) == (0, True, [])
    assert [note["place"] for note in found["notes"]] == ["global 0 ($kept)", "table 0 ($objects)"]
    said = " ".join(shown.out.split())
    assert "notes - global 0 ($kept): it can be carried only while it is null: " in said
    assert "- table 0 ($objects): it can be carried only while its elements are null: " in said
    assert "notes" not in run("inspect", "-", stdin=b'(module (table (export "f") 1 funcref))').out


def test_a_verdict_agrees_with_opening_a_pool(run: Run, kv_path: Path, everything: Path) -> None:
    assert json.loads(run("inspect", "--json", str(kv_path)).out)["replicable"] is True
    assert json.loads(run("inspect", "--json", str(everything)).out)["replicable"] is False


def test_what_the_engine_cant_run_is_a_finding(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from replicate import load_engine
    from replicate.errors import UnsupportedError

    def refuse(self: Any, prepared: Any) -> Any:
        raise UnsupportedError("no such proposal here")

    monkeypatch.setattr(type(load_engine()), "compile_prepared", refuse)
    path = tmp_path / "empty.wat"
    path.write_text("(module)")
    result = run("inspect", str(path))

    assert result.code == 3
    assert "- engine wasmtime: no such proposal here" in result.out


def test_a_module_of_a_proposal_that_the_engine_doesnt_have_is_described_all_the_same(run: Run) -> None:
    result = run("inspect", "-", stdin=LEGACY_EXCEPTIONS)
    said = " ".join(result.out.split())

    assert (result.code, result.err) == (3, "")
    assert "can be replicated no - engine wasmtime: wasmtime doesn't run this module: legacy_exceptions" in said
    assert "--translate-to-exnref" in said


def test_reads_binary_and_text_from_standard_input(run: Run, kv_path: Path) -> None:
    from_file = json.loads(run("inspect", "--json", str(kv_path)).out)
    from_input = json.loads(run("inspect", "--json", "-", stdin=kv_path.read_bytes()).out)
    text = run("inspect", "-", stdin=b"(module)")

    assert from_input == {**from_file, "file": "-"}
    assert text.code == 0
    assert text.out.startswith("standard input\n")
    assert "none: instances can't change" in text.out


def test_works_as_a_process(run_process: Run, kv_path: Path) -> None:
    result = run_process("inspect", "--json", "-", stdin=kv_path.read_bytes())

    assert (result.code, result.err) == (0, "")
    assert json.loads(result.out)["replicable"] is True


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a Wasm module: no bytes at all"),
        (b"<html></html>", "not a Wasm module: it looks like HTML"),
        (b"\0asm\x0d\0\1\0", "this is a component of the component model"),
        (b"\0asm\1\0\0\0\1", "isn't valid Wasm: unexpected end"),
        (b"\0asm\1\0\0\0\1\5\1\x60\1\x67\0", "isn't valid Wasm, or of a proposal unknown to wasmtime"),
        (ATOMIC_GLOBAL, "wasmtime doesn't run this module: shared-everything-threads support is not enabled"),
        (b"(module", "the WAT text isn't valid"),
        (b"(module (func (result i32)))", "isn't valid Wasm"),
    ],
    ids=["empty", "HTML", "component", "truncated", "stringref", "atomic global", "unfinished text", "invalid"],
)
def test_refuses_what_isnt_a_module(run: Run, content: bytes, message: str) -> None:
    result = run("inspect", "-", stdin=content)

    assert (result.code, result.out) == (1, "")
    assert result.err.startswith("error: ")
    assert message in result.err


def test_every_truncation_is_one_message(run: Run, kv_path: Path) -> None:
    wasm = kv_path.read_bytes()
    for length in range(1, len(wasm), 389):
        result = run("inspect", "-", stdin=wasm[:length])

        assert (result.code, result.out) == (1, "")


def test_refuses_a_folder_and_an_unknown_engine(run: Run, tmp_path: Path) -> None:
    assert "can't read" in run("inspect", str(tmp_path)).err
    result = run("inspect", "-", "--engine", "nope", stdin=b"(module)")

    assert result.code == 1
    assert "no engine is called 'nope'" in result.err
