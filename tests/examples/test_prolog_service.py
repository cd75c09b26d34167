"""The HTTP service among the examples: the real server, under real load, on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import random
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import attrs
import pytest

httpx = pytest.importorskip("httpx")
pytest.importorskip("uvicorn")
pytest.importorskip("starlette")

_SERVICE = Path(__file__).parents[2] / "examples/prolog_service.py"
_PROGRAM = ":- dynamic(item/1). parent(ann, bob). parent(bob, cid).\n"
_CLIENTS = 50
_SECONDS = 120.0


@attrs.define(eq=False)
class Server:
    """Be a running service."""

    process: subprocess.Popen[str]
    url: str

    def post(self, path: str, **body: Any) -> tuple[int, Any]:
        """Give the status and the JSON of one request."""
        response = httpx.post(f"{self.url}{path}", json=body, timeout=_SECONDS, trust_env=False)
        return response.status_code, response.json()

    def get(self, path: str) -> Any:
        response = httpx.get(f"{self.url}{path}", timeout=_SECONDS, trust_env=False)
        assert response.status_code == 200
        return response.json()

    def client(self) -> Any:
        return httpx.AsyncClient(base_url=self.url, timeout=_SECONDS, trust_env=False)


def _pass_on(file: IO[str], lines: queue.Queue[str]) -> None:
    for line in file:
        lines.put(line)
    lines.put("")


@pytest.fixture(scope="module")
def start(trealla: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Server]]:
    """Start services on ports that the system chooses."""
    folder = tmp_path_factory.mktemp("service")
    (folder / "program.pl").write_text(_PROGRAM)
    started: list[tuple[subprocess.Popen[str], threading.Thread]] = []

    def begin(*arguments: str) -> Server:
        process = subprocess.Popen(
            [sys.executable, "-W", "error", str(_SERVICE), "--port", "0", *arguments, "program.pl"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            cwd=folder,
            start_new_session=os.name != "nt",
        )
        assert process.stderr is not None
        # All of it has to be read, or a full pipe would stop the service.
        lines: queue.Queue[str] = queue.Queue()
        reader = threading.Thread(target=_pass_on, args=(process.stderr, lines))
        reader.start()
        started.append((process, reader))
        said = ""
        while line := lines.get(timeout=_SECONDS):
            said += line
            found = re.search(r"running on (http://127\.0\.0\.1:\d+)", line)
            if found:
                return Server(process, found[1])
        raise AssertionError(f"it ended: {said}")

    yield begin
    for process, reader in started:
        process.kill()
        process.wait()
        reader.join()
        assert process.stderr is not None
        process.stderr.close()


@pytest.fixture(scope="module")
def server(start: Callable[..., Server]) -> Server:
    return start("--replicas", "2")


# -- one request -------------------------------------------------------------------------------------------------------


def test_gives_answers_and_takes_bindings(server: Server) -> None:
    assert server.post("/query", goal="parent(X, Y)") == (
        200,
        {"answers": [{"X": "ann", "Y": "bob"}, {"X": "bob", "Y": "cid"}], "limit": 100},
    )
    assert server.post("/query", goal="parent(X, Y)", bindings={"X": "bob"})[1]["answers"] == [{"X": "bob", "Y": "cid"}]


def test_failure_is_an_empty_result(server: Server) -> None:
    assert server.post("/query", goal="parent(cid, X)") == (200, {"answers": [], "limit": 100})


@pytest.mark.parametrize(
    "value",
    [
        "ann",
        "it's (a), b",
        "",
        {"string": "text \u732b"},
        -7,
        1.5,
        [],
        ["a", 1, ["b", 2]],
        {"functor": "f", "args": ["x", {"functor": "+", "args": [1, 2]}]},
    ],
)
def test_terms_come_back_as_they_were_given(server: Server, value: Any) -> None:
    assert server.post("/query", goal="Y = X", bindings={"X": value})[1]["answers"] == [{"X": value, "Y": value}]


def test_values_are_never_read_as_text(server: Server) -> None:
    evil = "a), halt, atom(b"

    assert server.post("/query", goal="atom(X), \\+ parent(X, _)", bindings={"X": evil})[1]["answers"] == [{"X": evil}]


@pytest.mark.parametrize(
    ("goal", "answer"),
    [
        ("X is 2 ^ 70", {"X": {"number": str(2**70)}}),
        ("X = f(Y)", {"X": {"functor": "f", "args": [{"variable": "Y"}]}, "Y": {"variable": "Y"}}),
        (
            "dif(X, a)",
            {
                "X": {"variable": "X"},
                "constraints": [
                    {"functor": ":", "args": ["dif", {"functor": "dif", "args": [{"variable": "X"}, "a"]}]},
                ],
            },
        ),
    ],
)
def test_what_json_lacks_is_spelled_out(server: Server, goal: str, answer: Any) -> None:
    assert server.post("/query", goal=goal) == (200, {"answers": [answer], "limit": 100})


def test_answers_are_limited(server: Server) -> None:
    status, result = server.post("/query", goal="repeat", limit=3)

    assert (status, result) == (200, {"answers": [{}, {}, {}], "limit": 3})


@pytest.mark.parametrize(
    ("goal", "ball"),
    [
        ("throw(my(ball))", {"functor": "my", "args": ["ball"]}),
        ("atom_length(X, Y)", {"functor": "error", "args": ["instantiation_error", "atom"]}),
    ],
)
def test_what_a_goal_throws_is_the_clients_fault(server: Server, goal: str, ball: Any) -> None:
    status, result = server.post("/query", goal=goal)

    assert (status, result["ball"]) == (400, ball)


@pytest.mark.parametrize("goal", ["foo(", "a. b", "halt", "X = f(X)", "a\0b"])
def test_other_goals_that_cant_be_answered_are_refused_too(server: Server, goal: str) -> None:
    status, result = server.post("/query", goal=goal)

    assert status == 400
    assert result["error"]
    assert server.post("/query", goal="parent(ann, X)")[1]["answers"] == [{"X": "bob"}]


@pytest.mark.parametrize("path", ["/query", "/assert", "/stream"])
@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b"{}", b'{"goal": 1, "facts": 1}', b"[" * 100_000])
def test_what_isnt_a_request_is_refused(server: Server, path: str, body: bytes) -> None:
    response = httpx.post(f"{server.url}{path}", content=body, timeout=_SECONDS, trust_env=False)

    assert response.status_code == 400
    assert response.json()["error"]


@pytest.mark.parametrize(
    "fields",
    [
        {"limit": 0},
        {"limit": True},
        {"limit": 10**9},
        {"timeout": -1},
        {"timeout": "1"},
        {"bindings": []},
        {"bindings": {"x": 1}},
        {"bindings": {"X": None}},
        {"bindings": {"X": {"functor": "f", "args": []}}},
    ],
)
def test_fields_are_checked(server: Server, fields: dict[str, Any]) -> None:
    assert server.post("/query", goal="true", **fields)[0] == 400


def test_requests_are_limited(server: Server) -> None:
    assert server.post("/query", goal=f"X = '{'a' * (1 << 20)}'")[0] == 413


def test_a_goal_that_takes_too_long_is_stopped(server: Server) -> None:
    status, result = server.post("/query", goal="repeat, fail", timeout=0.2)

    assert status == 504
    assert "0.2 s" in result["error"]
    assert server.post("/query", goal="parent(ann, X)")[1]["answers"] == [{"X": "bob"}]


def test_queries_change_nothing(server: Server) -> None:
    for _ in range(4):
        assert server.post("/query", goal="asserta(item(queried)), item(X)", limit=1)[1]["answers"] == [
            {"X": "queried"}
        ]
    assert server.post("/query", goal="item(queried)")[1]["answers"] == []


def test_facts_are_added_all_or_none(server: Server) -> None:
    first, second = {"functor": "item", "args": ["one"]}, {"functor": "item", "args": ["two"]}

    assert server.post("/assert", facts=[first, second]) == (200, {"asserted": 2})
    assert server.post("/assert", facts=[{"functor": "item", "args": ["three"]}, 3])[0] == 400
    assert server.post("/query", goal="member(X, [one, two, three]), item(X)")[1]["answers"] == [
        {"X": "one"},
        {"X": "two"},
    ]


def test_answers_are_streamed_and_an_error_is_the_last_line(server: Server) -> None:
    request = {"goal": "member(X, [1, 2, 3]), ( X < 3 -> true ; throw(three) )"}
    response = httpx.post(f"{server.url}/stream", json=request, timeout=_SECONDS, trust_env=False)

    *answers, last = response.text.splitlines()
    assert answers == ['{"X": 1}', '{"X": 2}']
    assert '"ball": "three"' in last


def test_health_and_statistics(server: Server) -> None:
    assert server.get("/health")["status"] == "ok"
    assert server.get("/stats")["replicas"] == 2


# -- many --------------------------------------------------------------------------------------------------------------


def test_many_clients_get_right_answers_and_read_what_others_wrote(server: Server) -> None:
    asked: set[int] = set()
    written: set[int] = set()
    numbers = iter(range(1_000_000))

    async def insert(client: Any) -> None:
        number = next(numbers)
        asked.add(number)
        response = await client.post("/assert", json={"facts": [{"functor": "item", "args": [number]}]})
        assert (response.status_code, response.json()) == (200, {"asserted": 1})
        written.add(number)

    async def read(client: Any) -> None:
        before = set(written)
        response = await client.post("/query", json={"goal": "findall(X, (item(X), integer(X)), Items)", "timeout": 30})
        assert response.status_code == 200
        [answer] = response.json()["answers"]
        assert before <= set(answer["Items"]) <= asked
        assert len(answer["Items"]) == len(set(answer["Items"]))

    async def compute(client: Any) -> None:
        number = random.randrange(10**6)
        body = {"goal": "Y is X * X", "bindings": {"X": number}, "timeout": 30}
        response = await client.post("/query", json=body)
        assert response.json() == {"answers": [{"X": number, "Y": number * number}], "limit": 100}

    async def fail(client: Any) -> None:
        response = await client.post("/query", json={"goal": "assertz(item(0.5)), throw(X)", "bindings": {"X": "no"}})
        assert (response.status_code, response.json()["ball"]) == (400, "no")

    async def stream(client: Any) -> None:
        body = {"goal": "between(1, 20, X)", "timeout": 30}
        async with client.stream("POST", "/stream", json=body) as response:
            lines = [line async for line in response.aiter_lines()]
        assert lines == [f'{{"X": {number}}}' for number in range(1, 21)]

    async def client(number: int) -> None:
        draw = random.Random(number)
        async with server.client() as connection:
            for _ in range(12):
                action = draw.choices([insert, read, compute, fail, stream], [2, 4, 4, 1, 1])[0]
                await action(connection)

    async def load() -> None:
        await asyncio.gather(*(client(number) for number in range(_CLIENTS)))
        async with server.client() as connection:
            await read(connection)

    asyncio.run(load())
    assert asked == written
    stats = server.get("/stats")
    assert (stats["reading"], stats["idle"], stats["writing"]) == (0, 2, False)
    assert stats["commits"] >= len(written)


def test_a_client_that_goes_away_frees_its_replica(start: Callable[..., Server]) -> None:
    server = start("--replicas", "1")

    async def leave_early() -> None:
        # More than fits into the buffers between the two.
        body = {"goal": "repeat, Y = X", "bindings": {"X": "x" * 2000}, "limit": 10_000, "timeout": 30}
        async with server.client() as client:
            async with client.stream("POST", "/stream", json=body) as response:
                lines = response.aiter_lines()
                assert len({await anext(lines) for _ in range(3)}) == 1

    for _ in range(3):
        asyncio.run(leave_early())
        # Sooner than the goal's own time is up.
        assert server.post("/query", goal="parent(ann, X)", timeout=15)[1]["answers"] == [{"X": "bob"}]


def test_a_client_that_doesnt_wait_for_its_answer_frees_its_replica(start: Callable[..., Server]) -> None:
    server = start("--replicas", "1")

    async def ask_and_go() -> None:
        async with server.client() as client:
            asking = asyncio.create_task(client.post("/query", json={"goal": "repeat, fail", "timeout": 30}))
            while not server.get("/stats")["reading"]:
                await asyncio.sleep(0)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking

    asyncio.run(ask_and_go())
    assert server.post("/query", goal="parent(ann, X)", timeout=15)[0] == 200
    assert server.get("/stats")["interruptions"] == 1


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM to catch")
def test_ends_when_it_is_told_to_and_leaves_nothing_over(start: Callable[..., Server]) -> None:
    server = start()
    address = ("127.0.0.1", int(server.url.rpartition(":")[2]))
    assert server.post("/query", goal="parent(ann, X)")[0] == 200
    server.process.send_signal(signal.SIGTERM)

    assert server.process.wait(_SECONDS) in (0, -signal.SIGTERM)
    with pytest.raises(ProcessLookupError):
        os.killpg(server.process.pid, 0)
    with contextlib.closing(socket.socket()) as connection:
        assert connection.connect_ex(address) != 0
