"""Runs `knowledge` in processes of its own, forked from one that has imported everything already.

A command of the command line spends most of its time importing. Tests run hundreds; here each is still a process of
its own with its own environment, streams and exit code, but begins where the imports end. What is about start-up, or
about killing a process, starts the real executable instead.

Run as a program it is the server: one argument, the path of its socket. A request is one message of JSON
(`arguments`, `environment`, `directory`) with three file descriptors; the answers are lines: the process id, then the
exit code.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import io
import json
import os
import signal
import socket
import sys
import threading
import traceback
from pathlib import Path
from typing import NoReturn

PRELOADED = (
    "alembic.command", "httpx2", "mcp", "numpy", "qdrant_edge", "redis.asyncio", "rich.progress",
    "sqlalchemy.dialects.sqlite.aiosqlite", "tokenizers", "typer.rich_utils", "uvicorn", "watchfiles",
    "knowledge_system.application.connecting", "knowledge_system.application.doctor",
    "knowledge_system.application.engine", "knowledge_system.application.injecting",
    "knowledge_system.application.learning", "knowledge_system.application.served",
    "knowledge_system.application.system", "knowledge_system.application.trajectories",
    "knowledge_system.extraction.extractor",
    "knowledge_system.extraction.ingestion", "knowledge_system.extraction.learning",
    "knowledge_system.interfaces.cli.app", "knowledge_system.operations.portable",
    "knowledge_system.retrieval.search", "knowledge_system.sensitivity.gatekeeper",
    "knowledge_system.storage.database", "knowledge_system.storage.edge", "knowledge_system.transcripts.files",
)  # fmt: skip
_MESSAGE = 1_000_000


def serve(path: str) -> None:
    for name in PRELOADED:
        importlib.import_module(name)
    gc.freeze()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(path)
        listener.listen(64)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # whoever asked waits for the command, nobody for its watcher
        threading.Thread(target=_end_with_parent, daemon=True).start()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while True:
            asker, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                _watch(asker)
            asker.close()


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(0)


def _watch(asker: socket.socket) -> None:
    """Run one command in a child and tell how it ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    message, streams, _, _ = socket.recv_fds(asker, _MESSAGE, 3)
    while not message.endswith(b"\n"):
        message += asker.recv(_MESSAGE)
    child = os.fork()
    if child == 0:
        asker.close()
        _become(json.loads(message), streams)
    for stream in streams:
        os.close(stream)
    asker.sendall(f"{child}\n".encode())
    _, status = os.waitpid(child, 0)
    with contextlib.suppress(OSError):
        asker.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os._exit(0)


def _become(request: dict[str, object], streams: list[int]) -> NoReturn:
    """Be the command."""
    from knowledge_system.interfaces.cli import main  # noqa: PLC0415 -- imported already, before the fork

    for target, stream in enumerate(streams):
        os.dup2(stream, target)
        os.close(stream)
    sys.stdin = io.TextIOWrapper(io.FileIO(0, closefd=False), encoding="utf-8")  # type: ignore[arg-type]
    sys.stdout = io.TextIOWrapper(io.FileIO(1, "w", closefd=False), encoding="utf-8")  # type: ignore[arg-type]
    sys.stderr = io.TextIOWrapper(io.FileIO(2, "w", closefd=False), encoding="utf-8", line_buffering=True)  # type: ignore[arg-type]
    os.environ.clear()
    os.environ.update(request["environment"])  # type: ignore[arg-type]
    os.chdir(str(request["directory"]))
    sys.argv = [str(Path(sys.executable).with_name("knowledge")), *request["arguments"]]  # type: ignore[misc]
    try:
        main()
    except SystemExit as ending:
        code = ending.code
    except BaseException:  # noqa: BLE001 -- what the interpreter itself would do
        traceback.print_exc()
        code = 1
    _leave(code if isinstance(code, int) else 0)


def _leave(code: int) -> NoReturn:
    """End as an interpreter does, but for taking apart every module that was imported before the fork."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    serve(sys.argv[1])
