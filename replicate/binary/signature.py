"""Tell a core module from a component, and from what people pass by mistake."""

from __future__ import annotations

from replicate.errors import ComponentError, InvalidModuleError

__all__ = ["HEADER", "check_header"]

HEADER = b"\0asm\1\0\0\0"
"""What every core module starts with: the magic number and version 1."""

_MAGIC = HEADER[:4]
_LAYER_COMPONENT = 1

_LOOKS_LIKE = (
    (b"\x1f\x8b", "a gzip file; unpack it first"),
    (b"PK\x03\x04", "a zip archive; unpack it first"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard file; unpack it first"),
    (b"\x7fELF", "an ELF file: a native program, or a module that wasmtime has compiled; pass the .wasm itself"),
    (b"MZ", "a Windows program; pass a .wasm file"),
    (b"\xcf\xfa\xed\xfe", "a macOS program; pass a .wasm file"),
    (b"BC\xc0\xde", "LLVM bitcode; compile it to Wasm first"),
    (b"!<arch>\n", "a static library; link it to a .wasm file first"),
    (b"AGFzb", "Wasm in base64; decode it first"),
    (b"data:application/wasm", "a data: URL; decode it first"),
    (b"version https://git-lfs", "a Git LFS pointer; fetch the file it stands for"),
)


def check_header(wasm: bytes) -> None:
    """Raise unless `wasm` starts like a core module: `ComponentError` for a component, else `InvalidModuleError`."""
    if wasm.startswith(HEADER):
        return
    if not wasm.startswith(_MAGIC):
        raise InvalidModuleError(f"not a Wasm module: {_first_bytes(wasm)}")
    if len(wasm) < len(HEADER):
        raise InvalidModuleError(f"malformed module: only {len(wasm)} bytes, cut off within its header")
    version, layer = int.from_bytes(wasm[4:6], "little"), int.from_bytes(wasm[6:8], "little")
    if layer == _LAYER_COMPONENT:
        raise ComponentError(
            "this is a component of the component model, and only core modules can be replicated: "
            "extract its core module (wasm-tools component unbundle), or build without the component adapter"
        )
    raise InvalidModuleError(f"not a Wasm module of version 1, but of version {version}, layer {layer}")


def _first_bytes(wasm: bytes) -> str:
    if not wasm:
        return "no bytes at all"
    for magic, description in _LOOKS_LIKE:
        if wasm.startswith(magic):
            return f"it looks like {description}"
    text = wasm[:64].removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith((b"(module", b"(component", b";;", b"(;", b"(")):
        return "it looks like the text format; convert it first (wat2wasm)"
    if text[:1] in (b"<", b"{"):
        return f"it looks like {'HTML' if text[:1] == b'<' else 'JSON'}; has a download failed?"
    return f"it starts with {wasm[:8].hex(' ')} instead of {HEADER.hex(' ')}"
