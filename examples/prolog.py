"""A knowledge base for many threads: consult, ask, add, ask again.

Needs the Trealla module: npm fetches it, or REPLICATE_TREALLA_WASM names it.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from replicate_trealla import PrologError, PrologPool

PROGRAM = """
:- dynamic(parent/2).
parent(ann, bob).
parent(bob, cid).
ancestor(X, Y) :- parent(X, Y).
ancestor(X, Z) :- parent(X, Y), ancestor(Y, Z).
"""


def main() -> None:
    with PrologPool(program=PROGRAM) as pool:
        print("ann's descendants:", [str(answer["X"]) for answer in pool.query("ancestor(ann, X)")])

        # A write is a transaction on the leader; reads that start later see it, on every replica.
        pool.execute("assertz(parent(cid, Child))", bindings={"Child": "dan"})
        print("and now:", [str(answer["X"]) for answer in pool.query("ancestor(ann, X)")])

        try:
            pool.execute("assertz(parent(ann, eve)), throw(changed_my_mind)")
        except PrologError as error:
            print("rolled back:", error.ball)
        print("version", pool.version, "with", len(pool.query_all("parent(X, Y)")), "parents")

        with ThreadPoolExecutor(20) as threads:
            squares = list(threads.map(lambda n: pool.query_once("Y is X * X", bindings={"X": n}), range(100)))
        print("a hundred queries at once:", all(answer and answer["Y"] == n * n for n, answer in enumerate(squares)))


if __name__ == "__main__":
    main()
