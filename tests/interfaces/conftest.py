"""The command line as a user types it: real processes, a home of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.interfaces.forked import fork_server

KNOWLEDGE = Path(sys.executable).with_name("knowledge")
ROOT = Path(__file__).resolve().parent.parent.parent


@dataclass
class Cli:
    """Runs `knowledge` in a scratch home and with a scratch HOME."""

    home: Path
    environ: dict[str, str] = field(default_factory=dict)

    def variables(self) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith("KNOWLEDGE")}
        return {**kept, "HOME": str(self.home.parent), "KNOWLEDGE_HOME": str(self.home), **self.environ}

    def start(self, *arguments: str | Path, **options: Any) -> subprocess.Popen[str]:
        return subprocess.Popen([KNOWLEDGE, *map(str, arguments)], env=self.variables(), text=True, **options)

    def run(self, *arguments: str | Path, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        given = stdin or ""
        if "PYTHONPATH" not in self.environ:
            return fork_server().run([*map(str, arguments)], self.variables(), given)
        command = [KNOWLEDGE, *map(str, arguments)]  # what may be imported is what the test is about
        environment = self.variables()
        return subprocess.run(
            command, env=environment, text=True, capture_output=True, input=given, check=False, timeout=240
        )

    def json(self, *arguments: str | Path, stdin: str | None = None) -> Any:
        """Run with --json, expect success and exactly one document on stdout."""
        done = self.run("--json", *arguments, stdin=stdin)
        assert done.returncode == 0, done.stderr
        (line,) = done.stdout.splitlines()
        return json.loads(line)

    def lines(self, *arguments: str | Path, stdin: str | None = None) -> list[Any]:
        done = self.run(*arguments, stdin=stdin)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Assemble the embedding model once for all tests."""
    home = tmp_path_factory.mktemp("assembled") / "home"
    done = Cli(home).run("models", "verify")
    assert done.returncode == 0, done.stderr
    return home / "models"


@pytest.fixture
def cli(tmp_path: Path, models: Path) -> Cli:
    """Return a command line over an empty home that shares the assembled model."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    (home / "models").symlink_to(models, target_is_directory=True)
    return Cli(home)


def transcript(path: Path, session: str, exchanges: list[dict[str, Any]], project: str = "shop") -> Path:
    """Write a `knowledge-transcript/1` file."""
    document = {
        "format": "knowledge-transcript/1",
        "session": {"id": session, "project": project, "agent": "any", "started_at": "2026-01-01T00:00:00Z"},
        "exchanges": exchanges,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


FIXED_BUG = {
    "timestamp": "2026-01-05T10:00:00Z",
    "user": "The checkout test fails in CI with `TimeoutError: QueuePool limit of size 5 overflow 10 reached`. Why?",
    "assistant": (
        "The root cause is that `OrderRepository.find()` opens a session, never closes it when an order is missing, "
        "so every 404 leaks a pooled connection. I wrapped the query in `with Session(engine) as session:` in "
        "`orders/repository.py`, which returns the connection on every path. The whole suite passes now: 212 passed."
    ),
    "tools": [
        {
            "name": "Bash",
            "input": {"command": "pytest -q"},
            "output": "E TimeoutError: QueuePool limit\n1 failed",
            "is_error": True,
        },
        {"name": "Edit", "input": {"file_path": "orders/repository.py"}, "output": "ok"},
        {"name": "Bash", "input": {"command": "pytest -q"}, "output": "212 passed in 9.1s"},
    ],
    "files": ["orders/repository.py"],
}
CHORE = {"timestamp": "2026-01-05T10:05:00Z", "user": "great, commit and push", "assistant": "Committed and pushed."}
