"""A folder with two files in it, a configuration that gives it to guests, and a guest."""

from __future__ import annotations

from pathlib import Path

import pytest

from replicate.wasi import Wasi

from .support import FakeGuest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "folder"
    (made / "sub").mkdir(parents=True)
    (made / "file").write_bytes(b"0123456789")
    (made / "sub" / "file").write_bytes(b"below")
    return made


@pytest.fixture
def wasi(folder: Path) -> Wasi:
    return Wasi(preopens={"/": folder}, stdin=b"typed")


@pytest.fixture
def guest(wasi: Wasi) -> FakeGuest:
    return FakeGuest(wasi)
