"""Fixtures of this folder."""

from __future__ import annotations

import functools

import pytest
import wasmtime

from .bare import BINARY, Guest, MakeGuest


@pytest.fixture(scope="module")
def fuelled_engine() -> wasmtime.Engine:
    config = wasmtime.Config()
    config.consume_fuel = True  # a bug that loops ends here: no signal reaches a thread inside a guest
    return wasmtime.Engine(config)


@pytest.fixture(scope="module")
def module(fuelled_engine: wasmtime.Engine) -> wasmtime.Module:
    return wasmtime.Module(fuelled_engine, BINARY)


@pytest.fixture(scope="module")
def make(fuelled_engine: wasmtime.Engine, module: wasmtime.Module) -> MakeGuest:
    return functools.partial(Guest, fuelled_engine, module)


@pytest.fixture
def guest(make: MakeGuest) -> Guest:
    return make()
