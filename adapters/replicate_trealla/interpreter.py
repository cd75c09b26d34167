"""Prolog over one guest handle: what a transaction of a pool and a single interpreter have in common."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import attrs

from replicate.errors import ArgumentTypeError
from replicate_trealla import iso
from replicate_trealla.answers import Answer, ball_of, shown
from replicate_trealla.changes import Kind, change
from replicate_trealla.errors import ConsultError, PrologError, PrologSyntaxError
from replicate_trealla.predicates import Held, Python, make_predicate, registering
from replicate_trealla.programs import Program, program_of, read_programs
from replicate_trealla.queries import Query, Stream, TransactionSteps, first, note_change, run_or_discard, settled
from replicate_trealla.requests import Bindings, checked_limit, request_for
from replicate_trealla.steps import Collect, Load, StopStream
from replicate_trealla.terms import Atom, Compound, Term, Variable, to_prolog
from replicate_trealla.text import clause_starts, end_of_file, ends_open, line_of, line_of_token, unpartnered
from replicate_trealla.watch import CHANGED_FACTS

if TYPE_CHECKING:
    from replicate.handles import Guest
    from replicate_trealla.session import Message

__all__ = ["Consulted", "Interpreter"]

P = TypeVar("P", bound=Python)

T = TypeVar("T")


@attrs.frozen
class Consulted:
    """Tell what loading a program had to say: what its goals wrote, and the interpreter's warnings."""

    stdout: str = ""
    warnings: tuple[str, ...] = ()


