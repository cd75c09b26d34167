"""What the driver sends, as Python values."""

from __future__ import annotations

import json

import pytest

from replicate_trealla import Answer, Atom, Compound, InterpreterError, Opaque, PrologError, PrologSyntaxError, Variable
from replicate_trealla.answers import decode_answer, raise_ball


def decode(message: bytes) -> Answer:
    return decode_answer(message, b"", b"")


def test_tokens_are_read_as_the_driver_describes_them() -> None:
    answer = decode(
        b'[1,"A",1,"B","x","C",[],"D",[0],"E",[1,"text"],"F",[2,"0.5"],"G",[3,1,3],"H",[4,"_1"],"I",[7,"<x>"],'
        b'"J",[5,2,"f"],"a",[5,1,[0]],2,"K",[6,3],1,[6,1],[4,"_1"],[1,"t"]]'
    )

    assert answer["A"] == 1
    assert (answer["B"], answer["C"], answer["D"], answer["E"], answer["F"]) == (Atom("x"), [], Atom(""), "text", 0.5)
    assert f"{answer['G']}" == "1/3"
    assert (answer["H"], answer["I"]) == (Variable("H"), Opaque("<x>"))
    assert answer["J"] == Compound("f", (Atom("a"), Compound("", (2,))))
    assert answer["K"] == [1, [Variable("H")], "t"]


def test_the_first_of_several_equal_variables_names_them_all() -> None:
    assert decode(b'[1,"X",[4,"_9"],"Y",[4,"_9"]]') == {"X": Variable("X"), "Y": Variable("X")}


def test_numbers_longer_than_python_reads_at_once_are_read() -> None:
    digits = "7" * 9001

    answer = decode(b'[1,"X",' + digits.encode() + b',"Y",-' + digits.encode() + b"]")

    assert answer["X"] == sum(7 * 10**place for place in range(9001))
    assert answer["Y"] == -answer["X"]  # type: ignore[operator]


def test_terms_of_any_depth_are_read_without_recursion() -> None:
    term = decode(b'[1,"X",' + b'[5,1,"s"],' * 50_000 + b"0]")["X"]

    depth = 0
    while isinstance(term, Compound):
        term, depth = term.args[0], depth + 1
    assert (term, depth) == (0, 50_000)


def test_a_stream_that_is_closed_may_come_as_it_is_written() -> None:
    text = json.dumps("'$stream'(5) \\ \"")
    answer = decode(b'[1,"S",\'$stream\'(4),"T",[1,' + text.encode() + b"]]")

    assert answer == {"S": Opaque("'$stream'(4)"), "T": "'$stream'(5) \\ \""}


def test_what_cannot_be_read_is_shown() -> None:
    with pytest.raises(InterpreterError, match="nonsense"):
        decode(b"[1,nonsense")


def test_an_answer_is_a_dict_with_output_beside_it() -> None:
    answer = decode_answer(b'[3,[6,1],[5,1,"g"],[8,"_1"],"X",[8,"_1"]]', "é\n".encode(), b"\xff")

    assert answer == {"X": Variable("X")}
    assert answer.residual == (Compound("g", (Variable("X"),)),)
    assert (answer.stdout, answer.stderr) == ("é\n", "�")


def test_syntax_errors_are_told_from_others() -> None:
    syntax = b'[2,[5,2,"error"],[5,1,"syntax_error"],"operand_missing",[5,2,"/"],"read_term_from_chars",3]'
    other = b'[2,[5,2,"error"],[5,2,"existence_error"],"procedure",[5,2,"/"],"foo",1,[5,2,"/"],"foo",1]'

    with pytest.raises(PrologSyntaxError, match="operand_missing: X ="):
        raise_ball(syntax, "X =")
    with pytest.raises(PrologError, match=r"existence_error\(procedure,foo/1\),foo/1\), thrown by foo\(X\)") as caught:
        raise_ball(other, "foo(X)")
    assert not isinstance(caught.value, PrologSyntaxError)
    assert caught.value.ball == Compound(
        "error",
        (
            Compound("existence_error", (Atom("procedure"), Compound("/", (Atom("foo"), 1)))),
            Compound("/", (Atom("foo"), 1)),
        ),
    )
