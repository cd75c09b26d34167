% The guest's side of replicate_trealla: one query that lives as long as the interpreter and answers all others.
%
% Starting a query in Trealla clears 3 to 6 MB of stacks, so the host starts one, serve/0, and resumes it for each
% request. It finds the request in request/1, a string that the host overwrites in place, runs it, and sends what comes
% of it through '$host_call'/2, as JSON: a flat list of tokens, each of which can be written without a mistake.
%
%   [0]             no more answers
%   [1|Pairs]       an answer: names and values of variables by turns
%   [2|Ball]        what the goal threw
%   [3,Goals|Pairs] the same answer with the goals that constrain its variables, when the host asks for it
%
% In tokens an integer stands for itself, a string for an atom, [] for itself, and a list for the rest: [0] the atom '',
% [1,S] a string, [2,S] a float, [3,N,D] a rational, [4,S] a variable, [5,N,F] a compound term whose N arguments follow,
% [6,N] a list whose N elements follow, [7,S] something that can't leave the interpreter, [8,S] a variable that has
% constraints.
%
% The host replies true for "go on" and fails for "that is enough".
%
% A predicate of the host's is a clause that calls host/2, which sends
%
%   [6,Id|Arguments]  call it; the reply is one of those below, or fails
%   [4,N]             give the next solution of the N-th iterator: the same replies
%   [5,N]             the N-th iterator isn't wanted any more
%
% Replies: nothing for true; i, s or a, the number of an argument and an integer, a string or an atom to unify it with; t and a
% list to unify with all arguments; g and a goal to call; e and a ball to throw; n and the number of an iterator.

:- module('$replicate', []).
:- dynamic([loaded/1, hosted/2]).

% A goal that runs out of memory can fail all the way up to here, past every catch/3: tell the host. (A loop over repeat/0
% would run it again and again.)
serve :- yield, request(Text), ( \+ \+ handle(Text) -> true ; '$host_call'("lost", _) -> true ; true ), serve.

% Tell the host first where requests are to be written.
first_serve :- request(Text), \+ '$host_call'(Text, _), serve.

handle(Text) :- catch(perform(Text), Ball, thrown(Ball)).

perform(Text) :-
    user:read_term_from_chars(Text, Term, [variable_names(Names)]),
    perform(Term, Names).

perform(Term, Names) :-
    (   nonvar(Term), Term = ('$replicate'(Mode, Bindings) :- Goal)
    ->  bind(Bindings),
        run(Mode, Goal, Names)
    ;   nonvar(Term), Term = '$replicate'(Mode)
    ->  '$host_call'("text", Text),
        (   Mode = load(Module) -> consult_chars(Module, Text) ; perform(Text) )
    ;   run(all, Term, Names)
    ).

% Loading reports success whatever happens, so the host ends each program with a fact for loaded/1. A directive that isn't
% known is an error, a warning, or kept and never run: find the last kind.
consult_chars(Into, Text) :-
    load(Into, Text),
    (   \+ retract(loaded(_))
    ->  conclude([2,"unfinished"])
    ;   current_module(Module),
        catch(Module:'$directive'(Directive), _, fail),
        callable(Directive),
        functor(Directive, Name, Arity),
        \+ known_directive(Name)
    ->  throw(error(domain_error(directive, Name/Arity), consult))
    ;   conclude([0])
    ).

known_directive(Name) :- memberchk(Name, [
    attribute, create_prolog_flag, discontiguous, dynamic, encoding, ensure_loaded, export, help, include, info,
    initialization, meta_predicate, module, multifile, op, pragma, public, set_prolog_flag, table, use_module]).

% Which of some clauses, counted from 0, can't be read or added? It's asked when a program couldn't be loaded: what the
% interpreter says of the place counts some lines twice.
faulty([Text|Texts], At, Found) :-
    (   is_fine(Text) -> Next is At + 1, faulty(Texts, Next, Found) ; Found = At ).

is_fine(Text) :- catch(\+ \+ ( read_clause(Text, Term), is_addable(Term) ), _, fail).

read_clause(Text, Term) :- atom_chars(Text, Chars), user:read_term_from_chars(Chars, Term, []).

is_addable(Term) :- var(Term), !, fail.
is_addable((:- _)) :- !.
is_addable((_ --> _)) :- !.
is_addable(_ : Clause) :- !, is_addable(Clause).
is_addable((Module : Head :- Body)) :- atom(Module), !, is_addable((Head :- Body)).
is_addable(Clause) :-
    ( Clause = (Head :- Body) -> callable(Head), is_body(Body) ; callable(Clause) ),
    assertz('$faulty':Clause, Reference),
    erase(Reference).

is_body(Body) :- var(Body), !.
is_body(Body) :- ( Body = (A, B) ; Body = (A ; B) ; Body = (A -> B) ), !, is_body(A), is_body(B).
is_body(Body) :- callable(Body).

