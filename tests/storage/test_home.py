from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from knowledge_system.domain.clock import SystemClock
from knowledge_system.domain.errors import Busy, DependencyUnavailable
from knowledge_system.storage.home import KEY_BYTES, Home

HOLDER = """
import sys
from pathlib import Path
from knowledge_system.domain.clock import SystemClock
from knowledge_system.storage.home import Home
home = Home(Path(sys.argv[1]), SystemClock())
home.acquire("ingest")
print("held", flush=True)
sys.stdin.readline()
"""


def opened(path: Path) -> Home:
    home = Home(path, SystemClock())
    home.prepare()
    return home


def test_it_is_private_to_its_owner(tmp_path: Path) -> None:
    home = opened(tmp_path / "deep" / "home")

    assert stat.S_IMODE(home.path.stat().st_mode) == 0o700


def test_the_key_is_made_once_and_kept_private(tmp_path: Path) -> None:
    home = opened(tmp_path / "home")
    key = home.key()

    assert len(key) == KEY_BYTES
    assert opened(home.path).key() == key
    assert stat.S_IMODE((home.path / "key").stat().st_mode) == 0o600
    assert opened(tmp_path / "other").key() != key


def test_texts_that_a_killed_process_left_unredacted_go_with_the_next_owner(tmp_path: Path) -> None:
    home = opened(tmp_path / "home")
    home.arrivals.mkdir()
    (home.arrivals / "tmp1.json").write_text("as it came")
    home.acquire("ingest")

    assert not home.arrivals.exists()
    home.arrivals.mkdir()
    with pytest.raises(Busy):
        opened(home.path).acquire("ingest")
    assert home.arrivals.exists(), "those of an owner that lives stay"


def test_another_process_is_named_when_it_holds_the_directory(tmp_path: Path) -> None:
    home = opened(tmp_path / "home")
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(home.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"

        with pytest.raises(Busy, match=str(holder.pid)) as caught:
            home.acquire("search")
        assert caught.value.hint
        assert (home.holder() or {})["purpose"] == "ingest"

        holder.kill()
        holder.wait()
    assert home.holder() is None
    home.acquire("search")
    home.release()


def test_a_released_directory_is_free_again(tmp_path: Path) -> None:
    first, second = opened(tmp_path / "home"), opened(tmp_path / "home")
    first.acquire("ingest")
    with pytest.raises(Busy):
        second.acquire("search")
    first.release()
    first.release()
    second.acquire("search")
    second.release()


def test_a_path_below_a_file_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(DependencyUnavailable, match="cannot use the data directory"):
        opened(tmp_path / "file" / "home")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_without_permission_is_a_clear_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)

    with pytest.raises(DependencyUnavailable, match="Permission denied"):
        opened(tmp_path / "home")
