"""The functions of WASI preview 1, by area.

Each takes the configuration, its caller and WASI's own arguments as signed integers, and returns an errno. Whatever it
refuses it raises; `replicate.wasi.surface` turns that into the errno.
"""

__all__: list[str] = []