% Whether a clause is for a predicate that is a function of the host's: added to one, it would never be reached.
is_hosted(Text, Name, Arity) :-
    catch(read_clause(Text, Term), _, fail),
    nonvar(Term),
    ( Term = (Head :- _) -> true ; Head = Term ),
    callable(Head),
    functor(Head, Name, Arity),
    hosted(Name, Arity).

% Change the program by each of some clauses, on its own: a variable that stands in two of them is two variables.
change(_, [], Count, Count).
change(Change, [Clause|Clauses], Before, Count) :-
    (   \+ change(Change, Clause) -> Now = Before ; Now is Before + 1 ),
    change(Change, Clauses, Now, Count).

change(asserta, Clause) :- user:asserta(Clause).
change(assertz, Clause) :- user:assertz(Clause).
change(retract, Clause) :-
    parts(Clause, user, Module, Head, Body),
    (   is_dynamic(Module, Head) -> found(Module, Head, Body, Reference), erase(Reference) ; user:retract(Clause) ).
change(retractall, Given) :-
    parts(Given, user, Module, Head, _),
    (   is_dynamic(Module, Head) -> ( found(Module, Head, _, Reference), erase(Reference), fail ; true )
    ;   user:retractall(Given)
    ).

is_dynamic(Module, Head) :- callable(Head), Module:predicate_property(Head, dynamic), !.

parts(Clause, Module, Module, Clause, _) :- var(Clause), !.
parts(Module:Clause, _, Within, Head, Body) :- !, parts(Clause, Module, Within, Head, Body).
parts((Head :- Body), Module, Module, Head, Body) :- !.
parts(Head, Module, Module, Head, true).

