"""Finding an interpreter for worker processes: the first that does, found out by running it, or all reasons why none."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import attrs
import pytest
from fake_interpreters import ENVIRONMENT, RIGHT, World
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from replicate.errors import EngineError, EngineUnavailableError, UnknownEngineError
from replicate.processes import interpreters, probing
from replicate.processes.environments import CORE_REQUIREMENTS, find_environment, load_environment
from replicate.processes.interpreters import Candidate, candidates, find_base, find_interpreter
from replicate.processes.places import THIS
from replicate.processes.probing import Probed, forget_probes, probe

PLACES = {
    "cache/environments/fake/bin/python": "its private environment",
    "pyenv/versions/3.98.10/bin/python3.98": "pyenv",
    "pyenv/versions/3.98.9/bin/python3.98": "pyenv",
    "pyenv/versions/3.97.30/bin/python3.97": "pyenv",
    "uv/cpython-3.98.2-linux-x86_64-gnu/bin/python3.98": "uv",
    "path/python3.98": "$PATH",
    "system/python3.98": "the system's",
    "path/python3.97": "$PATH",
}
"""In the order of preference."""


def problem_of(path: Path) -> str:
    probing.forget_probes()
    candidate = interpreters.try_interpreter("fake", path, "given")
    assert candidate.problem is not None
    return candidate.problem


def test_all_places_are_looked_at_in_order(world: World) -> None:
    for place in PLACES:
        world.script(place, "exit 127")
    for place in ("pyenv/versions/3.9.8/bin/python3.9", "pyenv/versions/3.9/bin/python3.98", "path/python3.9"):
        world.python(place)  # not of a version that was asked for
    found = [(str(each.path), each.origin) for each in candidates("fake")]

    assert found[0] == (sys.executable, THIS)
    assert found[1:] == [(str(world.root / place), origin) for place, origin in PLACES.items()]


@given(does=st.lists(st.booleans(), min_size=len(PLACES), max_size=len(PLACES)))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_first_that_does_is_found_and_otherwise_all_are_named(world: World, does: list[bool]) -> None:
    outcome = {str(world.python(place)): right for place, right in zip(PLACES, does, strict=True)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            interpreters,
            "probe",
            lambda path, modules, pins: Probed(**RIGHT) if outcome[str(path)] else Probed(problem="is a hat"),  # type: ignore[arg-type]
        )
        if any(does):
            assert str(find_interpreter("fake")) == next(path for path, right in outcome.items() if right)
        else:
            with pytest.raises(EngineUnavailableError) as caught:
                find_interpreter("fake")
            for path in (sys.executable, *outcome):
                assert f"- {path} (" in str(caught.value)


def test_a_folder_that_is_reached_twice_is_looked_at_once(world: World) -> None:
    world.script("path/python3.98", "exit 1")
    (world.root / "system").symlink_to(world.root / "path")

    assert [each.origin for each in candidates("fake")][2:] == ["$PATH"]


def test_looking_stops_at_the_first_that_does(world: World) -> None:
    first = world.python("pyenv/versions/3.98.1/bin/python3.98")
    world.script("path/python3.98", "exit 1")

    assert find_interpreter("fake") == first
    assert world.runs() == 1


def test_the_error_says_what_was_looked_at_and_what_to_do(world: World) -> None:
    shim = world.script("path/python3.98", "echo 'pyenv: python3.98: command not found' >&2; echo hints >&2; exit 127")
    with pytest.raises(EngineUnavailableError) as caught:
        find_interpreter("fake")
    said = str(caught.value)

    assert "which need CPython 3.98 or 3.97 on x86_64" in said
    assert (
        f"{sys.executable} (this interpreter) is {platform.python_implementation()} {platform.python_version()}" in said
    )
    assert "(its private environment) hasn't been installed" in said
    assert f"{shim} ($PATH) ended with status 127: pyenv: python3.98: command not found\n" in said
    assert "pyenv's versions, uv's interpreters" in said
    assert "replicate engines install fake" in said
    assert (
        "set $FAKE_PYTHON to CPython 3.98 or 3.97 on x86_64 with 'attrs>=23.2', 'fakeruntime==2.0', 'helper>=1'" in said
    )


def test_the_variable_names_the_only_one_to_look_at(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.python("pyenv/versions/3.98.1/bin/python3.98")
    mine = world.python("mine/python")
    monkeypatch.setenv("FAKE_PYTHON", str(mine))
    assert list(candidates("fake")) == [Candidate(mine, "$FAKE_PYTHON", "3.98.1", None)]

    monkeypatch.chdir(mine.parent)
    monkeypatch.setenv("FAKE_PYTHON", "./python")
    assert find_interpreter("fake") == mine

    monkeypatch.setenv("FAKE_PYTHON", str(world.root / "nowhere"))
    with pytest.raises(EngineUnavailableError, match=r"\$FAKE_PYTHON, which names.*nowhere.*can't be run.*or unset it"):
        find_interpreter("fake")


def test_the_variable_may_name_a_command(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = world.python("path/my-python")
    monkeypatch.setenv("FAKE_PYTHON", "my-python")

    assert find_interpreter("fake") == mine


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ({"version": "3.11.2"}, "is CPython 3.11.2 on x86_64"),
        ({"version": "3.9.8"}, "is CPython 3.9.8 on x86_64"),
        ({"implementation": "PyPy"}, "is PyPy 3.98.1 on x86_64"),
        ({"machine": "ARM64"}, "is CPython 3.98.1 on aarch64"),
        ({"machine": "x86_64 with 32 bits"}, "is CPython 3.98.1 on x86_64 with 32 bits"),
        ({"failed": {"attrs": "ModuleNotFoundError: x", "fakeruntime": "ModuleNotFoundError: y"}}, "has no attrs, fakeruntime"),
        (
            {"failed": {"fakeruntime": "ImportError: not for this Python"}},
            "can't import fakeruntime (ImportError: not for this Python)",
        ),
        ({"installed": {"fakeruntime": "1.9"}}, "has fakeruntime 1.9, not 2.0"),
        ({"installed": {"fakeruntime": None}}, "has fakeruntime None, not 2.0"),
    ],
)  # fmt: skip
def test_an_interpreter_that_answers_but_does_not_do(world: World, said: dict[str, object], problem: str) -> None:
    assert problem_of(world.python("python", **said)) == problem


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ("exit 127", "ended with status 127"),
        ("echo first >&2; echo second >&2; exit 1", "ended with status 1: first"),
        ("printf 'Traceback (most recent):\\n  deep\\nSystemError: torn\\n' >&2; exit 1", "ended with status 1: SystemError: torn"),
        ("kill -SEGV $$", "was killed by SIGSEGV"),
        ("echo hello", "isn't a Python interpreter: asked what it is, it says 'hello'"),
        ("echo '[1]'", "isn't a Python interpreter: asked what it is, it says '[1]'"),
        ("echo '{}'", "isn't a Python interpreter: asked what it is, it says '{}'"),
        ("true", "isn't a Python interpreter: asked what it is, it says ''"),
    ],
)  # fmt: skip
def test_a_program_that_is_no_interpreter(world: World, answer: str, problem: str) -> None:
    assert problem_of(world.script("python", answer)) == problem


def test_files_that_cannot_be_run(world: World) -> None:
    plain = world.python("plain")
    plain.chmod(0o644)
    link = world.root / "link"
    link.symlink_to(world.root / "gone")

    assert problem_of(plain) == "can't be run: Permission denied"
    assert problem_of(world.root) == "can't be run: Permission denied"
    assert problem_of(link) == "can't be run: No such file or directory"


def test_one_that_hangs_is_given_up_with_what_it_has_started(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "TIMEOUT", 2.0)
    marker = world.root / "pid"
    hanging = world.script("python", f"/bin/sleep 1000 & echo $! > '{marker}'; wait")
    began = time.monotonic()

    assert problem_of(hanging) == "gave no answer within 2 s"
    assert time.monotonic() - began < 200
    child = int(marker.read_text())
    for _ in range(600):
        # A zombie, whose parent died before it, is only a number.
        if not Path(f"/proc/{child}/cmdline").exists() or not Path(f"/proc/{child}/cmdline").read_bytes():
            break
        time.sleep(0.1)
    else:
        pytest.fail("what the interpreter has started is still running")


def test_what_is_printed_besides_the_answer_does_not_matter(world: World) -> None:
    python = world.python("python")
    chatty = world.script("chatty", f"echo welcome; echo warning >&2; '{python}' -c x")

    assert interpreters.try_interpreter("fake", chatty, "given") == Candidate(chatty, "given", "3.98.1", None)


def test_each_is_run_once_for_the_process(world: World) -> None:
    world.script("pyenv/versions/3.98.1/bin/python3.98", "exit 1")
    world.python("path/python3.98")
    for _ in range(3):
        find_interpreter("fake")
    assert world.runs() == 2

    forget_probes()
    find_interpreter("fake")
    assert world.runs() == 4


def test_another_interpreter_is_not_pointed_at_this_ones_library(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PYTHONPATH", "PYTHONHOME"):
        monkeypatch.setenv(name, "here")
    python = world.script("python", 'echo "$PYTHONPATH$PYTHONHOME" >&2; exit 1')

    assert problem_of(python) == "ended with status 1"


def test_this_interpreter_is_asked_too(world: World) -> None:
    version = ".".join(platform.python_version_tuple()[:2])
    machine = probing.describe_this().machine or ""
    here = attrs.evolve(ENVIRONMENT, pythons=(version,), machines=(machine,), requirements=())
    if platform.python_implementation() == "CPython":
        world.register(attrs.evolve(here, modules=("json",)))
        assert find_interpreter("fake") == Path(sys.executable)

    world.register(attrs.evolve(here, modules=("no_such_module",)))
    assert next(candidates("fake")).problem == "has no no_such_module"


def test_a_frozen_program_is_not_started_as_if_it_were_an_interpreter(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "frozen", True, raising=False)

    assert THIS not in [each.origin for each in candidates("fake")]


def test_a_real_interpreter_says_what_it_is_whatever_lies_in_the_present_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "fakeruntime.py").write_text("")
    (tmp_path / "json.py").write_text("raise SystemExit")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    said = probe(Path(sys.executable), ("attrs", "fakeruntime"), ("attrs", "fakeruntime"))

    assert said.problem is None
    assert said.version == platform.python_version()
    assert said.failed == {"fakeruntime": "ModuleNotFoundError: No module named 'fakeruntime'"}
    assert said.installed == {"attrs": metadata.version("attrs"), "fakeruntime": None}


def test_versions_that_this_library_does_not_run_on_are_not_looked_for(world: World) -> None:
    old = attrs.evolve(ENVIRONMENT, pythons=("3.98", "3.9", "3.10"))

    assert old.usable_pythons == ("3.98", "3.10")
    assert old.wanted == "CPython 3.98 or 3.10 on x86_64"


def test_names_that_have_no_environment(world: World) -> None:
    with pytest.raises(UnknownEngineError, match="no engine is called 'nope'; registered are: fake, plain"):
        find_interpreter("nope")
    with pytest.raises(EngineError, match="'plain' needs no environment of its own: it runs inside this process"):
        load_environment("plain")
    assert find_environment("plain") is None
    assert find_interpreter("plain") == Path(sys.executable)


def test_a_declaration_that_is_broken_names_its_package(world: World) -> None:
    world.register({"modules": ()})
    with pytest.raises(EngineUnavailableError, match="fake_backend:ENVIRONMENT.*is of type dict"):
        find_interpreter("fake")
    for value in ("no_such_backend:ENVIRONMENT", "fake_backend:NOTHING"):
        world.register(value=value)
        with pytest.raises(EngineUnavailableError, match=f"from {value}.*reinstall"):
            find_interpreter("fake")


def test_a_base_needs_no_runtime_but_the_modules_that_make_environments(world: World) -> None:
    world.python("pyenv/versions/3.98.1/bin/python3.98", failed={"ensurepip": "ModuleNotFoundError: stripped"})
    whole = world.python("path/python3.98")

    assert find_base("fake") == Candidate(whole, "$PATH", "3.98.1", None)


def test_without_a_base_the_error_says_what_it_takes_and_where_was_looked(world: World) -> None:
    world.script("path/python3.98", "exit 127")
    with pytest.raises(EngineUnavailableError) as caught:
        find_base("fake")
    said = str(caught.value)

    assert "it takes CPython 3.98 or 3.97 on x86_64" in said
    assert "path/python3.98 ($PATH) ended with status 127" in said
    assert "pyenv's versions" in said
    assert "--python" in said


def test_a_base_that_is_named_is_the_only_one(world: World) -> None:
    world.python("path/python3.98")
    old = world.python("old", version="3.6.1")
    with pytest.raises(EngineUnavailableError, match=r"old \(--python\) is CPython 3.6.1"):
        find_base("fake", python=old)


def test_wasmers_needs_are_read_without_importing_it() -> None:
    code = (
        "import sys; from replicate_wasmer.environment import ENVIRONMENT; "
        "print(ENVIRONMENT.variable, [name for name in sys.modules if name in ENVIRONMENT.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=dict(os.environ))

    assert (done.stdout, done.stderr) == ("REPLICATE_WASMER_PYTHON []\n", "")


def test_what_is_installed_is_what_the_package_declares() -> None:
    required = metadata.requires("wasm-replicate") or []
    wasmer = find_environment("wasmer")

    assert wasmer is not None
    assert set(CORE_REQUIREMENTS) <= set(required)
    extra = {each.partition(";")[0].strip() for each in required if "extra == 'wasmer'" in each.replace('"', "'")}
    assert {each.replace("-", "_") for each in extra} == set(wasmer.requirements)
    assert wasmer.usable_pythons == ("3.10",)
    assert find_environment("wasmtime") is None
