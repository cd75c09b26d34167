"""All figures that have a goal, in one table: ``python tests/bench/all.py [--wasm MODULE] [--only calls,replication,trealla,processes]``.

The exit code is the number of figures that missed their goal. What each is made of is printed on the way. It takes some
minutes, and a machine with nothing else to do.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

import bench_calls
import bench_processes
import bench_replication
import bench_trealla
from figures import Figure, show

from replicate.errors import CacheError, EngineUnavailableError


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wasm", type=Path)
    parser.add_argument("--only", default="calls,replication,trealla,processes")
    options = parser.parse_args()
    scripts: dict[str, Callable[[], list[Figure]]] = {
        "calls": bench_calls.figures,
        "replication": bench_replication.figures,
        "trealla": lambda: bench_trealla.figures(options.wasm),
        "processes": bench_processes.figures,
    }
    wanted = options.only.split(",")
    if not set(wanted) <= set(scripts):
        parser.error(f"--only names {options.only!r}; choose from {','.join(scripts)}")
    found: list[Figure] = []
    left_out = []
    for name in wanted:
        print(f"== {name}", flush=True)
        try:
            figures = scripts[name]()
        except (CacheError, EngineUnavailableError) as error:
            figures = []
            print(error)
        found += figures
        if not figures:
            left_out.append(name)
        print()
    if hasattr(os, "getloadavg"):
        print(f"load average {os.getloadavg()[0]:.1f}")
    missed = show(found) if found else 0
    print(f"\n{len(found) - missed} of {len(found)} figures reach their goal")
    if left_out:
        print(f"not measured: {', '.join(left_out)}")
    return missed + len(left_out)


if __name__ == "__main__":
    sys.exit(main())
