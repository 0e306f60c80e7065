"""Health over PostgreSQL, as it is and behind a connection on which nothing comes back any more."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from tests.leftovers import own_folder

from knowledge_system import settings
from knowledge_system.application.compose import Parts
from knowledge_system.application.diagnosing import diagnose
from knowledge_system.application.health import Health

pytestmark = pytest.mark.postgres
SOCKET = ".s.PGSQL.5432"


class Line:
    """Passes bytes on between clients and the server, in threads of its own; while it is not `open` none arrive."""

    def __init__(self, server: str, listener: socket.socket) -> None:
        self._server = server
        self._listener = listener
        self.open = threading.Event()
        self.open.set()

    def accept(self) -> None:
        with contextlib.suppress(OSError):  # until the listener is closed
            while True:
                here, _ = self._listener.accept()
                there = socket.socket(socket.AF_UNIX)
                there.connect(f"{self._server}/{SOCKET}")
                for source, target in ((here, there), (there, here)):
                    threading.Thread(target=self._pass, args=(source, target), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(65536):
                self.open.wait()
                target.sendall(piece)
            target.shutdown(socket.SHUT_WR)


@contextmanager
def line_to(url: str) -> Iterator[tuple[Line, str]]:
    parts = urlsplit(url)
    (server,) = parse_qs(parts.query)["host"]
    with (
        own_folder("pgline") as folder,
        socket.socket(socket.AF_UNIX) as listener,
    ):
        listener.bind(f"{folder}/{SOCKET}")
        listener.listen()
        line = Line(server, listener)
        threading.Thread(target=line.accept, daemon=True).start()
        yield line, f"postgresql://postgres@{parts.path}?host={folder}"
        line.open.set()


async def test_a_server_that_answers_no_more_is_down_within_the_time(
    tmp_path: Path, judging: Path, postgres_url: str
) -> None:
    (tmp_path / "models").symlink_to(judging, target_is_directory=True)
    with line_to(postgres_url) as (line, url):
        roomy = {"memoryLimitMb": 1_000_000}  # the process of many tests is larger than a service
        (tmp_path / "config.json").write_text(json.dumps({"database": {"url": url}, "telemetry": roomy}))
        async with Parts(settings.load(tmp_path, environ={}), "test") as parts:
            parts._health = Health(parts, patience=4.0)  # a busy machine is not what is asked about
            parts.at_close(parts._health.close)
            report = await parts.health().report()
            assert report.status == "healthy", report.document()
            assert report.document()["sqlite"]["engine"] == "postgresql"
            assert report.document()["sqlite"]["latency"] > 0
            assert (await diagnose(parts, "locks"))["findings"] == []

            line.open.clear()
            parts.health()._all._last = None
            hanging = await parts.health().report()
            ready = await parts.health().ready()
            line.open.set()
        assert (hanging.status, ready.status) == ("unhealthy", "unhealthy")
        assert hanging.document()["sqlite"]["error"] == "no answer within 0.9 s"
        assert hanging.document()["budget"]["error"] == "not asked: sqlite does not answer"
        assert hanging.document()["qdrant"]["status"] == "up"
