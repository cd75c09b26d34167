"""The house keeps its order: who imports whom, what is public, what the two README commands are."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import replicate
from replicate import errors

ROOT = Path(__file__).parents[1]
PACKAGES = ["replicate", "replicate_wasmtime", "replicate_wasmer", "replicate_trealla", "replicate_kv"]


def _modules(package: str) -> list[str]:
    found = importlib.import_module(package)
    return [package, *(module.name for module in pkgutil.walk_packages(found.__path__, f"{package}."))]


def _imports(module: str) -> set[str]:
    spec = importlib.util.find_spec(module)  # type: ignore[attr-defined]
    assert spec is not None
    tree = ast.parse(Path(spec.origin).read_text("utf-8"))
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
    return {name.split(".")[0] for name in names}


@pytest.mark.parametrize("module", [name for name in _modules("replicate") if not name.endswith("__main__")])
def test_the_core_imports_no_runtime_and_no_adapter(module: str) -> None:
    allowed = {"replicate_trealla", "replicate_kv"} if module.startswith("replicate.cli") else set()
    rooms = {
        "wasmtime",
        "wasmer",
        "replicate_wasmtime",
        "replicate_wasmer",
        "replicate_trealla",
        "replicate_kv",
    } - allowed
    assert not _imports(module) & rooms
    if not module.startswith("replicate.testing"):
        assert not _imports(module) & {"pytest", "hypothesis"}


@pytest.mark.parametrize("package", ["replicate_wasmtime", "replicate_wasmer", "replicate_trealla", "replicate_kv"])
def test_arrows_point_at_the_core_only(package: str) -> None:
    others = {"replicate_wasmtime", "replicate_wasmer", "replicate_trealla", "replicate_kv"} - {package}
    for module in _modules(package):
        assert not _imports(module) & others


def test_importing_the_core_imports_no_runtime() -> None:
    code = "import sys, replicate; print(sorted({name.split('.')[0] for name in sys.modules} & {'wasmtime', 'wasmer', 'pytest'}))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(sys.prefix)
    )
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("package", PACKAGES)
def test_every_module_says_what_is_public(package: str) -> None:
    for name in _modules(package):
        if name.endswith("__main__") or any(part.startswith("_") for part in name.split(".")[1:]):
            continue
        module = importlib.import_module(name)
        assert hasattr(module, "__all__") or not name.count("."), name
        for public in getattr(module, "__all__", ()):
            assert hasattr(module, public), f"{name}.{public}"


def test_every_error_is_one_of_ours() -> None:
    for name in errors.__all__:
        value = getattr(errors, name)
        if name.endswith("Error") or name in ("Trap", "GuestExit"):
            assert issubclass(value, errors.ReplicateError), name
        assert value.__doc__


def test_the_version_is_one() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.dev\d+)?", replicate.__version__)


def test_what_is_said_to_run_again_or_not_is_there(request: pytest.FixtureRequest) -> None:
    tests = [
        f"{path.relative_to(ROOT).as_posix()}::{name}"
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^(?:async )?(?:def|class) ([Tt]est\w+)", path.read_text("utf-8"), re.MULTILINE)
    ]
    conftest = request.config.pluginmanager.get_plugin(str(ROOT / "tests/conftest.py"))
    for pattern in [row[0] for rows in conftest.AGAIN.values() for row in rows]:
        assert any(test.startswith(pattern.partition("*")[0]) for test in tests), pattern


@pytest.mark.skipif(not (ROOT / ".ci/run").exists(), reason="only a checkout has .ci/run")
def test_the_readme_has_the_two_commands() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    for which in ("demo", "test"):
        assert len(re.findall(rf"<!-- {which} command -->\n```sh\n[^`\n]+\n```", text)) == 1
