"""A model provider that says what a script says: a real HTTP server that speaks the three protocols and every fault.

In a test::

    async with ScriptedProvider() as server:
        server.script(Step(status=429, headers={"retry-after": "3"}), Step(text="after the wait"))
        ...  # point a client at server.openai_url, server.anthropic_url or server.ollama_url
        assert [request.path for request in server.requests] == ["/v1/chat/completions"] * 2

Steps are used up in order; when none is left, `default` answers. `respond` is asked first, where it is set. For other
processes: `python -m knowledge_system.testing.scripted_provider --port 0` prints its URL; `POST /__script` takes a list
of steps (the fields of Step), `GET /__requests` returns what was asked, `POST /__reset` forgets both.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
from collections import deque
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self

from knowledge_system.testing.scripted_protocols import Asked, Step, events, protocol_of, whole

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from knowledge_system.testing.scripted_protocols import Protocol

__all__ = ["Received", "ScriptedProvider", "Step"]

_MOST_BYTES = 64 * 1024 * 1024


@dataclass(slots=True)
class Received:
    """A request as it arrived. `abandoned`: the client closed before it had the whole answer."""

    method: str
    path: str
    headers: Mapping[str, str]
    raw: bytes
    body: Any = None
    protocol: Protocol = "other"
    answered: bool = False
    abandoned: bool = False
    connection: int = 0

    @property
    def text(self) -> str:
        """The whole request, headers too, as text: what a canary must not stand in."""
        return f"{self.method} {self.path}\n{dict(self.headers)}\n" + self.raw.decode("utf-8", "replace")


@dataclass(slots=True)
class _Connection:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    number: int
    ahead: bytes = b""
    """What was read of the next request while waiting for the client to leave."""


class ScriptedProvider:
    """The server. Use it as an asynchronous context manager, or `start` and `stop` it.

    `requests` are the paid ones in order; `probes` the free ones (`/api/show`, lists of models). `peak` is the largest
    number of requests that were under way at once.
    """

    def __init__(self, *steps: Step, default: Step | None = None, host: str = "127.0.0.1", port: int = 0) -> None:
        self.default = default or Step()
        self.respond: Callable[[Received], Step | None] | None = None
        self.shown: dict[str, Step] = {}
        self.requests: list[Received] = []
        self.probes: list[Received] = []
        self.connections = 0
        self.running = 0
        self.peak = 0
        self._steps = deque(steps)
        self._host, self._port = host, port
        self._server: asyncio.Server | None = None
        self._changed = asyncio.Condition()
        self._open: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """The address, `http://127.0.0.1:PORT`."""
        return f"http://{self._host}:{self._port}"

    @property
    def openai_url(self) -> str:
        """Base URL for OpenAI-compatible clients."""
        return f"{self.url}/v1"

    @property
    def anthropic_url(self) -> str:
        """Base URL for our Anthropic wire (the official SDK takes `url`)."""
        return f"{self.url}/v1"

    @property
    def ollama_url(self) -> str:
        """Base URL for Ollama clients."""
        return self.url

    def script(self, *steps: Step) -> None:
        """Append steps to the script."""
        self._steps.extend(steps)

    def show(self, model: str, step: Step) -> None:
        """Answer `/api/show` for `model` with `step` (its `body`); every other model runs here."""
        self.shown[model] = step

    async def start(self) -> None:
        """Listen. Port 0 takes a free one."""
        self._server = await asyncio.start_server(self._serve, self._host, self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening and close every connection, answered or not."""
        if self._server is not None:
            self._server.close()
        for task in list(self._open):
            task.cancel()
        if self._open:
            await asyncio.wait(list(self._open))

    async def until(self, condition: Callable[[], bool], seconds: float = 10.0) -> None:
        """Wait until `condition` holds; it is looked at after every request, answer and closed connection."""
        async with asyncio.timeout(seconds), self._changed:
            await self._changed.wait_for(condition)

    async def __aenter__(self) -> Self:
        """Start."""
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        await self.stop()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._open.add(task)
        self.connections += 1
        connection = _Connection(reader, writer, self.connections)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while (received := await _read(connection)) is not None:
                if not await self._answer(received, connection):
                    break
        writer.close()
        if task is not None:
            self._open.discard(task)

    async def _answer(self, received: Received, connection: _Connection) -> bool:
        """Answer one request; return whether the connection stays open."""
        if received.path.startswith("/__"):
            return await _send_json(connection, self._control(received))
        step = self._note(received)
        self.running += 1
        self.peak = max(self.peak, self.running)
        await self._tell()
        try:
            received.answered = await _watched(_answered(step, received, connection), connection)
        finally:
            self.running -= 1
            received.abandoned = not received.answered and not step.cut
            await asyncio.shield(self._tell())
        return received.answered and not step.cut and step.declared_length is None

    def _note(self, received: Received) -> Step:
        free = received.method == "GET" or received.path.endswith("/show")
        (self.probes if free else self.requests).append(received)
        if free:
            model = received.body.get("model", "") if isinstance(received.body, dict) else ""
            return self.shown.get(model, Step(body=_listing(received)))
        told = self.respond(received) if self.respond else None
        return told or (self._steps.popleft() if self._steps else self.default)

    def _control(self, received: Received) -> Any:
        if received.path == "/__script":
            self.script(*(Step(**step) for step in received.body))
        elif received.path == "/__reset":
            self._steps.clear()
            self.requests.clear()
            self.probes.clear()
        elif received.path == "/__requests":
            return [{**asdict(one), "raw": one.raw.decode("utf-8", "replace")} for one in self.requests]
        return {"ok": True}

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()


