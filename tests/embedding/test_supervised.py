"""The model in a process of its own: that process may end in any way, and whoever asks has an answer or a reason."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.index.test_index_crashes import _alive, _children, _until

from knowledge_system.domain.errors import ModelUnavailable, UsageError
from knowledge_system.embedding.local import LocalEmbeddingModel
from knowledge_system.embedding.model_wire import Opening
from knowledge_system.embedding.supervised import ModelSupervision, SupervisedModel

pytestmark = pytest.mark.weights

QUESTION = ["why does the pool run dry"]
LONG = ["a long text about pools and sessions " * 60] * 200


@asynccontextmanager
async def supervised(models: Path, supervision: ModelSupervision | None = None) -> AsyncIterator[SupervisedModel]:
    model = SupervisedModel(Opening(models, "int8", threads=2), supervision)
    try:
        yield model
    finally:
        await model.close()


@pytest.fixture
def started() -> Callable[[], set[int]]:
    """Return what tells the processes that this test has started and that are still there."""
    before = set(_children(os.getpid()))
    return lambda: set(_children(os.getpid())) - before


def pid_of(model: SupervisedModel) -> int:
    pid = model.process().pid
    assert pid is not None
    return pid


async def gone(model: SupervisedModel, how: signal.Signals = signal.SIGKILL) -> None:
    """End the process, and wait until that is known."""
    os.kill(pid_of(model), how)
    await _until(lambda: model.process().pid is None)


async def test_it_answers_what_the_model_answers_here(models: Path, int8: LocalEmbeddingModel) -> None:
    texts = [*QUESTION, "", "\ud800 half", LONG[0], "x" * 100_000]
    async with supervised(models) as model:
        assert model.space == int8.space
        assert await model.embed(texts) == await int8.embed(texts)
        assert [await model.embed([text]) for text in texts] == [await int8.embed([text]) for text in texts]


async def test_nothing_is_started_before_the_first_text(models: Path, started: Callable[[], set[int]]) -> None:
    async with supervised(models) as model:
        assert model.process().state == "idle"
        assert started() == set()
        await asyncio.gather(*(model.embed([f"{number}"]) for number in range(8)))
        assert started() == {pid_of(model)}, "many wait for one start"
        assert (model.process().state, model.process().restarts) == ("up", 0)
        assert (model.process().rss_bytes or 0) > 10_000_000
    assert started() == set()


async def test_what_was_under_way_is_asked_again_of_the_next_process(models: Path) -> None:
    told: list[str] = []
    async with supervised(models, ModelSupervision(restarted=told.append)) as model:
        expected = await model.embed(QUESTION)
        os.kill(pid_of(model), signal.SIGSTOP)
        asked = [asyncio.create_task(model.embed(QUESTION)) for _ in range(5)]
        await asyncio.sleep(0)
        os.kill(pid_of(model), signal.SIGKILL)
        assert await asyncio.gather(*asked) == [expected] * 5
        assert model.process().restarts == 1
    assert len(told) == 1
    assert "SIGKILL" in told[0]


async def test_a_process_that_hangs_is_replaced(models: Path) -> None:
    async with supervised(models, ModelSupervision(answer=60, silence=5)) as model:
        expected = await model.embed(QUESTION)
        os.kill(pid_of(model), signal.SIGSTOP)
        assert await model.embed(QUESTION) == expected, "asked again of the next one"
        assert "it said nothing" in model.process().reason
        assert model.process().restarts == 1


async def test_a_question_that_is_not_answered_in_time_fails_before_the_process_is_given_up(models: Path) -> None:
    async with supervised(models, ModelSupervision(answer=0.05)) as model:
        await model.load()
        os.kill(pid_of(model), signal.SIGSTOP)
        with pytest.raises(ModelUnavailable, match=r"no answer within 0\.05 s"):
            await model.embed(QUESTION)
        assert model.process().state == "up"
        os.kill(pid_of(model), signal.SIGCONT)


async def test_one_that_keeps_ending_is_started_less_and_less_often_and_says_why(models: Path) -> None:
    async with supervised(models, ModelSupervision(pause=600)) as model:
        for _ in range(2):
            await model.embed(QUESTION)
            await gone(model, signal.SIGABRT)
        with pytest.raises(ModelUnavailable, match="SIGABRT"):
            await model.embed(QUESTION)
        assert (model.process().state, model.process().restarts) == ("down", 1)


async def test_a_model_that_cannot_be_loaded_says_so_and_is_loaded_when_asked_for(
    tmp_path: Path, models: Path, started: Callable[[], set[int]]
) -> None:
    occupied = tmp_path / "models"
    occupied.write_text("no directory")
    async with supervised(occupied, ModelSupervision(retry=600)) as model:
        with pytest.raises(ModelUnavailable):
            await model.load()
        assert started() == set()
        assert model.process().state == "down"
        occupied.unlink()
        occupied.symlink_to(models)
        with pytest.raises(ModelUnavailable):  # questions do not try again before it is time
            await model.embed(QUESTION)
        await model.load()
        assert len(await model.embed(QUESTION)) == 1
        assert (model.process().restarts, model.process().reason) == (0, "")


async def test_a_model_that_could_not_be_loaded_is_tried_again_while_nobody_waits(tmp_path: Path, models: Path) -> None:
    occupied = tmp_path / "models"
    occupied.write_text("no directory")
    async with supervised(occupied, ModelSupervision(retry=0)) as model:
        with pytest.raises(ModelUnavailable):
            await model.load()
        occupied.unlink()
        occupied.symlink_to(models)
        with pytest.raises(ModelUnavailable):
            await model.embed(QUESTION)
        await _until(lambda: model.process().state == "up")
        assert len(await model.embed(QUESTION)) == 1


async def test_cancelled_bulk_work_stops_and_leaves_the_model_usable(models: Path) -> None:
    async with supervised(models) as model:
        await model.load()
        bulk = asyncio.ensure_future(model.embed(LONG * 10))
        await model.embed(["let it begin"])
        bulk.cancel()
        with pytest.raises(asyncio.CancelledError):
            await bulk
        assert len(await model.embed(["one", "two"])) == 2


async def test_a_question_does_not_wait_for_bulk_work(models: Path) -> None:
    async with supervised(models) as model:
        await model.load()
        bulk = asyncio.ensure_future(model.embed(LONG))
        await asyncio.sleep(0)
        await model.embed(QUESTION)
        assert not bulk.done()
        assert len(await bulk) == len(LONG)


async def test_closing_while_it_starts_leaves_no_process(models: Path, started: Callable[[], set[int]]) -> None:
    async with supervised(models) as model:
        loading = asyncio.create_task(model.load())
        await _until(started)
        await model.close()
        with pytest.raises(ModelUnavailable, match="closed"):
            await loading
    assert started() == set()
    with pytest.raises(ModelUnavailable, match="closed"):
        await model.embed(QUESTION)


def test_an_unknown_variant_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="int4"):
        SupervisedModel(Opening(tmp_path, "int4"))  # type: ignore[arg-type]


_KILLED = """
import asyncio, os, pathlib, sys
from knowledge_system.embedding.model_wire import Opening
from knowledge_system.embedding.supervised import SupervisedModel

async def main():
    model = SupervisedModel(Opening(pathlib.Path(sys.argv[1]), "int8"))
    await model.load()
    print(model.process().pid, "onnxruntime" in sys.modules, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_the_process_ends_with_its_parent_which_loads_no_runtime(models: Path) -> None:
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _KILLED, str(models), stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    pid, loaded = (await parent.stdout.readline()).split()
    assert loaded == b"False"
    assert _alive(int(pid))
    parent.kill()
    await parent.wait()
    await _until(lambda: not _alive(int(pid)))
