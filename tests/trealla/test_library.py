"""The ready-made predicates, against Python's own hashes and a server on the loopback interface."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from replicate_trealla import Atom, Compound, PrologError, PrologPool, library

PAGES = {
    "/facts.pl": b"fetched(1). fetched(2).\n",
    "/bad.pl": b"fetched(1). fetched(\n",
    "/text": "é 🦜".encode(),
    "/json": json.dumps({"a": [1, 2.5, None, True], "b": {"c": "text"}}).encode(),
    "/binary": b"\xff\xfe",
}


class Handler(BaseHTTPRequestHandler):
    """Serve pages, and tell what was asked."""

    def do_GET(self) -> None:
        page = PAGES.get(self.path)
        self._answer(200 if page is not None else 404, page or b"nothing")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(200, f"{self.command} {self.headers['X-Test']} {body.decode()}".encode())

    def do_PUT(self) -> None:
        self.do_POST()

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Give the address of a server."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as opened:
        thread = threading.Thread(target=opened.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{opened.server_address[1]}"
        opened.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def pool(wasm: Path) -> Iterator[PrologPool]:
    """Open a pool with all of them."""
    with PrologPool(wasm=wasm, replicas=1, predicates={**library.HASHES, **library.WEB}) as opened:
        yield opened


@pytest.mark.parametrize("text", ["", "abc", "é 🦜", "x" * 5000])
def test_hashes_are_python_s(pool: PrologPool, text: str) -> None:
    for algorithm in ("sha256", "sha512", "sha1", "md5", "blake2b", "sha3_256"):
        answer = pool.query_once("crypto_data_hash(T, H, [algorithm(A)])", bindings={"T": text, "A": Atom(algorithm)})
        assert answer is not None
        assert answer["H"] == hashlib.new(algorithm, text.encode()).hexdigest()
    answer = pool.query_once("crypto_data_hash(T, H, [algorithm(A)])", bindings={"T": Atom(text)})
    assert answer is not None
    assert (answer["H"], answer["A"]) == (hashlib.sha256(text.encode()).hexdigest(), Atom("sha256"))


def test_hashes_take_encodings_and_keys(pool: PrologPool) -> None:
    assert pool.query_once("crypto_data_hash(é, H, [encoding(octet)])") == {
        "H": hashlib.sha256("é".encode("latin-1")).hexdigest()
    }
    expected = {"H": hmac.new(b"key", b"abc", "sha256").hexdigest()}
    assert pool.query_once('crypto_data_hash("abc", H, [hmac("key")])') == expected
    assert pool.query_once('crypto_data_hash("abc", H, [hmac([107, 101, 121])])') == expected
    assert pool.query_once(f'crypto_data_hash("abc", "{hashlib.sha256(b"abc").hexdigest()}", [])') == {}
    assert pool.query_once('crypto_data_hash("abc", "no", [])') is None


@pytest.mark.parametrize(
    ("goal", "kind"),
    [
        ("crypto_data_hash(_, _, [])", "instantiation_error"),
        ("crypto_data_hash(f(x), _, [])", "type_error"),
        ("crypto_data_hash(a, _, _)", "instantiation_error"),
        ("crypto_data_hash(a, _, no)", "type_error"),
        ("crypto_data_hash(a, _, [colour(red)])", "domain_error"),
        ("crypto_data_hash(a, _, [algorithm(rot13)])", "domain_error"),
        ("crypto_data_hash('🦜', _, [encoding(octet)])", "representation_error"),
        ("http_fetch('ftp://localhost/x', _, [])", "domain_error"),
        ("http_fetch('file:///etc/passwd', _, [])", "domain_error"),
        ("http_fetch(_, _, [])", "instantiation_error"),
        ("http_fetch('http://127.0.0.1:9/', _, [timeout(-1)])", "domain_error"),
        ("http_fetch('http://127.0.0.1:9/', _, [as(xml)])", "domain_error"),
        ("http_consult('/etc/passwd')", "domain_error"),
    ],
)
def test_wrong_arguments_are_iso_errors(pool: PrologPool, goal: str, kind: str) -> None:
    with pytest.raises(PrologError, match=kind):
        pool.query_once(goal)
    answer = pool.query_once(f"catch(({goal}), error(E, _), true)")
    assert answer is not None
    assert kind in str(answer["E"])


def test_pages_are_fetched(pool: PrologPool, server: str) -> None:
    def fetch(path: str, options: str = "[]") -> Any:
        answer = pool.query_once(f"http_fetch(U, C, {options})", bindings={"U": server + path})
        assert answer is not None
        return answer["C"]

    assert fetch("/text") == "é 🦜"
    assert fetch("/json", "[as(json)]") == Compound(
        "{}",
        (
            [
                Compound("-", ("a", [1, 2.5, Atom("null"), Atom("true")])),
                Compound("-", ("b", Compound("{}", ([Compound("-", ("c", "text"))],)))),
            ],
        ),
    )
    assert fetch("/any", "[body(\"hello\"), headers(['X-Test'-yes])]") == "POST yes hello"
    assert fetch("/any", '[method(put), body(x), headers(["X-Test"-7])]') == "PUT 7 x"


def test_what_cannot_be_fetched_is_an_error(pool: PrologPool, server: str) -> None:
    def caught(path: str, options: str = "[]") -> str:
        goal = f"catch(http_fetch(U, _, {options}), error(E, _), true)"
        answer = pool.query_once(goal, bindings={"U": path if ":" in path else server + path})
        assert answer is not None
        return str(answer["E"])

    assert caught("/missing") == "http_status(404)"
    assert caught("/binary").startswith("representation_error")
    assert caught("/text", "[as(json)]") == "syntax_error(json)"
    assert caught("http://127.0.0.1:1/").startswith("existence_error(url")


def test_programs_are_consulted_whole_from_the_web(pool: PrologPool, server: str) -> None:
    with pytest.raises(PrologError, match="syntax_error"):
        pool.execute("http_consult(U)", bindings={"U": f"{server}/bad.pl"})
    with pytest.raises(PrologError, match="fetched"):
        pool.query_all("fetched(X)")
    pool.execute("http_consult(U)", bindings={"U": f"{server}/facts.pl"})
    assert pool.query_all("fetched(X)") == [{"X": 1}, {"X": 2}]
