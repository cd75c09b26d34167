"""Ready-made predicates, for those who want them: hashes, and the web.

::

    PrologPool(predicates=library.HASHES | library.WEB)

``crypto_data_hash(Data, Hash, Options)``
    Unify `Hash` with the hexadecimal digest of a text. Options: ``algorithm(A)``, sha256 unless it's another one of
    blake2b, blake2s, sha1, sha224, sha256, sha384, sha512, md5 and sha3's, and what's unified with an unbound `A`;
    ``encoding(utf8)`` or ``encoding(octet)``, a byte for each character; ``hmac(Key)``, a text or a list of bytes.
``http_fetch(Url, Content, Options)``
    Unify `Content` with what a URL has. Options: ``method(get)``, ``headers([Name-Value, ...])``, ``body(Text)``,
    ``timeout(Seconds)``, 30 unless given, ``as(string)`` or ``as(json)``: objects as ``{}([Name-Value, ...])``, strings as
    strings, true, false and null as atoms.
``http_consult(Url)``
    Load a program, whole or not at all, by ``pool.execute("http_consult('https://...')")``.

Hazards: goals, and so whoever may ask them, reach what this process reaches over HTTP. The guest stands still meanwhile, and
keeps its replica, or the leader.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from typing import Any, NoReturn

from replicate_trealla import iso
from replicate_trealla.errors import PrologError
from replicate_trealla.predicates import Goal, Predicates, Replacing
from replicate_trealla.terms import Atom, Compound, Term, Variable, to_prolog

__all__ = ["HASHES", "WEB", "crypto_data_hash", "http_consult", "http_fetch"]

_ALGORITHMS = (
    "sha256",
    "sha1",
    "sha224",
    "sha384",
    "sha512",
    "sha3_224",
    "sha3_256",
    "sha3_384",
    "sha3_512",
    "blake2b",
    "blake2s",
    "md5",
)
_SECONDS = 30.0
_MAX_BYTES = 64 << 20


def crypto_data_hash(data: Term, digest: Term, options: Term) -> Any:
    """Hash a text; see the module."""
    given = _options(options, "crypto_data_hash", algorithm=1, encoding=1, hmac=1)
    algorithm = given.get("algorithm", Atom("sha256"))
    bound: dict[Any, Any] = {}
    if isinstance(algorithm, Variable):
        bound[algorithm] = algorithm = Atom("sha256")
    if not isinstance(algorithm, Atom) or algorithm.name not in _ALGORITHMS:
        _throw(iso.domain_error("algorithm", algorithm))
    content = _bytes(data, given.get("encoding", Atom("utf8")))
    if "hmac" in given:
        found = hmac.new(_key(given["hmac"]), content, algorithm.name).hexdigest()
    else:
        found = hashlib.new(algorithm.name, content, usedforsecurity=False).hexdigest()
    if bound:
        ((variable, value),) = bound.items()
        return Goal(Compound(",", (Compound("=", (variable, value)), Compound("=", (digest, found)))))
    return {"digest": found}


def http_fetch(url: Term, content: Term, options: Term) -> Any:
    """Fetch what a URL has; see the module."""
    given = _options(options, "http_fetch", method=1, headers=1, body=1, timeout=1, **{"as": 1})
    kind = given.get("as", Atom("string"))
    if kind not in (Atom("string"), Atom("json")):
        _throw(iso.domain_error("as", kind))
    text = _fetch(url, given)
    if kind == Atom("string"):
        return {"content": text}
    try:
        return {"content": _from_json(json.loads(text))}
    except ValueError as error:
        raise PrologError(f"{url} isn't JSON: {error}", ball=iso.syntax_error("json", context=url)) from error


def http_consult(url: Term) -> Goal:
    """Load the program that a URL has; see the module."""
    return Goal(Compound(":", (Atom("$replicate"), Compound("consult_whole", (_fetch(url, {}), url)))))


HASHES: Predicates = {"crypto_data_hash/3": Replacing(crypto_data_hash)}
WEB: Predicates = {"http_fetch/3": Replacing(http_fetch), "http_consult/1": Replacing(http_consult)}


# -- arguments ---------------------------------------------------------------------------------------------------------


def _throw(ball: Compound) -> NoReturn:
    raise PrologError(to_prolog(ball.args[0]), ball=ball)


def _text(term: Term) -> str:
    if isinstance(term, Variable):
        _throw(iso.instantiation_error())
    if term == []:
        return ""
    if isinstance(term, Atom):
        return term.name
    if not isinstance(term, str):
        _throw(iso.type_error("text", term))
    return term


def _bytes(term: Term, encoding: Term) -> bytes:
    text = _text(term)
    if encoding == Atom("utf8"):
        return text.encode()
    if encoding != Atom("octet"):
        _throw(iso.domain_error("encoding", encoding))
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        _throw(iso.representation_error("octet"))


def _key(term: Term) -> bytes:
    if isinstance(term, list) and all(type(each) is int and 0 <= each < 256 for each in term):
        return bytes(term)  # type: ignore[arg-type]
    return _text(term).encode()


def _options(options: Term, name: str, **arities: int) -> dict[str, Term]:
    """Read a list of options, of which later ones count for nothing if there was one before."""
    if isinstance(options, Variable):
        _throw(iso.instantiation_error())
    if not isinstance(options, list):
        _throw(iso.type_error("list", options))
    given: dict[str, Term] = {}
    for option in options:
        if isinstance(option, Variable):
            _throw(iso.instantiation_error())
        if not isinstance(option, Compound) or arities.get(option.functor) != len(option.args):
            _throw(iso.domain_error(f"{name}_option", option))
        given.setdefault(option.functor, option.args[0])
    return given


# -- the web -----------------------------------------------------------------------------------------------------------


def _fetch(url: Term, options: Mapping[str, Term]) -> str:
    address = _text(url)
    if urllib.parse.urlsplit(address).scheme not in ("http", "https"):
        _throw(iso.domain_error("http_url", url))
    seconds = options.get("timeout", _SECONDS)
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or seconds <= 0:
        _throw(iso.domain_error("timeout", seconds))
    body = _text(options["body"]).encode() if "body" in options else None
    method = _text(options["method"]).upper() if "method" in options else ("POST" if body is not None else "GET")
    request = urllib.request.Request(address, data=body, method=method)
    for name, value in _headers(options.get("headers", [])):
        request.add_header(name, value)
    try:
        with urllib.request.urlopen(request, timeout=float(seconds)) as answer:
            data: bytes = answer.read(_MAX_BYTES + 1)
            charset = answer.headers.get_content_charset() or "utf-8"
    except urllib.error.HTTPError as error:
        error.close()
        ball = iso.error(Compound("http_status", (error.code,)), context=url)
        raise PrologError(f"{address} answered with status {error.code}", ball=ball) from error
    except (OSError, ValueError) as error:
        ball = iso.existence_error("url", url, context=str(error))
        raise PrologError(f"can't fetch {address}: {error}", ball=ball) from error
    if len(data) > _MAX_BYTES:
        _throw(iso.resource_error("http_content"))
    try:
        return data.decode(charset)
    except (LookupError, UnicodeDecodeError):
        _throw(iso.representation_error("character"))


def _headers(term: Term) -> list[tuple[str, str]]:
    if not isinstance(term, list):
        _throw(iso.type_error("list", term))
    pairs = []
    for each in term:
        if not isinstance(each, Compound) or each.indicator != "-/2":
            _throw(iso.type_error("pair", each))
        value = each.args[1]
        pairs.append((_text(each.args[0]), str(value) if isinstance(value, int) else _text(value)))
    return pairs


def _from_json(value: Any) -> Term:
    """Make a term of JSON."""
    if isinstance(value, dict):
        return Compound("{}", ([Compound("-", (name, _from_json(each))) for name, each in value.items()],))
    if isinstance(value, list):
        return [_from_json(each) for each in value]
    if value is None or isinstance(value, bool):
        return Atom("null" if value is None else "true" if value else "false")
    result: Term = value
    return result
