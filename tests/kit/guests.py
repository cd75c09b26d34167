"""The guests that the kit is tried on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from replicate import HostFunction

__all__ = ["GUESTS", "NOTES", "imports_of"]

_WASM = Path(__file__).resolve().parents[2] / "wasm"

# Keeps a nested value on the host's side, in the state that replicates.
NOTES = """(module (import "host" "note" (func $note (param i32) (result i32)))
  (func (export "note") (param i32) (result i32) (call $note (local.get 0))))"""

GUESTS: dict[str, Path | str] = {
    **{name: _WASM / f"{name}.wat" for name in ("hidden", "memories", "segments", "start", "tables")},
    "notes": NOTES,
}


def _note(guest: Any, number: int) -> int:
    notes = guest.state.setdefault("notes", [[]])
    notes[0].append(number)
    return int(sum(notes[0]) % 1000)


def imports_of(name: str) -> dict[str, dict[str, Any]]:
    """Give a guest's imports; those left out get stand-ins."""
    if name == "tables":
        return {"env": {"host": lambda number: number ^ 1000}}
    return {"host": {"note": HostFunction(_note, caller=True)}}
