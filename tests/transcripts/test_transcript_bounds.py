"""Memory, batches, cancellation."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest
from tests.transcripts.samples import Claude, Result, read_file

from knowledge_system.domain.sessions import TranscriptBatch
from knowledge_system.transcripts.assembly import TOOL_LIMIT
from knowledge_system.transcripts.capping import OUTPUT_LIMIT, TEXT_LIMIT
from knowledge_system.transcripts.files import BATCH_EXCHANGES, FileTranscriptReader

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MEASURE = """
import asyncio, resource, sys
from pathlib import Path
from knowledge_system.transcripts.files import FileTranscriptReader

async def run(path):
    count = 0
    async for outcome in FileTranscriptReader().read(path):
        count += len(outcome.exchanges)
    return count

asyncio.run(run(Path(sys.argv[1])))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
count = asyncio.run(run(Path(sys.argv[2])))
print(count, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""
MEGABYTE = 1024 * 1024
LIMIT_MB = 100
SIZE = 200 * MEGABYTE


def _growth(tmp_path: Path, small: str, big: Path) -> tuple[int, float]:
    """Return the exchanges of a big file, and by how many MB reading it raised the peak over reading a small one."""
    warm = tmp_path / "warm"
    warm.write_text(small)
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(warm), str(big)], check=True, capture_output=True, text=True, timeout=120
    )
    count, growth = done.stdout.split()
    return int(count), float(growth)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="measures the resident set with getrusage")
def test_many_long_lines_cost_bounded_memory(tmp_path: Path) -> None:
    output = "word " * 200_000
    exchange = Claude().ask("go").use("Bash", "t", command="ls").result("t", output).say("é" * 100_000).text()
    big = tmp_path / "big"
    with big.open("w") as stream:
        for _ in range(SIZE // len(exchange)):
            stream.write(exchange)
    count, growth = _growth(tmp_path, Claude().ask("go").text(), big)
    assert count == SIZE // len(exchange)
    assert growth < LIMIT_MB


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="measures the resident set with getrusage")
def test_one_exchange_and_one_line_of_any_size_cost_bounded_memory(tmp_path: Path) -> None:
    big = tmp_path / "big"
    with big.open("w") as stream:
        stream.write(Claude().ask("go").text())
        stream.write('{"type":"user","message":{"content":"')
        for _ in range(60):
            stream.write("y" * MEGABYTE)
        stream.write('"}}\n')
        line = Claude().say("text " * 20_000).text()
        for _ in range(60 * MEGABYTE // len(line)):
            stream.write(line)
    count, growth = _growth(tmp_path, Claude().ask("go").text(), big)
    assert count == 1
    assert growth < LIMIT_MB


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="measures the resident set with getrusage")
def test_a_large_document_costs_bounded_memory(tmp_path: Path) -> None:
    request = {"requestId": "r", "message": {"text": "go"}, "response": [{"value": "word " * 100_000}], "timestamp": 1}
    big = tmp_path / "big"
    with big.open("w") as stream:
        stream.write('{"responderUsername":"GitHub Copilot","requests":[')
        stream.write(",".join(json.dumps(request) for _ in range(2)))
        for _ in range(SIZE // 2 // 500_000):
            stream.write("," + json.dumps(request))
        stream.write("]}")
    small = json.dumps({"responderUsername": "GitHub Copilot", "requests": [request]})
    count, growth = _growth(tmp_path, small, big)
    assert count == 2 + SIZE // 2 // 500_000
    assert growth < LIMIT_MB


def test_long_texts_keep_head_and_tail(read: Callable[..., Result]) -> None:
    words = " ".join(f"word{number}" for number in range(40_000))
    made = Claude().ask(words).use("Bash", "t", command=words).result("t", words).say(words)
    (exchange,) = read(made.text()).exchanges
    for text, limit in (
        (exchange.user, TEXT_LIMIT),
        (exchange.assistant, TEXT_LIMIT),
        (exchange.tools[0].output, OUTPUT_LIMIT),
    ):
        assert len(text) <= limit + 100
        assert text.startswith("word0 word1")
        assert text.endswith("word39998 word39999")
        assert "characters left out" in text


def test_tool_calls_beyond_the_limit_are_counted(read: Callable[..., Result]) -> None:
    made = Claude().ask("go")
    for number in range(TOOL_LIMIT + 7):
        made.use("Bash", f"t{number}", command=f"step {number}").result(f"t{number}", "ok")
    (exchange,) = read(made.text()).exchanges
    assert len(exchange.tools) == TOOL_LIMIT
    assert exchange.facts.notes == ("7 more tool calls were made and are not kept.",)


def test_batches_are_bounded_and_the_last_one_is_marked(tmp_path: Path) -> None:
    path = tmp_path / "x"
    made = Claude()
    for number in range(BATCH_EXCHANGES * 2 + 3):
        made.ask(f"prompt {number}").say("ok")
    path.write_text(made.text())

    async def sizes() -> list[tuple[int, bool]]:
        outcomes = [outcome async for outcome in FileTranscriptReader().read(path)]
        return [(len(one.exchanges), one.last) for one in outcomes if isinstance(one, TranscriptBatch)]

    assert asyncio.run(sizes()) == [(64, False), (64, False), (3, True)]


def test_a_batch_ends_when_it_is_large(tmp_path: Path) -> None:
    path = tmp_path / "x"
    made = Claude()
    for number in range(6):
        made.ask(f"prompt {number}").say("word " * 2000)
    path.write_text(made.text())
    assert read_file(path, reader=FileTranscriptReader(batch_characters=15_000)).batches == 3


async def test_leaving_early_closes_the_file(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("".join(Claude().ask(f"prompt {number}").text() for number in range(300)))
    reading = FileTranscriptReader().read(path)
    assert isinstance(await anext(reading), TranscriptBatch)
    await reading.aclose()  # type: ignore[attr-defined]
    assert [outcome async for outcome in reading] == []


async def test_a_cancelled_reader_stops_in_the_middle_of_a_batch(tmp_path: Path) -> None:
    path = tmp_path / "x"
    with path.open("w") as stream:
        stream.write(Claude().ask("go").text())
        line = Claude().say("word " * 1000).text()
        for _ in range(20_000):
            stream.write(line)

    async def run() -> None:
        async for _ in FileTranscriptReader().read(path):
            pass

    before = threading.active_count()
    task = asyncio.create_task(run())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert threading.active_count() <= before + 2


async def test_several_files_at_once(examples: Path) -> None:
    paths = [path for path in FileTranscriptReader().discover([examples]) if hasattr(path, "name")]
    reader = FileTranscriptReader()

    async def count(path: Path) -> int:
        return sum([len(one.exchanges) async for one in reader.read(path) if isinstance(one, TranscriptBatch)])

    counts = await asyncio.gather(*(count(path) for path in paths for _ in range(3)))  # type: ignore[arg-type]
    assert counts[::3] == counts[1::3] == counts[2::3]
