"""The spool as hooks fill it and the owner empties it: nothing lost, nothing in memory, nothing twice."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from knowledge_system.interfaces.hooks import notices
from knowledge_system.storage.spool import REFUSED_KEPT, DirectorySpool


def facts(transcript: str = "", **values: Any) -> dict[str, Any]:
    known = {"agent": "any", "session_id": "s1", "transcript": transcript, "cwd": "/src", "prompt": "", "body": None}
    return {**known, **values}


@contextmanager
def looking(opened: list[str]) -> Iterator[None]:
    """Note every directory that is listed during the block."""
    active = [True]

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        if active[0] and event == "os.scandir":
            opened.append(str(arguments[0]))

    sys.addaudithook(note)
    try:
        yield
    finally:
        active[0] = False  # a hook stays as long as the process


def names(folder: Path) -> list[str]:
    return sorted(one.name for one in folder.iterdir())


async def test_a_notice_stays_until_it_is_done(tmp_path: Path) -> None:
    notices.leave(str(tmp_path), "stop", facts("/logs/a.jsonl"))
    spool = DirectorySpool(tmp_path / "spool")
    (first,) = await spool.take(10)
    (again,) = await DirectorySpool(tmp_path / "spool").take(10)
    assert first == again
    assert (first.agent, first.event, first.session_id, str(first.transcript)) == ("any", "stop", "s1", "/logs/a.jsonl")
    await spool.done([first])
    assert await spool.take(10) == []


async def test_a_transcript_that_grows_a_thousand_times_is_one_notice(tmp_path: Path) -> None:
    for _ in range(1000):
        notices.leave(str(tmp_path), "tool-use", facts("/logs/a.jsonl"))
    notices.leave(str(tmp_path), "stop", facts("/logs/a.jsonl"))
    notices.leave(str(tmp_path), "tool-use", facts("/logs/a.jsonl"))
    spool = DirectorySpool(tmp_path / "spool")
    assert (await spool.depth()).waiting == 1
    assert [one.event for one in await spool.take(10)] == ["stop"], "what asks for learning at once is not hidden"


async def test_transcripts_with_like_names_do_not_hide_each_other(tmp_path: Path) -> None:
    paths = [f"/logs/{'x' * 200}/{name}.jsonl" for name in ("a", "b", "ä", "a b", "a-b")]
    for path in paths:
        notices.leave(str(tmp_path), "stop", facts(path))
    found = await DirectorySpool(tmp_path / "spool").take(10)
    assert sorted(str(one.transcript) for one in found) == sorted(paths)


async def test_a_notice_that_comes_while_one_is_worked_on_is_not_lost(tmp_path: Path) -> None:
    notices.leave(str(tmp_path), "stop", facts("/logs/a.jsonl"))
    spool = DirectorySpool(tmp_path / "spool")
    taken = await spool.take(10)
    notices.leave(str(tmp_path), "stop", facts("/logs/a.jsonl"))
    await spool.done(taken)
    assert len(await spool.take(10)) == 1


async def test_bodies_are_never_merged_and_come_in_order(tmp_path: Path) -> None:
    for number in range(5):
        notices.leave(str(tmp_path), "stop", facts(body={"format": "knowledge-transcript/1", "n": number}))
    spool = DirectorySpool(tmp_path / "spool")
    first = await spool.take(2)
    await spool.done(first)
    rest = await spool.take(10)
    assert [one.body["n"] for one in (*first, *rest) if one.body] == [0, 1, 2, 3, 4]


async def test_a_spool_that_nobody_drained_for_long_is_looked_at_once_and_drained_in_order(tmp_path: Path) -> None:
    spool = DirectorySpool(tmp_path / "spool")
    for number in range(200):
        notices.leave(str(tmp_path), "stop", facts(f"/logs/{number:03}.jsonl"))
    found: list[str] = []
    opened: list[str] = []
    with looking(opened):
        while taken := await spool.take(8):
            found += [str(one.transcript) for one in taken]
            if len(found) == 8:  # one that waits is replaced, one has gone, one is new
                notices.leave(str(tmp_path), "stop", facts("/logs/030.jsonl"))
                next((tmp_path / "spool/new").glob("*031-jsonl*")).unlink(missing_ok=True)
                notices.leave(str(tmp_path), "stop", facts("/logs/200.jsonl"))
            await spool.done(taken)
    assert found == [f"/logs/{number:03}.jsonl" for number in range(201) if number != 31]
    assert opened.count(str(tmp_path / "spool/new")) <= 5, "25 batches: a look at the start and at the end, and ours"


@pytest.mark.parametrize("content", ["", "garbage", "[]", '{"v": 2}', '{"v": 1}', "\udc80", "[" * 100_000])
async def test_unreadable_notices_are_put_aside_and_do_not_stop_the_others(tmp_path: Path, content: str) -> None:
    spool = DirectorySpool(tmp_path / "spool")
    (tmp_path / "spool/new/0.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    notices.leave(str(tmp_path), "stop", facts("/logs/a.jsonl"))
    assert len(await spool.take(10)) == 1
    assert names(tmp_path / "spool/refused") == ["0.json"]
    assert (await spool.depth()).refused == 1


async def test_refused_notices_do_not_fill_the_disk(tmp_path: Path) -> None:
    spool = DirectorySpool(tmp_path / "spool")
    for number in range(REFUSED_KEPT + 20):
        (tmp_path / f"spool/new/{number:04}.json").write_text("garbage")
    assert await spool.take(1000) == []
    assert len(names(tmp_path / "spool/refused")) == REFUSED_KEPT


def test_what_a_killed_process_left_unfinished_is_removed(tmp_path: Path) -> None:
    DirectorySpool(tmp_path / "spool")
    for name in ("spool/new/1-2.part", "spool/tmpabc.json"):
        (tmp_path / name).write_text("secret")
        os.utime(tmp_path / name, (0, 0))
    (tmp_path / "spool/new/3-4.part").write_text("being written")
    DirectorySpool(tmp_path / "spool")
    assert names(tmp_path / "spool/new") == ["3-4.part"]
    assert not (tmp_path / "spool/tmpabc.json").exists()


async def test_only_the_owner_can_read_what_waits(tmp_path: Path) -> None:
    notices.leave(str(tmp_path), "stop", facts(body={"format": "knowledge-transcript/1"}))
    DirectorySpool(tmp_path / "spool")
    (path,) = (tmp_path / "spool/new").iterdir()
    assert path.stat().st_mode & 0o077 == 0
    assert (tmp_path / "spool/new").stat().st_mode & 0o077 == 0
    assert json.loads(path.read_text())["v"] == 1
