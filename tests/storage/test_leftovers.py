"""What tests leave outside pytest's own directories: nothing, however they end."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from tests.leftovers import sweep
from tests.storage.postgres_server import Server, binaries

ROOT = Path(__file__).resolve().parent.parent.parent
HOLDING = """
import sys
from pathlib import Path
from tests.leftovers import own_folder
from tests.storage.postgres_server import binaries, running

def test_holds(capfd):
    with {context} as held:
        with capfd.disabled():
            print("HOLDS", getattr(held, "folder", held), flush=True)
        sys.stdin.readline()
"""


def holding(tmp_path: Path, context: str) -> tuple[subprocess.Popen[str], Path]:
    """Run pytest on a test that holds a folder; return when it does."""
    test = tmp_path / "test_holding.py"
    test.write_text(HOLDING.format(context=context))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.conftest", "-p", "no:cacheprovider", "--rootdir"]
    arguments = [*command, str(tmp_path), "-c", "/dev/null", "-s", f"--basetemp={tmp_path / 'temp'}", str(test)]
    process = subprocess.Popen(arguments, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    told = next(line for line in process.stdout if "HOLDS " in line)
    return process, Path(told.split()[-1])


def ended(process: subprocess.Popen[str], by: signal.Signals) -> None:
    process.send_signal(by)
    process.communicate(timeout=120)


def test_tests_that_are_asked_to_end_clear_up(tmp_path: Path) -> None:
    process, folder = holding(tmp_path, "own_folder('held', Path(sys.argv[-1]).parent)")
    assert folder.is_dir()
    ended(process, signal.SIGTERM)
    assert process.returncode == pytest.ExitCode.INTERRUPTED
    assert not folder.exists()


@pytest.mark.postgres
def test_what_killed_tests_left_is_ended_and_removed_by_the_next(tmp_path: Path, postgres: Server) -> None:
    assert postgres.folder.is_dir()
    process, folder = holding(tmp_path, f"running(Path({str(binaries())!r}))")
    server = psutil.Process(int((folder / "data/postmaster.pid").read_text().splitlines()[0]))
    ended(process, signal.SIGKILL)
    assert server.is_running()
    sweep(folder.parent, "pg")
    assert not folder.exists()
    server.wait(60)
    assert postgres.folder.is_dir(), "that of a process that lives stays"
