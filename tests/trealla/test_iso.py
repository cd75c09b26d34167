"""Error terms of the standard, predicate indicators and option lists."""

from __future__ import annotations

from typing import Any

import pytest

from replicate_trealla import Atom, Compound, Prolog, PrologError, TermError, Variable, iso

# Goals that throw each kind, as the interpreter has them.
THROWN = [
    ("atom_length(_, _)", iso.instantiation_error()),
    ("atom_length(a, b)", iso.type_error("integer", Atom("b"))),
    ("X is foo + 1", iso.type_error("evaluable", iso.indicator("foo", 0))),
    ("atom_length(a, -1)", iso.domain_error("not_less_than_zero", -1)),
    ("nothing(1, 2)", iso.existence_error("procedure", iso.indicator(Compound("nothing", (1, 2))))),
    ("asserta(atom_length(_, _))", iso.permission_error("modify", "static_procedure", iso.indicator("atom_length", 2))),
    ("X is 1 / 0", iso.evaluation_error("zero_divisor")),
]
MADE = [
    (iso.representation_error("max_arity"), "representation_error(max_arity)"),
    (iso.resource_error("memory"), "resource_error(memory)"),
    (iso.syntax_error("operator expected"), "syntax_error('operator expected')"),
    (iso.system_error(), "system_error"),
    (iso.system_error("no net"), 'system_error("no net")'),
    (iso.error(Atom("mine")), "mine"),
]


@pytest.mark.parametrize(("goal", "ball"), THROWN, ids=[goal for goal, _ in THROWN])
def test_they_are_what_the_interpreter_throws(shared: Prolog, goal: str, ball: Compound) -> None:
    with pytest.raises(PrologError) as caught:
        shared.query_once(goal)

    assert isinstance(caught.value.ball, Compound)
    assert (caught.value.ball.indicator, caught.value.ball.args[0]) == ("error/2", ball.args[0])


@pytest.mark.parametrize(("ball", "kind"), [*MADE, *((ball, None) for _, ball in THROWN)])
def test_a_goal_that_throws_them_is_caught_by_their_kind(shared: Prolog, ball: Compound, kind: str | None) -> None:
    answer = shared.query_once(
        f"catch(throw(Ball), error({kind or 'Kind'}, Context), true), var(Context)", bindings={"Ball": ball}
    )

    assert answer is not None


def test_the_context_may_be_given(shared: Prolog) -> None:
    ball = iso.type_error("integer", 1.5, context=iso.indicator("mine", 3))

    assert ball.args[1] == Compound("/", (Atom("mine"), 3))
    with pytest.raises(PrologError) as caught:
        shared.query_once("throw(Ball)", bindings={"Ball": ball})
    assert caught.value.ball == ball


def test_an_exception_is_made_of_its_ball() -> None:
    error = PrologError.of(iso.type_error("integer", Atom("a")))

    assert error.ball == iso.type_error("integer", Atom("a"))
    assert str(error) == "error(type_error(integer,a),_)"
    assert PrologError.of(("broken", 1)).ball == ["broken", 1]
    with pytest.raises(TermError, match="object has no Prolog term"):
        PrologError.of(iso.type_error("integer", object()))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("predicate", "arity", "text"),
    [
        ("foo", 2, ("foo", 2)),
        (Atom("foo"), None, ("foo", 0)),
        (Atom("foo"), 3, ("foo", 3)),
        (Compound("foo", (1, 2)), None, ("foo", 2)),
    ],
)
def test_indicators_are_made_of_names_and_of_goals(predicate: Any, arity: int | None, text: Any) -> None:
    assert iso.indicator(predicate, arity) == Compound("/", (Atom(text[0]), text[1]))


@pytest.mark.parametrize("predicate", ["foo", 1, [], Variable("X")])
def test_what_names_no_predicate_has_no_indicator(predicate: Any) -> None:
    with pytest.raises(TermError, match="no predicate indicator"):
        iso.indicator(predicate)


def test_option_lists_are_made_and_read() -> None:
    options = iso.option_list({"quoted": True, "max_depth": 3, "names": [Atom("a")]})

    assert options == [Atom("quoted")(Atom("true")), Atom("max_depth")(3), Atom("names")([Atom("a")])]
    assert iso.options_of(options) == {"quoted": Atom("true"), "max_depth": 3, "names": [Atom("a")]}


def test_the_first_option_of_a_name_counts_and_an_atom_is_true() -> None:
    assert iso.options_of([Atom("a")(1), Atom("a")(2), Atom("b")]) == {"a": 1, "b": Atom("true")}
    assert iso.options_of("xy") == {"x": Atom("true"), "y": Atom("true")}
    assert iso.options_of([]) == {}


@pytest.mark.parametrize(
    ("term", "ball"),
    [
        (Variable("X"), iso.instantiation_error()),
        ([Variable("X")], iso.instantiation_error()),
        (Compound(".", (Atom("a"), Variable("X"))), iso.instantiation_error()),
        (Compound(".", (Atom("a"), 1)), iso.type_error("list", Compound(".", (Atom("a"), 1)))),
        (3, iso.type_error("list", 3)),
        ([3], iso.domain_error("option", 3)),
        ([Compound("a", (1, 2))], iso.domain_error("option", Compound("a", (1, 2)))),
    ],
)
def test_what_is_no_option_list_throws_as_in_prolog(term: Any, ball: Compound) -> None:
    with pytest.raises(PrologError) as caught:
        iso.options_of(term)

    assert caught.value.ball == ball
