"""The package as a whole."""

from __future__ import annotations

import importlib
import pkgutil

import replicate_trealla
from replicate import load_adapter
from replicate_trealla import TreallaAdapter


def test_what_it_exports_is_there() -> None:
    modules = [replicate_trealla]
    modules += [
        importlib.import_module(f"replicate_trealla.{found.name}")
        for found in pkgutil.iter_modules(replicate_trealla.__path__)
    ]

    for module in modules:
        assert sorted(set(module.__all__)) == sorted(module.__all__)
        for name in module.__all__:
            assert hasattr(module, name), f"{module.__name__}.{name}"


def test_the_adapter_is_found_by_name() -> None:
    assert load_adapter("trealla") is TreallaAdapter


def test_its_errors_are_of_the_library_s_family() -> None:
    from replicate.errors import ReplicateError

    for name in replicate_trealla.__all__:
        found = getattr(replicate_trealla, name)
        if isinstance(found, type) and issubclass(found, Exception):
            assert issubclass(found, ReplicateError)
