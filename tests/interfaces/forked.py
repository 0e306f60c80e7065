"""Asks the fork server to run a command; one server for each process of the tests, ended with it."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import IO

from tests.leftovers import own_folder

LONGEST = 240.0


class ForkServer:
    """A process that has imported everything and forks a command for each request."""

    def __init__(self) -> None:
        self._folder = contextlib.ExitStack()
        self._path = str(self._folder.enter_context(own_folder("forks")) / "socket")
        program = str(Path(__file__).with_name("fork_server.py"))
        # A library that starts threads when it is imported could not be forked.
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, program, self._path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n"
        atexit.register(self.close)

    def close(self) -> None:
        self._process.communicate()
        self._folder.close()

    def run(self, arguments: list[str], environment: dict[str, str], given: str) -> subprocess.CompletedProcess[str]:
        with tempfile.TemporaryFile() as stdin, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            stdin.write(given.encode())
            stdin.seek(0)
            code = self._code(arguments, environment, (stdin, out, err))
            said = [_all(stream) for stream in (out, err)]
        return subprocess.CompletedProcess(arguments, code, *said)

    def _code(
        self, arguments: list[str], environment: dict[str, str], streams: tuple[IO[bytes], IO[bytes], IO[bytes]]
    ) -> int:
        request = {"arguments": arguments, "environment": environment, "directory": os.getcwd()}  # noqa: PTH109 -- a text
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
            asking.connect(self._path)
            asking.settimeout(LONGEST)
            message = json.dumps(request).encode() + b"\n"
            sent = socket.send_fds(asking, [message], [stream.fileno() for stream in streams])
            asking.sendall(message[sent:])
            with asking.makefile() as answers:
                process = int(answers.readline())
                try:
                    return int(answers.readline())
                except TimeoutError:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(process, signal.SIGKILL)
                    raise


@cache
def fork_server() -> ForkServer:
    return ForkServer()


def _all(stream: IO[bytes]) -> str:
    stream.seek(0)
    return stream.read().decode()
