"""What pools promise, kept in worker processes, by each engine that can be run in one."""

from __future__ import annotations

from typing import ClassVar

import pytest

from replicate.configuration import Workers
from replicate.testing import PoolTests


class TestWasmtimeInWorkers(PoolTests):
    engine_name = "wasmtime"
    workers: ClassVar[Workers] = "processes"


@pytest.mark.usefixtures("wasmer")
class TestWasmerInWorkers(PoolTests):
    engine_name = "wasmer"
    workers: ClassVar[Workers] = "processes"
