"""The proof on the guests that this project has: what a user would write for theirs."""

from __future__ import annotations

from importlib import resources
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from replicate.testing import SnapshotMachine, assert_replicable

from .guests import GUESTS, imports_of

KEY_VALUE = resources.files("replicate_kv").joinpath("kv.wasm").read_bytes()


@pytest.mark.parametrize("guest", sorted(GUESTS))
def test_the_small_guests_are_replicable(guest: str) -> None:
    assert_replicable(GUESTS[guest], imports=imports_of(guest), max_examples=25, carrier_engine="wasmtime")


def test_the_key_value_guest_is_replicable() -> None:
    assert_replicable(KEY_VALUE, skip=["spin", "spin_forever"], max_examples=25)


@pytest.mark.nightly
@pytest.mark.parametrize("guest", sorted(GUESTS))
def test_the_small_guests_are_replicable_at_length(guest: str) -> None:
    assert_replicable(GUESTS[guest], imports=imports_of(guest), max_examples=500, max_calls=50)


class KeyValueMachine(SnapshotMachine):
    module = KEY_VALUE
    skip = ("spin", "spin_forever")


class TablesMachine(SnapshotMachine):
    module = GUESTS["tables"]

    def imports(self) -> Any:
        return imports_of("tables")


class HiddenTableMachine(SnapshotMachine):
    # No code writes to the table and nobody sees it, so it isn't carried: then the host mustn't write to it either.
    module = """(module (table 3 funcref) (elem (i32.const 0) 0) (func (result i32) i32.const 5)
        (func (export "get") (result funcref) (ref.func 0))
        (func (export "call") (param i32) (result i32) (call_indirect (result i32) (local.get 0))))"""


SETTINGS = settings(
    max_examples=10, stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True
)
TestKeyValueSnapshots = KeyValueMachine.TestCase
TestKeyValueSnapshots.settings = SETTINGS
TestTablesSnapshots = TablesMachine.TestCase
TestTablesSnapshots.settings = SETTINGS
TestHiddenTableSnapshots = HiddenTableMachine.TestCase
TestHiddenTableSnapshots.settings = SETTINGS
TestRandomSnapshots = SnapshotMachine.TestCase
TestRandomSnapshots.settings = SETTINGS