class Interpreter:
    """Ask the interpreter behind a guest handle; for use inside a transaction, and dead with it.

    In a read, what a goal changes (``assertz/1`` and the like) is never committed: see `PrologPool`.
    """

    __slots__ = ("_guest", "_held", "_left", "_refuses")

    def __init__(self, guest: Guest, *, refuses: bool = False, held: list[Held] | None = None) -> None:
        if inspect.iscoroutinefunction(guest.call):
            raise ArgumentTypeError(
                f"{guest!r} is awaited, and an Interpreter isn't: use AsyncInterpreter, or AsyncPrologPool's own transactions"
            )
        self._guest = guest
        self._held = _HELD if held is None else held
        """What keeps predicates as long as whoever calls them."""
        self._left: list[int] = []
        self._refuses = refuses
        """Whether goals that change facts are an error."""

    def _run(self, step: Callable[[Guest], T]) -> T:
        while self._left:
            self._guest.discard()
            self._guest.run(StopStream(self._left.pop()))
        return run_or_discard(self._guest, step)

    def _collect(self, request: bytes, limit: int | None, goal: str) -> list[Message]:
        return settled(self._guest, self._run(Collect(request, limit)), goal, refuses=self._refuses)

    # -- queries -------------------------------------------------------------------------------------------------------

    def query(
        self, goal: str, *, bindings: Bindings | None = None, limit: int | None = None, stream: bool = False
    ) -> Query:
        """Give the answers to a goal, at most `limit` of them.

        `bindings` are values for variables of the goal, so that no value is ever pasted into its text. Variables whose
        names start with an underscore aren't in the answers.

        All answers are computed at once, which is the fastest, and needs a `limit` where there may be endless ones. With
        `stream`, each is computed when it's asked for; close the query (or let it go) to stop early.

        Hazard: times that Trealla counts from the start of a query, as in ``statistics/2``, count from an earlier moment.

        Raises `PrologError` for what the goal throws, `PrologSyntaxError` (one of its kinds) for text that isn't a goal,
        `InterpreterError` when the interpreter ended, and `TermError` for a binding that has no term (`to_term` says what
        has). A goal that throws after some answers raises when these would be next.
        """
        limit = checked_limit(limit)
        request = request_for(goal, bindings, "stream" if stream else "all")
        if stream:
            return Stream(
                goal, request, limit, lambda: TransactionSteps(self._guest, self._left, refuses=self._refuses)
            )
        return Query(goal, iter(self._collect(request, limit, goal)))

    def query_all(self, goal: str, *, bindings: Bindings | None = None, limit: int | None = None) -> list[Answer]:
        """Give all answers, or the first `limit` ones; see `query`. Raises if the goal throws at any point."""
        return list(self.query(goal, bindings=bindings, limit=limit))

    def query_once(self, goal: str, *, bindings: Bindings | None = None) -> Answer | None:
        """Give the first answer, or None if the goal fails; see `query`."""
        return first(self._collect(request_for(goal, bindings), 1, goal), goal)

    def execute(self, goal: str, *, bindings: Bindings | None = None) -> Answer | None:
        """Run a goal for what it changes, up to its first answer, and give that, or None if it fails.

        What it changed before it failed or threw stays changed, until the transaction rolls back.
        """
        return self.query_once(goal, bindings=bindings)

    # -- predicates ----------------------------------------------------------------------------------------------------

    def register(self, indicator: str | None, function: Python) -> None:
        """Make a Python function a predicate of module ``user``; `indicator` is ``"name/arity"``, None for the function's own.

        The function gets the arguments as terms, `Variable` where they're unbound. It may return

        - None or True to succeed, False to fail;
        - a mapping of its parameters' names, or variables that it was given, to what they're to be unified with;
        - a tuple, of a value for each argument, or ``...`` for one to be left alone;
        - a `Goal` to be called;
        - an iterator, such as a generator's: each element is a solution, one of the above or below, computed when Prolog asks
          for another one; it's closed when Prolog wants no more;
        - any other value, to be unified with the last argument.

        What it raises is thrown: of a `PrologError` its ball, which `iso` helps to make, of any other exception
        ``error(python_error(Type, Message), _)``; what the program doesn't catch comes back as the exception that it was.

        Raises `PrologError` if there's a predicate of this name and arity, `ArgumentError` for what can't be one.

        Hazards: it runs in the thread that runs the goal, and on whatever replica; a timeout doesn't stop it, but is looked at
        when it returns. It can't ask the interpreter that calls it. What it does outside the guest isn't rolled back.
        """
        held = make_predicate(indicator, function)
        register_held(self, held)
        self._held.append(held)

    def predicate(self, indicator: str | None = None) -> Callable[[P], P]:
        """Make the decorated function a predicate; see `register`. ``@prolog.predicate("double/2")``."""
        return registering(indicator, self.register)

    # -- clauses -------------------------------------------------------------------------------------------------------

    def assertz(self, *clauses: object) -> None:
        """Add clauses after those there are: facts, and rules as ``Compound(":-", (head, body))``.

        A `Variable` is one of its clause, whatever other clauses call theirs. Raises `TermError` for what isn't a clause before
        anything is changed, and `PrologError` for what the interpreter refuses, as a clause of a built-in.
        """
        self._change("assertz", clauses)

    def asserta(self, *clauses: object) -> None:
        """Add clauses before those there are, one after the other: the last one given will be the first; see `assertz`."""
        self._change("asserta", clauses)

    def retract(self, *clauses: object) -> int:
        """Remove, for each of these, the first clause that unifies with it; give for how many there was one."""
        return self._change("retract", clauses)

    def retractall(self, *heads: object) -> None:
        """Remove all clauses whose heads unify with one of these."""
        self._change("retractall", heads)

    def _change(self, kind: Kind, clauses: tuple[object, ...]) -> int:
        note_change(self._guest, CHANGED_FACTS, kind, refuses=self._refuses)
        return self._run(change(kind, clauses))

    # -- programs ------------------------------------------------------------------------------------------------------

    def consult_text(self, text: str, *, name: str = "user", module: str = "user") -> Consulted:
        """Load a program into a module; `name` is what messages call it.

        Clauses are added to what is there. Goals are run by ``:- initialization(Goal).``, after loading; Trealla knows no
        other directives than declarations.

        Raises `PrologSyntaxError` or another `ConsultError`, with the interpreter's message and line, for a program that
        couldn't be loaded whole: syntax errors, unknown directives, missing modules, initialization goals that fail, throw
        or write a line that starts with "Error: ". The interpreter is then left with what it had loaded so far, so let the
        exception leave the transaction.

        Hazard: in npm's build each program with an initialization goal leaves 5.5 MB of unused guest memory behind.
        """
        return self.load(program_of(text, name, module))

    def load(self, program: Program) -> Consulted:
        """Load a program as `consult_text` does."""
        note_change(self._guest, CHANGED_FACTS, f"consulting {program.name}", refuses=self._refuses)
        text, name = program.text, program.name
        data, out, err = self._run(Load(program.encode(_LAST), program.module.encode()))
        said, warned = out.decode("utf-8", "replace"), err.decode("utf-8", "replace")
        self._check_load(text, name, said + warned, ball_of(data) if data[1:2] == b"2" else None)
        if program.module == "user":
            self._check_hosted(text, name)
        self._run(_SETTLE)
        warnings = (_placed(line[9:], name) for line in warned.splitlines() if line.startswith("Warning: "))
        return Consulted(_SPURIOUS.sub("", said), tuple(warnings))

    def consult(self, *paths: str | os.PathLike[str]) -> Consulted:
        """Load program files of the host, one after the other, as `consult_text` does; of a folder, all its ``*.pl``, sorted.

        They're read here and now, before anything is loaded. Raises `ConsultError` for one that can't be read, too.
        """
        return self.load_all(read_programs(paths))

    def consult_all(self, programs: Iterable[tuple[str, str]]) -> Consulted:
        """Load programs, given as names and texts, one after the other, as `consult_text` does."""
        return self.load_all(Program(name, text) for name, text in programs)

    def load_all(self, programs: Iterable[Program]) -> Consulted:
        """Load programs, one after the other, as `consult_text` does."""
        said: list[str] = []
        warnings: list[str] = []
        for program in programs:
            done = self.load(program)
            said.append(done.stdout)
            warnings.extend(done.warnings)
        return Consulted("".join(said), tuple(warnings))

    def _check_load(self, text: str, name: str, said: str, ball: Term | None) -> None:
        thrown = _THREW.search(said)
        if thrown is not None:
            raise ConsultError(
                f"an initialization goal of {name} threw {thrown[1]:.500}", ball=self._read_back(thrown[1])
            )
        fault = _FAULT.search(said)
        at_end = ball == _UNFINISHED and (fault is None or _is_about_the_end(fault[1], text))
        start = ends_open(text) if at_end else None
        if start is not None:
            line = line_of(text, start)
            message = (
                f"{name}:{line}: the last clause doesn't end: its period is missing, or a quote or comment is left open"
            )
            raise PrologSyntaxError(message, line=line)
        if fault is not None:
            raise _consult_error(fault[1], name, partial(self._faulty_line, text))
        if ball == _UNFINISHED:
            raise ConsultError(
                f"the interpreter stopped reading {name} before its end, without saying why; is there an ':- if' without "
                "an ':- endif'?"
            )
        if ball is not None:
            raise _consult_error_from(ball, name)

    def _check_hosted(self, text: str, name: str) -> None:
        """Raise `ConsultError` if a program has clauses for a predicate that is a Python function; they'd never be reached."""
        hosted = {str(answer["Name"]) for answer in self.query_all("'$replicate':hosted(Name, _)")}
        if not any(each in text for each in hosted):
            return
        for start, clause in clause_starts(text[: end_of_file(text)]):
            if any(each in clause for each in hosted):
                asked: Bindings = {"Text": Atom(f"{clause}\n.")}
                found = self.query_once("'$replicate':is_hosted(Text, Name, Arity)", bindings=asked)
                if found is not None:
                    line = line_of(text, start)
                    raise ConsultError(
                        f"{name}:{line}: {found['Name']}/{found['Arity']} is a Python function: it can't have clauses, too",
                        line=line,
                    )

    def _faulty_line(self, text: str, said: str, line: int | None) -> int | None:
        """Give the line of what can't be loaded, None if it isn't found, or is as right as `line`, which the interpreter gives.

        The interpreter is asked about clause after clause, which changes nothing, and in the clause it's the token, or the
        bracket without a partner, that explains what was `said`, if one does.
        """
        if len(text) > _LARGEST_SEARCHED or not _miscounts(text, line):
            return None
        clauses = clause_starts(text[: end_of_file(text)])
        if len(clauses) > _MOST_SEARCHED:
            return None
        texts = [Atom(f"{clause}\n.") for _, clause in clauses]
        try:
            answer = self.query_once("'$replicate':faulty(Texts, 0, At)", bindings={"Texts": texts})
        except PrologError:
            return None
        at = None if answer is None else answer["At"]
        if not isinstance(at, int):
            return None
        start, clause = clauses[at]
        culprit = unpartnered(clause)
        near = _NEAR.search(said)
        within = line_of(clause, culprit) if culprit is not None else line_of_token(clause, near[1]) if near else None
        found = line_of(text, start) + (within or 1) - 1
        # It never counts too few: what is found after that is about another state of the operators.
        return found if line is None or found <= line else None

    def _read_back(self, written: str) -> Term | None:
        """Make a term of text that the interpreter wrote."""
        try:
            answer = self.query_once(f"Ball = ({written}\n)")
        except PrologError:
            return None
        return answer["Ball"] if answer else None


