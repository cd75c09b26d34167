"""Building an engine's private environment: whole or not at all, whoever else builds it, and used afterwards."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest
from fake_interpreters import World

from replicate.errors import EngineError, EngineUnavailableError, ReplicateError
from replicate.processes import installing
from replicate.processes.environments import environment_folder
from replicate.processes.installing import install_environment
from replicate.processes.interpreters import find_interpreter

BASE = "pyenv/versions/3.98.1/bin/python3.98"


def leftovers(world: World) -> list[str]:
    folder = world.root / "cache/environments"
    return sorted(each.name for each in folder.iterdir()) if folder.exists() else []


def test_builds_an_environment_that_is_found_afterwards(world: World) -> None:
    world.python(BASE)
    world.python(BASE.replace("3.98", "3.97"))
    news: list[str] = []
    installed = install_environment("fake", on_progress=news.append)

    assert installed.built
    assert installed.folder == environment_folder("fake")
    assert installed.interpreter.path == installed.folder / "bin/python"
    assert find_interpreter("fake") == installed.interpreter.path
    assert leftovers(world) == ["fake"]
    assert news == [
        "looking at what is there",
        "looking for an interpreter",
        f"making an environment with {world.root / BASE}",
        "installing attrs>=23.2, fakeruntime==2.0, helper>=1",
        "Successfully installed",
        "trying it",
    ]


def test_one_that_is_there_and_works_stays_unless_forced(world: World) -> None:
    world.python(BASE)
    first = install_environment("fake")
    (first.folder / "mark").touch()

    assert not install_environment("fake").built
    assert (first.folder / "mark").exists()
    assert install_environment("fake", force=True).built
    assert not (first.folder / "mark").exists()
    assert leftovers(world) == ["fake"]


@pytest.mark.parametrize("broken", ["exit 1", "file", "link"])
def test_one_that_is_there_and_does_not_work_is_built_again(world: World, broken: str) -> None:
    world.python(BASE)
    place = world.root / "cache/environments/fake"
    if broken == "file":
        place.parent.mkdir(parents=True)
        place.write_text("")
    else:
        python = world.script("cache/environments/fake/bin/python", broken)
        if broken == "link":
            python.unlink()
            python.symlink_to(world.root / "gone")

    assert install_environment("fake").built
    assert leftovers(world) == ["fake"]


def test_what_pip_said_at_last_is_shown_and_nothing_is_left(world: World) -> None:
    world.python(BASE, pip='i=0; while [ $i -lt 50 ]; do i=$((i+1)); echo "line $i"; done; echo torn >&2; exit 3')
    with pytest.raises(EngineError) as caught:
        install_environment("fake")
    said = str(caught.value)

    assert "installing attrs>=23.2, fakeruntime==2.0, helper>=1 failed: it ended with status 3" in said
    assert said.endswith("\n  line 49\n  line 50\n  torn")
    assert "line 38" not in said
    assert leftovers(world) == []


def test_a_failure_leaves_the_one_that_worked(world: World) -> None:
    world.python(BASE)
    working = install_environment("fake").interpreter.path
    world.python(BASE, pip="exit 1")
    with pytest.raises(EngineError):
        install_environment("fake", force=True)

    assert find_interpreter("fake") == working


def test_an_environment_whose_runtime_cannot_be_imported_is_none(world: World) -> None:
    right = world.python("right")
    stub = world.python("stub", failed={"fakeruntime": "ImportError: a stand-in"})
    world.script(BASE, f"case \"$0\" in */environments/*) '{stub}' ;; *) '{right}' ;; esac")
    with pytest.raises(EngineError, match=r"can't import fakeruntime \(ImportError: a stand-in\)\. Build it with"):
        install_environment("fake")

    assert leftovers(world) == []


def test_a_base_that_makes_no_environment_is_told_as_such(world: World) -> None:
    base = world.python(BASE)
    base.write_text(base.read_text().replace('"-m venv")', '"-m venv") echo no room; exit 1 ;; never)'))
    with pytest.raises(EngineError, match=rf"making an environment with {base} failed.*\n  no room"):
        install_environment("fake")

    assert leftovers(world) == []


def test_it_takes_a_base_and_the_named_one_if_there_is(world: World) -> None:
    with pytest.raises(EngineUnavailableError, match="it takes CPython 3.98 or 3.97"):
        install_environment("fake")
    mine = world.python("mine")

    assert install_environment("fake", python=mine).built


def test_one_that_another_interpreter_built_stays_unless_forced(world: World) -> None:
    first, second = world.python("first"), world.python("second", version="3.97.5")
    assert install_environment("fake", python=first).built

    with pytest.raises(EngineError, match=rf"built with {first}; to build it again with {second} use --force"):
        install_environment("fake", python=second)
    with pytest.raises(EngineUnavailableError, match="nowhere"):
        install_environment("fake", python=world.root / "nowhere")

    assert not install_environment("fake", python=first).built
    assert install_environment("fake", python=second, force=True).interpreter.version == "3.97.5"


def test_interruption_leaves_nothing(world: World) -> None:
    world.python(BASE, pip="echo downloading; /bin/sleep 1000")

    def interrupt(what: str) -> None:
        if what == "downloading":
            raise KeyboardInterrupt

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        install_environment("fake", on_progress=interrupt)

    assert time.monotonic() - began < 200
    assert leftovers(world) == []


@pytest.mark.parametrize("force", [False, True])
def test_several_at_once_do_no_harm(world: World, force: bool) -> None:
    world.python(BASE, pip="/bin/sleep 0.2")
    built: list[bool] = []
    failed: list[BaseException] = []

    def install() -> None:
        try:
            built.append(install_environment("fake", force=force).built)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=install) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failed == []
    assert sorted(built) == ([True] * 6 if force else [False] * 5 + [True])
    assert leftovers(world) == ["fake"]
    assert find_interpreter("fake") == world.root / "cache/environments/fake/bin/python"


def test_what_killed_processes_have_left_is_cleared_when_it_is_old(world: World) -> None:
    world.python(BASE)
    old, recent = (world.root / f"cache/environments/fake.new-{name}" for name in ("old", "recent"))
    for folder in (old, recent):
        folder.mkdir(parents=True)
    os.utime(old, (0, 0))
    install_environment("fake")

    assert leftovers(world) == ["fake", "fake.new-recent"]


def test_settings_that_send_packages_elsewhere_are_set_aside(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PIP_TARGET", "PIP_PREFIX", "PIP_USER", "PIP_QUIET"):
        monkeypatch.setenv(name, "1")
    world.python(BASE, pip='echo "target=$PIP_TARGET prefix=$PIP_PREFIX user=$PIP_USER quiet=$PIP_QUIET"')
    news: list[str] = []
    install_environment("fake", on_progress=news.append)

    assert "target= prefix= user=0 quiet=1" in news


def test_a_folder_that_cannot_be_written_is_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.python(BASE)
    (world.root / "cache").write_text("a file")
    with pytest.raises(ReplicateError, match=r"can't build the environment of engine 'fake' in .*REPLICATE_CACHE_DIR"):
        install_environment("fake")


def test_a_name_that_is_taken_for_good_is_an_error_after_some_tries(tmp_path: Path) -> None:
    with pytest.raises(OSError):
        installing._move_in(tmp_path / "missing", tmp_path / "folder", lambda: False)