async def _read(connection: _Connection) -> Received | None:
    head = connection.ahead + await connection.reader.readuntil(b"\r\n\r\n")
    connection.ahead = b""
    first, *lines = head.decode("latin-1").split("\r\n")
    method, path, _ = first.split(" ", 2)
    pairs = (line.split(":", 1) for line in lines if ":" in line)
    headers = {name.strip().lower(): value.strip() for name, value in pairs}
    size = int(headers.get("content-length", 0))
    if size > _MOST_BYTES:
        return None
    raw = await connection.reader.readexactly(size)
    received = Received(method, path.partition("?")[0], headers, raw, connection=connection.number)
    received.protocol = protocol_of(received.path)
    with contextlib.suppress(ValueError):
        received.body = json.loads(raw) if raw else None
    return received


async def _watched(work: Any, connection: _Connection) -> bool:
    """Run `work` until it is done or the client has gone; return whether it finished."""
    answer = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_gone(connection))
    try:
        await asyncio.wait({answer, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            return False
        return bool(answer.result())
    except ConnectionError:
        return False
    finally:
        for task in (answer, gone):
            task.cancel()
        await asyncio.gather(answer, gone, return_exceptions=True)


async def _gone(connection: _Connection) -> None:
    """Return when the client has closed; what it sends instead is kept for the next request."""
    connection.ahead += await connection.reader.read(1)
    if connection.ahead:
        await asyncio.Event().wait()


async def _answered(step: Step, received: Received, connection: _Connection) -> bool:
    if step.delay:
        await asyncio.sleep(step.delay)
    if step.hang == "start":
        await asyncio.Event().wait()
    if step.cut == "start":
        return True
    asked = Asked(
        received.protocol, received.path, received.body if isinstance(received.body, dict) else {}, len(received.raw)
    )
    if asked.streams and step.streamable:
        return await _stream(step, asked, connection)
    body = step.body if step.body is not None else whole(step, asked)
    raw = body if isinstance(body, bytes) else body.encode() if isinstance(body, str) else json.dumps(body).encode()
    length = len(raw) if step.declared_length is None else step.declared_length
    _head(step, connection, {"content-type": "application/json", "content-length": str(length)})
    return await _write_body(step, raw, connection)


async def _write_body(step: Step, raw: bytes, connection: _Connection) -> bool:
    half = step.hang == "middle" or step.cut == "middle"
    connection.writer.write(raw[: len(raw) // 2] if half else raw)
    await connection.writer.drain()
    if step.hang == "middle":
        await asyncio.Event().wait()
    return True


async def _stream(step: Step, asked: Asked, connection: _Connection) -> bool:
    kind = "application/x-ndjson" if asked.protocol == "ollama" else "text/event-stream"
    _head(step, connection, {"content-type": kind, "transfer-encoding": "chunked"})
    pieces = events(step, asked)
    for number, piece in enumerate(pieces):
        if step.chunk_delay:
            await asyncio.sleep(step.chunk_delay)
        if number >= len(pieces) // 2 and step.hang == "middle":
            await asyncio.Event().wait()
        if number >= len(pieces) // 2 and step.cut == "middle":
            return True
        raw = piece.encode()
        connection.writer.write(b"%x\r\n%b\r\n" % (len(raw), raw))
        await connection.writer.drain()
    connection.writer.write(b"0\r\n\r\n")
    await connection.writer.drain()
    return True


def _head(step: Step, connection: _Connection, headers: Mapping[str, str]) -> None:
    lines = [
        f"HTTP/1.1 {step.status} scripted",
        *(f"{name}: {value}" for name, value in {**headers, **step.headers}.items()),
    ]
    connection.writer.write("\r\n".join([*lines, "", ""]).encode("latin-1"))


async def _send_json(connection: _Connection, value: Any) -> bool:
    raw = json.dumps(value).encode()
    _head(Step(), connection, {"content-type": "application/json", "content-length": str(len(raw))})
    connection.writer.write(raw)
    await connection.writer.drain()
    return True


def _listing(received: Received) -> Any:
    if received.path.endswith("/models"):
        return {"object": "list", "data": [{"id": "scripted", "object": "model", "created": 0, "owned_by": "scripted"}]}
    if received.path.endswith("/tags"):
        return {"models": [{"name": "scripted", "model": "scripted"}]}
    if received.path.endswith("/show"):
        return {"details": {"family": "scripted"}, "model_info": {}}
    return {"version": "0.0.0"}


async def _run(host: str, port: int) -> None:
    async with ScriptedProvider(host=host, port=port) as server:
        print(server.url, flush=True)  # noqa: T201 -- this is what the command is for
        await asyncio.Event().wait()


def main() -> None:
    """Serve until interrupted; print the URL first."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_run(options.host, options.port))


if __name__ == "__main__":
    main()