# -- predicates --------------------------------------------------------------------------------------------------------

_HELD: list[Held] = []
"""Predicates of interpreters over handles of whose pool nothing is known."""


def register_held(interpreter: Interpreter, held: Held) -> None:
    """Add the clause for a predicate; raise `PrologError` if there's one of its name and arity."""
    name, arity = Atom(held.predicate.name), held.predicate.arity
    asked: Bindings = {"Name": name, "Arity": arity, "Libraries": not held.replaces}
    if interpreter.query_once("'$replicate':taken(Name, Arity, Libraries)", bindings=asked) is not None:
        culprit = iso.indicator(name, arity)
        raise PrologError(
            f"{held.predicate.indicator} is there already: choose another name for the function",
            ball=iso.permission_error("modify", "procedure", culprit, context=Atom("register")),
        )
    head: Term = name(*(Variable(f"A{at}") for at in range(arity))) if arity else name
    interpreter.consult_text(
        f"{to_prolog(head)} :- '$replicate':host({held.number}, {to_prolog(head)}).", name=f"the clause for {name}"
    )
    interpreter.query_once("assertz('$replicate':hosted(Name, Arity))", bindings={"Name": name, "Arity": arity})


# -- what the interpreter says when it loads -------------------------------------------------------------------------

# The table that current_op/3 looks at is made when it's first asked after a change, by retracting and asserting. Do it here,
# or each replica would for each question.
_SETTLE = Collect(b"current_op(_, _, is)\n", 1)

