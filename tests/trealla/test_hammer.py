"""Thirty-two threads at once, every answer checked."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable

import pytest

from replicate_trealla import ConsultError, PrologError, PrologPool

THREADS = 32
ROUNDS = 25
PROGRAM = """
:- dynamic([account/2, entry/3]).
account(0, 100). account(1, 100). account(2, 100). account(3, 100).
transfer(From, To, Amount, Who) :-
    retract(account(From, Before)), Rest is Before - Amount, assertz(account(From, Rest)),
    retract(account(To, Had)), Now is Had + Amount, assertz(account(To, Now)),
    assertz(entry(Who, From, To)).
total(T) :- findall(A, account(_, A), As), sum_list(As, T).
"""


@pytest.mark.parametrize("reset", ["on_commit", "each_read"])
def test_every_answer_is_right(open_pool: Callable[..., PrologPool], reset: str) -> None:
    pool = open_pool(replicas=4, program=PROGRAM, reset=reset)
    start = threading.Barrier(THREADS)
    wrong: list[object] = []
    committed = [0] * THREADS

    def expect(fine: object, *told: object) -> None:
        if not fine:
            wrong.append(told)

    def work(me: int) -> None:
        choose = random.Random(me)
        start.wait()
        for step in range(ROUNDS):
            kind = choose.randrange(10)
            places = choose.sample(range(4), 2)
            bindings = {"From": places[0], "To": places[1], "Amount": choose.randrange(1, 9), "Who": me}
            if kind == 0:
                expect(pool.execute("transfer(From, To, Amount, Who)", bindings=bindings) == bindings)
                committed[me] += 1
            elif kind == 1:
                goal = choose.choice(["fail", "throw(no)", "transfer(9, 9, 1, me)"])
                try:
                    expect(pool.execute(f"transfer(From, To, Amount, Who), {goal}", bindings=bindings) is None, goal)
                except PrologError:
                    expect(goal == "throw(no)", goal)
            elif kind == 2:
                with pool.writing() as writer:
                    for _ in range(2):
                        writer.execute("transfer(From, To, Amount, Who)", bindings=bindings)
                committed[me] += 2
            elif kind == 3:
                try:
                    pool.consult_text(f"entry({me}, x, y). account(9, 1000). oops(")
                    expect(False, "a bad program was taken")
                except ConsultError:
                    pass
            elif kind == 4:
                answers = pool.query("between(1, 50, X), Y is X * Me", bindings={"Me": me}, stream=True)
                for number in range(1, 1 + choose.randrange(1, 60)):
                    expect(next(answers, None) == ({"X": number, "Me": me, "Y": number * me} if number <= 50 else None))
                answers.close()
            elif kind == 5:
                with pool.reading() as reader:
                    seen = [reader.query_all("account(A, B)") for _ in range(2)]
                expect(seen[0] == seen[1], seen)
            else:
                # Nobody ever sees half a transfer, and everybody their own.
                expect(pool.query_once("total(T)") == {"T": 400}, "total")
                mine = len(pool.query_all("entry(Who, _, _)", bindings={"Who": me}))
                expect(mine == committed[me], "mine", me, mine, committed[me])
                text = f"{me} {step} 'é\n\\"
                expect(pool.query_once("atom_chars(A, T), atom_length(A, L)", bindings={"T": text}) is not None, text)

    threads = [threading.Thread(target=guarded, args=(work, me, wrong)) for me in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert wrong == []
    assert pool.query_once("total(T)") == {"T": 400}
    assert len(pool.query_all("entry(_, _, _)")) == sum(committed)
    stats = pool.stats()
    assert (stats.reading, stats.idle, stats.readers_waiting, stats.writers_waiting) == (0, 4, 0, 0)


def guarded(work: Callable[[int], None], me: int, wrong: list[object]) -> None:
    try:
        work(me)
    except BaseException as error:
        wrong.append((me, error))