% From 500 clauses on, Trealla 0.23 keeps an index that retract/1 and retractall/1 spoil (erase/1 doesn't), and that doesn't find
% some strings. Where clause/3 would throw, as for static predicates, it may never end instead.
found(Module, Head, Body, Reference) :-
    (   compound(Head), arg(1, Head, First), is_list(First)
    ->  Head =.. [Name,First|Rest],
        General =.. [Name,Second|Rest],
        Module:clause(General, Found, Reference),
        Second = First
    ;   Module:clause(Head, Found, Reference)
    ),
    Found = Body.

bind([]).
bind([Binding|Bindings]) :- bind_one(Binding), bind(Bindings).

bind_one(Variable = Value) :- Variable = Value.
bind_one(Variable is Expression) :- Variable is Expression.

run(all, Goal, Names) :-
    (   call(user:Goal),
        ( pairs(Names, Pairs) -> \+ answer(Names, Pairs) ; too_deep )
    ->  true
    ;   conclude([0])
    ).
run(stream, Goal, Names) :-
    (   call(user:Goal),
        ( pairs(Names, Pairs) -> ( answer(Names, Pairs) -> true ; true ), yield, fail ; too_deep )
    ->  true
    ;   conclude([0])
    ).

thrown(Ball) :- ( tokens(Ball, 0, Tokens, []) -> conclude([2|Tokens]) ; too_deep ).

% The host asks for the constraints when it sees that a variable has any.
answer(Names, Pairs) :-
    report([1|Pairs], Reply),
    (   Reply = [_|_]
    ->  residual(Names, Shown, Goals),
        ( tokens(Goals, 0, Tokens, More), pairs(Shown, More) -> report([3|Tokens]) ; too_deep, fail )
    ;   true
    ).

too_deep :-
    tokens(error(representation_error(term_depth), answer), 0, Tokens, []),
    conclude([2|Tokens]).

conclude(Tokens) :- ( report(Tokens) -> true ; true ).

report(Tokens) :- report(Tokens, _).

report(Tokens, Reply) :- json(Tokens, Text), flush_output(user_output), '$host_call'(Text, Reply).

pairs([], []).
pairs([Name = Value|Names], Pairs) :-
    atom_chars(Name, Text),
    (   Text = ['_'|_]
    ->  pairs(Names, Pairs)
    ;   Pairs = [Text|Tokens],
        tokens(Value, 0, Tokens, Rest),
        pairs(Names, Rest)
    ).

% Builtins that walk whole terms, as ground/1 and acyclic_term/1, overflow their stack a few thousand levels deep. This
% doesn't; it fails, since throwing from deep inside has crashed Trealla 0.33, when a term has more levels than anybody
% needs: then it's probably cyclic. To is_stream/1 an atom or a string that is a stream's alias is one, too.
tokens(Term, Level, Tokens, Rest) :-
    (   atom(Term) -> atom_tokens(Term, Tokens, Rest)
    ;   is_list(Term) ->
        (   string(Term)
        ->  atom_chars(Atom, Term), atom_chars(Atom, Text), Tokens = [[1,Text]|Rest]
        ;   length(Term, Length), Tokens = [[6,Length]|Elements], level(Level, Next), list_tokens(Term, Next, Elements, Rest)
        )
    ;   is_stream(Term) -> opaque(Term, Tokens, Rest)
    ;   integer(Term) -> Tokens = [Term|Rest]
    ;   compound(Term) ->
        functor(Term, Name, Arity),
        Term =.. [_|Arguments],
        name_token(Name, Token),
        Tokens = [[5,Arity,Token]|Values],
        level(Level, Next),
        list_tokens(Arguments, Next, Values, Rest)
    ;   var(Term) -> variable_tokens(Term, Tokens, Rest)
    ;   float(Term) -> float_tokens(Term, Tokens, Rest)
    ;   rational(Term) -> Numerator is numerator(Term), Denominator is denominator(Term), Tokens = [[3,Numerator,Denominator]|Rest]
    ;   opaque(Term, Tokens, Rest)
    ).

level(Level, Next) :- Next is Level + 1, Next < 20000.

list_tokens([], _, Rest, Rest).
list_tokens([Term|Terms], Level, Tokens, Rest) :- tokens(Term, Level, Tokens, More), list_tokens(Terms, Level, More, Rest).

atom_tokens(Atom, [Token|Rest], Rest) :- ( Atom == [] -> Token = [] ; name_token(Atom, Token) ).

name_token(Atom, Token) :- ( Atom == '' -> Token = [0] ; atom_chars(Atom, Token) ).

variable_tokens(Variable, [[Tag,Text]|Rest], Rest) :-
    write_term_to_chars(Variable, [], Text),
    (   '$attributed_var'(Variable) -> Tag = 8 ; Tag = 4 ).

% Zero is written without its sign.
float_tokens(Float, [[2,Text]|Rest], Rest) :-
    (   Float =:= 0.0, copysign(1.0, Float) < 0.0 -> Text = "-0.0" ; write_canonical_to_chars(Text, Float, []) ).

opaque(Term, [[7,Text]|Rest], Rest) :- write_term_to_chars(Term, [quoted(true)], Text).

% -- predicates of the host's ------------------------------------------------------------------------------------------

host(Id, Call) :-
    Call =.. [_|Arguments],
    (   list_tokens(Arguments, 0, Tokens, [])
    ->  true
    ;   throw(error(representation_error(term_depth), Call))
    ),
    json([6,Id|Tokens], Text),
    '$host_call'(Text, Reply),
    take(Reply, Call).

% No reply isn't the empty list.
take(Reply, Call) :- ( nonvar(Reply), Reply = [Kind|Text] -> take(Kind, Text, Call) ; true ).

take(i, [At|Digits], Call) :- number_chars(Value, Digits), argument(At, Call, Value).
take(s, [At|Value], Call) :- argument(At, Call, Value).
take(a, [At|Name], Call) :- atom_chars(Value, Name), argument(At, Call, Value).
take(t, Text, Call) :- read_reply(Text, Call, Arguments), Call =.. [_|Arguments].
take(g, Text, Call) :- read_reply(Text, Call, Goal), call(user:Goal).
take(e, Text, Call) :- read_reply(Text, Call, Ball), throw(Ball).
take(n, Digits, Call) :-
    number_chars(Number, Digits),
    json([4,Number], Next),
    json([5,Number], Close),
    setup_call_cleanup(true, each(Next, Call), ignore('$host_call'(Close, _))).

each(Next, Call) :- repeat, ( '$host_call'(Next, Reply) -> true ; !, fail ), take(Reply, Call).

argument(At, Call, Value) :- number_chars(Position, [At]), arg(Position, Call, Value).

% Variables have the names that they were sent by.
read_reply(Text, Call, Term) :-
    user:read_term_from_chars(Text, host(Computed, Term), [variable_names(Names)]),
    (   Names == []
    ->  true
    ;   term_variables(Call, Variables),
        known(Names, Variables)
    ),
    bind(Computed).

known([], _).
known([Name = Variable|Names], Variables) :- atom_chars(Name, Text), known(Variables, Text, Variable), known(Names, Variables).

known([], _, _).
known([Known|Rest], Text, Variable) :-
    write_term_to_chars(Known, [], Written),
    ( Written == Text -> Variable = Known ; known(Rest, Text, Variable) ).

% What a library of Trealla's defines is taken too, though a program could define it anew.
taken(Name, Arity, Libraries) :-
    functor(Head, Name, Arity),
    (   catch(user:predicate_property(Head, _), _, fail)
    ->  true
    ;   Libraries == true, user:current_predicate(Name/Arity)
    ->  true
    ).

% Load a program that a predicate of the host's has got from somewhere.
consult_whole(Text, Place) :-
    append(Text, "\n'$replicate':loaded(yes).\n", Whole),
    load(user, Whole),
    ( retract(loaded(_)) -> true ; throw(error(syntax_error(program), Place)) ).