# It reports success whatever happens. This fact is there only when everything before it was read, in whatever module.
_LAST = "'$replicate':loaded(yes).\n"

_THREW = re.compile(r"\rWarning: Initialization goal exception: (.*)\.", re.DOTALL)
_FAULT = re.compile(
    r"^(Error: (?:<<[\s\S]*?>>|.)*|Warning: (?:Initialization goal failed|module file not found): .*)$", re.MULTILINE
)
_EXCERPT = re.compile(r" <<[\s\S]*?(?:>>|\Z)")
# 0.33 says this of some declarations that it does know.
_SPURIOUS = re.compile(r"^Warning: unknown directive: .*\n?", re.MULTILINE)
_UNFINISHED = Atom("unfinished")
_HINT = "; run goals with ':- initialization(Goal).'"
_NEAR = re.compile("near '([^']+)'")
_MOST_SEARCHED, _LARGEST_SEARCHED = 2000, 1 << 17
"""In clauses and characters: what is longer isn't searched for the clause with a fault."""
_PLACE = re.compile(r",? (?:near )?\S+:(\d+)$")


def _consult_error_from(ball: Term, name: str) -> ConsultError:
    kind = ball.args[0] if isinstance(ball, Compound) else None
    if isinstance(kind, Compound) and kind.functor == "domain_error" and kind.args[0] == Atom("directive"):
        return ConsultError(f"{name}: unknown directive: {shown(kind.args[1])}{_HINT}", ball=ball)
    return ConsultError(f"{name} couldn't be loaded: {shown(ball)}", ball=ball)


def _is_about_the_end(said: str, text: str) -> bool:
    """Tell whether the interpreter stumbled over what follows the program's own text."""
    _, line = _place(said)
    return "'$replicate'" in said or (line is not None and line > text.count("\n") + 1)


def _place(said: str) -> tuple[str, int | None]:
    """Split a message into what it says and the line, which follows the name of some module."""
    said = _EXCERPT.sub("", said)
    place = _PLACE.search(said)
    return (said[: place.start()], int(place[1])) if place else (said, None)


def _placed(said: str, name: str) -> str:
    message, line = _place(said)
    return f"{name}:{line}: {message}" if line else f"{name}: {message}"


def _miscounts(text: str, line: int | None) -> bool:
    """Tell whether the interpreter may have counted lines twice, up to this one: at comments, and inside clauses."""
    if line is None:
        return True
    lines = [each.rstrip() for each in text.split("\n")[:line]]
    return any("%" in each or "/*" in each for each in lines) or any(each and each[-1] != "." for each in lines[:-1])


def _consult_error(said: str, name: str, find_line: Callable[[str, int | None], int | None]) -> ConsultError:
    message, line = _place(re.sub(r"^(?:Error|Warning): ", "", said))
    if said.startswith("Error: "):
        line = find_line(message, line) or line
    where = f"{name}:{line}" if line else name
    if message.startswith("syntax error"):
        reason = message.removeprefix("syntax error, ")
        context = Compound(":", (Atom(name), line)) if line else Atom(name)
        ball = Compound("error", (Compound("syntax_error", (Atom(reason),)), context))
        return PrologSyntaxError(f"{where}: {message}", ball=ball, line=line)
    hint = _HINT if "directive" in message or "uninstantiated" in message else ""
    return ConsultError(f"{where}: {message}{hint}", line=line)
