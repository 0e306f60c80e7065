"""A Qdrant server for tests: real HTTP, the real engine's shards behind it, and every fault a server can have.

In a test::

    with ScriptedQdrant(directory) as server:
        ...  # point a client at server.url
        server.fault = Fault(hang="start", only="/points/query")
        assert [request.path for request in server.requests]

It speaks the part of the REST interface that this system uses, and refuses the rest with 404. For other processes:
`python -m knowledge_system.testing.scripted_qdrant --directory D --port 0` prints its URL.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import tempfile
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Self, cast
from urllib.parse import parse_qs, urlsplit

from knowledge_system.testing.scripted_shards import Refused, Shards

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

__all__ = ["Asked", "Fault", "ScriptedQdrant"]

VERSION: Final = "1.19.0"
_OPEN: Final = frozenset({"/", "/healthz", "/readyz", "/livez"})
"""What the real server answers without its key."""
_COLLECTION: Final = re.compile(r"/collections/([^/]+)(/.*)?")


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong. `only`: with requests whose path contains it; `times`: with so many of them, None with all.

    `status` answers with it, `location` beside it redirects; `body` is sent as it is; `hang` never answers (`start`) or
    stops in the middle of the body (`middle`); `drip` sends a byte each `drip` seconds; `cut` closes the connection
    instead of answering (`start`), or after the work was done (`after`); `endless` sends a body without an end; `delay`
    waits so many seconds before answering.
    """

    only: str = ""
    times: int | None = None
    status: int = 0
    location: str = ""
    body: bytes | None = None
    hang: Literal["", "start", "middle"] = ""
    cut: Literal["", "start", "after"] = ""
    drip: float = 0.0
    endless: bool = False
    delay: float = 0.0


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as it arrived, with the values of its query."""

    method: str
    path: str
    params: dict[str, str]
    headers: dict[str, str]
    body: Any = None


class ScriptedQdrant:
    """The server, on its own threads. `fault` is what goes wrong from now on; `requests` is what was asked.

    `prefix` is a path before every other, as behind a reverse proxy; `api_key` is asked for as the real server does;
    `remember` False keeps no requests.
    """

    def __init__(
        self, directory: Path, *, port: int = 0, prefix: str = "", api_key: str = "", remember: bool = True
    ) -> None:
        self.shards = Shards(directory)
        self.requests: list[Asked] = []
        self.prefix = prefix
        self.api_key = api_key
        self.remember = remember
        self.ready = True
        self.released = threading.Event()
        self._fault: Fault | None = None
        self._faults_left = 0
        self._port = port
        self._lock = threading.Lock()
        self._server: _Server | None = None

    @property
    def url(self) -> str:
        """The address, `http://127.0.0.1:PORT` and the prefix."""
        return f"http://127.0.0.1:{self._port}{self.prefix}"

    @property
    def fault(self) -> Fault | None:
        """What goes wrong from now on; None when nothing does. Setting it lets hanging requests go."""
        return self._fault

    @fault.setter
    def fault(self, fault: Fault | None) -> None:
        with self._lock:
            self._fault = fault
            self._faults_left = -1 if fault is None or fault.times is None else fault.times
            self.released.set()
            self.released = threading.Event()

    def start(self) -> None:
        """Open what the directory holds and listen."""
        self.shards.load()
        self._server = _Server(self._port, self)
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), name="scripted qdrant", daemon=True).start()

    def stop(self) -> None:
        """Stop listening, close every connection, write everything to the disk."""
        self.released.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server.close_all()
        with self._lock:
            self.shards.close()
        self._server = None

    def reset(self) -> None:
        """Forget requests, fault and every collection."""
        self.fault = None
        self.ready = True
        with self._lock:
            self.requests.clear()
            self.shards.clear()

    def asked(self, part: str) -> list[Asked]:
        """Return the requests whose path contains `part`."""
        return [request for request in self.requests if part in request.path]

    def __enter__(self) -> Self:
        """Start."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        self.stop()

    def fault_of(self, asked: Asked) -> Fault | None:
        """Note a request; return what goes wrong with it."""
        with self._lock:
            if self.remember:
                self.requests.append(asked)
            fault = self._fault
            if fault is None or fault.only not in asked.path or not self._faults_left:
                return None
            self._faults_left -= 1
            return fault

    def answer(self, asked: Asked) -> tuple[int, bytes]:
        """Return status and body for a request."""
        try:
            self._admit(asked)
            with self._lock:
                return self._answer(asked)
        except Refused as refused:
            return refused.status, json.dumps({"status": {"error": str(refused)}, "time": 0.0}).encode()

    def _admit(self, asked: Asked) -> None:
        if self.api_key and asked.path not in _OPEN and asked.headers.get("api-key") != self.api_key:
            raise Refused(401, "Must provide an API key or an Authorization bearer token")

    def _answer(self, asked: Asked) -> tuple[int, bytes]:
        if asked.path in {"/healthz", "/livez", "/readyz"}:
            return (200, b"all shards are ready") if self.ready else (503, b"some shards are not ready")
        result: Any
        if asked.path == "/":
            return 200, json.dumps({"title": "qdrant - vector search engine", "version": VERSION}).encode()
        if asked.path == "/aliases":
            pairs = self.shards.aliases.items()
            result = {"aliases": [{"alias_name": alias, "collection_name": name} for alias, name in pairs]}
        elif asked.path == "/collections":
            result = {"collections": [{"name": name} for name in self.shards.names()]}
        elif asked.path == "/collections/aliases":
            result = self.shards.change_aliases(asked.body["actions"])
        else:
            result = self._of_collection(asked)
        return 200, json.dumps({"result": result, "status": "ok", "time": 0.001}).encode()

    def _of_collection(self, asked: Asked) -> Any:
        told = _COLLECTION.fullmatch(asked.path)
        if told is None:
            raise Refused(404, "no such path")
        name, rest, body, shards = told[1], told[2] or "", asked.body, self.shards
        verbs: dict[tuple[str, str], Callable[[], Any]] = {
            ("GET", "/exists"): lambda: {"exists": shards.there(name)},
            ("PUT", ""): lambda: shards.create(name, body),
            ("DELETE", ""): lambda: shards.delete(name),
            ("GET", ""): lambda: shards.get(name).described(),
            ("PATCH", ""): lambda: shards.get(name).update(body),
            ("GET", "/optimizations"): lambda: shards.get(name).optimizations(),
            ("PUT", "/index"): lambda: shards.get(name).index(body["field_name"], body["field_schema"]),
            ("PUT", "/points"): lambda: shards.get(name).upsert(body["points"]),
            ("POST", "/points"): lambda: shards.get(name).retrieve(body),
            ("POST", "/points/delete"): lambda: shards.get(name).delete(body["filter"]),
            ("POST", "/points/query"): lambda: shards.get(name).query([body])[0],
            ("POST", "/points/query/batch"): lambda: shards.get(name).query(body["searches"]),
            ("POST", "/points/scroll"): lambda: shards.get(name).scroll(body),
            ("POST", "/points/count"): lambda: shards.get(name).count(body),
            ("POST", "/facet"): lambda: shards.get(name).facet(body),
        }
        verb = verbs.get((asked.method, rest))
        if verb is None:
            raise Refused(404, "no such path")
        return verb()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True

    def __init__(self, port: int, scripted: ScriptedQdrant) -> None:
        self.scripted = scripted
        self._sockets: set[Any] = set()
        super().__init__(("127.0.0.1", port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._sockets.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._sockets.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients that leave are what tests are about."""

    def close_all(self) -> None:
        """Close the connections that are kept."""
        for one in list(self._sockets):
            with contextlib.suppress(OSError):
                one.shutdown(2)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    @property
    def _scripted(self) -> ScriptedQdrant:
        return cast("_Server", self.server).scripted

    def handle_one_request(self) -> None:
        self.raw_requestline = self.rfile.readline(65_537)
        if not self.raw_requestline or not self.parse_request():
            self.close_connection = True
            return
        size = int(self.headers.get("content-length", 0))
        raw = self.rfile.read(size) if size else b""
        parts, prefix = urlsplit(self.path), self._scripted.prefix
        params = {name: values[0] for name, values in parse_qs(parts.query).items()}
        path = parts.path.removeprefix(prefix) if parts.path.startswith(prefix) else "/outside"
        headers = {name.lower(): value for name, value in self.headers.items()}
        asked = Asked(self.command, path, params, headers, json.loads(raw) if raw else None)
        self._respond(asked, self._scripted.fault_of(asked))
        self.wfile.flush()

    def _respond(self, asked: Asked, fault: Fault | None) -> None:
        released = self._scripted.released
        if fault is None:
            self._send(*self._scripted.answer(asked))
            return
        released.wait(None if fault.hang == "start" else fault.delay)
        if fault.cut or fault.hang == "start":
            if fault.cut == "after":
                self._scripted.answer(asked)
            self.close_connection = True
            return
        status, body = (fault.status, b"{}") if fault.status else self._scripted.answer(asked)
        body = body if fault.body is None else fault.body
        self._faulty(status, body, fault, released)

    def _faulty(self, status: int, body: bytes, fault: Fault, released: threading.Event) -> None:
        endless = fault.endless
        self._head(status, None if endless else len(body), fault.location)
        if endless:
            while not released.is_set():
                self.wfile.write(b"10000\r\n" + b" " * 65_536 + b"\r\n")
        elif fault.hang == "middle":
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            released.wait()
            self.close_connection = True
        elif fault.drip:
            for number in range(len(body)):
                self.wfile.write(body[number : number + 1])
                self.wfile.flush()
                released.wait(fault.drip)
        else:
            self.wfile.write(body)

    def _send(self, status: int, body: bytes) -> None:
        self._head(status, len(body), "")
        self.wfile.write(body)

    def _head(self, status: int, length: int | None, location: str) -> None:
        self.send_response_only(status)
        self.send_header("content-type", "application/json")
        if location:
            self.send_header("location", location)
        if length is None:
            self.send_header("transfer-encoding", "chunked")
        else:
            self.send_header("content-length", str(length))
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def main() -> None:
    """Serve until interrupted; print the URL first."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--directory", type=Path, default=None)
    parser.add_argument("--api-key", default="")
    options = parser.parse_args()
    directory = options.directory or Path(tempfile.mkdtemp(prefix="scripted-qdrant-"))
    with ScriptedQdrant(directory, port=options.port, api_key=options.api_key, remember=False) as server:
        print(server.url, flush=True)  # noqa: T201 -- this is what the command is for
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main()
