"""The command as a whole: help, version, errors, interruption, missing extras."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

import replicate
from replicate.cli import main
from replicate.cli.commands import COMMANDS
from replicate.cli.failures import guarded
from replicate.cli.terminal import Terminal, plain, size_of


def test_prints_its_version(run: Callable[..., Any]) -> None:
    result = run("--version")

    assert (result.code, result.out) == (0, f"wasm-replicate {replicate.__version__}\n")


def test_help_lists_every_command_and_the_exit_codes(run: Callable[..., Any]) -> None:
    result = run("--help")

    assert result.code == 0
    assert all(command.name in result.out for command in COMMANDS)
    assert "Exit codes: " in result.out


@pytest.mark.parametrize("command", [command.name for command in COMMANDS])
def test_every_command_documents_its_exit_codes_and_has_debug(run: Callable[..., Any], command: str) -> None:
    result = run(command, "--help")

    assert result.code == 0
    for expected in ("Exit codes:", "0: ", "1: ", "2: ", "130: ", "--debug"):
        assert expected in result.out


def test_wrong_usage_exits_2(run: Callable[..., Any]) -> None:
    assert run("no-such-command").code == 2
    assert run("inspect").code == 2
    assert run("inspect", "x.wasm", "--no-such-option").code == 2


def test_library_errors_are_one_message_and_exit_1(run: Callable[..., Any]) -> None:
    result = run("inspect", "missing.wasm")

    assert (result.code, result.out) == (1, "")
    assert result.err.startswith("error: can't read 'missing.wasm': ")
    assert result.err.count("\n") == 1


def test_debug_shows_the_traceback(run: Callable[..., Any], run_process: Callable[..., Any]) -> None:
    with pytest.raises(replicate.ReplicateError, match="can't read"):
        run("inspect", "missing.wasm", "--debug")
    result = run_process("inspect", "missing.wasm", "--debug")

    assert result.code == 1
    assert result.err.startswith("Traceback")
    assert "InvalidModuleError: can't read" in result.err


def test_bugs_arent_dressed_up_as_errors() -> None:
    def buggy(debug: bool) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        guarded(buggy)(debug=False)


def test_interruption_exits_130(capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(debug: bool) -> None:
        raise KeyboardInterrupt

    with pytest.raises(typer.Exit) as ended:
        guarded(interrupted)(debug=False)

    assert ended.value.exit_code == 130
    assert capsys.readouterr().err == "error: interrupted\n"


def test_output_that_cant_be_written_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    def full(debug: bool) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(typer.Exit) as ended:
        guarded(full)(debug=False)

    assert ended.value.exit_code == 1
    assert capsys.readouterr().err == "error: [Errno 28] No space left on device\n"


@pytest.mark.skipif(os.name == "nt", reason="Windows sends no SIGINT to one process")
@pytest.mark.parametrize("after_seconds", [0.0, 0.7, 1.5])
def test_ctrl_c_ends_a_running_demonstration(after_seconds: float, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "replicate.cli", "demo", "--guest", "kv", "--rounds", "1000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(after_seconds)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)

    assert (process.returncode, err) == (130, "error: interrupted\n")


@pytest.mark.skipif(os.name == "nt", reason="needs a POSIX shell")
def test_a_reader_that_goes_away_is_no_error(kv_path: Path) -> None:
    done = subprocess.run(
        f"{sys.executable} -m replicate.cli inspect '{kv_path}' | head -n 1", shell=True, capture_output=True, text=True
    )

    assert (done.stdout, done.stderr) == (f"{kv_path}\n", "")


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_says_what_to_install_when_an_extra_is_missing(missing: str) -> None:
    code = f"import sys; sys.modules[{missing!r}] = None; from replicate.cli import main; sys.exit(main())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    expected = "error: the command line needs typer and rich: pip install 'wasm-replicate[cli]'\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", expected)


def test_another_missing_module_isnt_mistaken_for_the_extra() -> None:
    code = "import sys; sys.modules['replicate.cli.app'] = None; from replicate.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert "ModuleNotFoundError" in done.stderr
    assert "pip install" not in done.stderr


def test_the_library_itself_imports_no_part_of_the_command_line() -> None:
    code = "import sys, replicate; print(sorted({'typer', 'rich', 'replicate.cli'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"


def test_output_has_no_colours_in_a_pipe_nor_trailing_spaces(run_process: Callable[..., Any], kv_path: Path) -> None:
    for command in (["engines"], ["inspect", str(kv_path)], ["--help"]):
        out = run_process(*command).out

        assert "\x1b" not in out
        if command != ["--help"]:
            assert [line for line in out.splitlines() if line != line.rstrip()] == []


def test_characters_that_the_stream_lacks_are_escaped(run_process: Callable[..., Any]) -> None:
    result = run_process(
        "inspect", "-", stdin='(module (func (export "h\u00e9")))'.encode(), PYTHONIOENCODING="ascii", COLUMNS="100"
    )

    assert result.code == 0
    assert "h\\xe9" in result.out


def test_texts_from_outside_cant_steer_the_terminal() -> None:
    assert plain("a\x1b[31mb\u202ec\r\n\td") == "a\\x1b[31mb\\u202ec\\r\n\\td"
    assert plain("Z\u00fcrich \u732b") == "Z\u00fcrich \u732b"


def test_sizes_are_spelled_with_binary_units() -> None:
    assert [size_of(size) for size in (0, 1023, 1024, 9036, 1 << 20)] == [
        "0 bytes",
        "1023 bytes",
        "1.0 KiB",
        "8.8 KiB",
        "1.0 MiB",
    ]


def test_errors_arent_wrapped_in_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    written = io.StringIO()
    monkeypatch.setattr(sys, "stderr", written)
    message = " ".join(["a [bold]long[/] message"] * 10)
    Terminal().error(message)

    assert written.getvalue() == f"error: {message}\n"


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("replicate ins", "inspect"),
        ("replicate engines ins", "install"),
        ("replicate inspect --engine wasmt", "wasmtime"),
        ("replicate engines install wasme", "wasmer"),
        ("replicate demo --guest k", "kv"),
        ("replicate bake --without", "--without-export"),
    ],
)
def test_the_shell_completes_commands_options_and_engines(typed: str, offered: str) -> None:
    started = "import sys; sys.argv[:] = ['replicate']; from replicate.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", started],
        env={
            **os.environ,
            "_REPLICATE_COMPLETE": "complete_bash",
            "COMP_WORDS": typed,
            "COMP_CWORD": str(typed.count(" ")),
        },
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert ([offered], "") == (done.stdout.split(), done.stderr)


def test_the_name_sake_that_was_installed_over_this_library_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delattr(replicate, "Pool")

    assert 1 == main()
    assert "uninstall both and install only wasm-replicate" in capsys.readouterr().err
