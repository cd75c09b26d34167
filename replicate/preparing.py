"""Prepare a module for an engine: have the engine validate it, and keep what takes time to find out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import attrs

from replicate.binary import FULL_ACCESS, Effects, HostAccess, Prepared, instrument, prepare, read_module
from replicate.binary.signature import check_header
from replicate.cache import ArtifactCache
from replicate.errors import InvalidModuleError, UnsupportedError

__all__ = ["prepare_for"]

_FORMAT = 3
_LARGE = 1 << 16


def prepare_for(
    engine: str,
    wasm: bytes,
    validate: Callable[[bytes], None],
    *,
    artifacts: ArtifactCache | None,
    access: HostAccess = FULL_ACCESS,
) -> Prepared:
    """Read, scan and instrument a binary for the engine that `engine` names, its release included.

    `validate` raises the engine's reason not to take the binary as it is. It must be asked: what is added can make an invalid
    module valid, by declaring what it refers to without a declaration, or by taking away a start function with parameters.

    Looking at every instruction takes 0.03 s for 2.6 MB; what it finds is small, and is kept in `artifacts`.

    Raises what `validate` does, `ComponentError`, and `UnsupportedError` for what the engine takes and `replicate.binary` can't
    read.
    """
    key = f"effects-{_FORMAT}-{hashlib.sha256(engine.encode() + wasm).hexdigest()}"
    kept = artifacts.find(key) if artifacts is not None and len(wasm) > _LARGE else None
    if kept is not None:
        info, effects = read_module(wasm), _load(kept.read_text("utf-8"))
        instrumented = instrument(wasm, info, effects, access=access)
        return Prepared(info, effects, instrumented.wasm, instrumented.plan)
    # First, for it knows components.
    check_header(wasm)
    try:
        prepared = prepare(wasm, access=access)
    except InvalidModuleError as error:
        validate(wasm)
        raise UnsupportedError(f"{engine} takes this module, but this library can't read it yet: {error}") from error
    validate(wasm)
    if artifacts is not None and len(wasm) > _LARGE:
        artifacts.keep(key, _dump(prepared.effects).encode("utf-8"))
    return prepared


def _dump(effects: Effects) -> str:
    fields = attrs.asdict(effects)
    return json.dumps(
        {name: sorted(value) if isinstance(value, frozenset) else value for name, value in fields.items()}
    )


def _load(text: str) -> Effects:
    fields: dict[str, Any] = json.loads(text)
    found: dict[str, Any] = {
        name: frozenset(value) if isinstance(value, list) else value for name, value in fields.items()
    }
    return Effects(**found)
