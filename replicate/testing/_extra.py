"""Say which extra is missing before anything else here fails to import."""

from importlib.util import find_spec

_missing = [name for name in ("hypothesis", "pytest") if find_spec(name) is None]
if _missing:
    raise ModuleNotFoundError(
        f"replicate.testing needs {' and '.join(_missing)}: pip install 'wasm-replicate[testing]'", name=_missing[0]
    )
