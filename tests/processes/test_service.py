"""The end of a pair of sockets at which work is done: every request has one answer, whatever becomes of it."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator

import pytest

from knowledge_system.domain.errors import DependencyUnavailable, KnowledgeError, ModelUnavailable
from knowledge_system.processes.channel import ChildProcess, Program
from knowledge_system.processes.service import Service
from knowledge_system.processes.wire import Control, Frames, Message, error_of, frame

ECHO, FAIL, BREAK, HANG = 1, 2, 3, 4


class Echo(Service):
    """Says what it is told, fails, breaks, or never answers."""

    def end(self) -> None:
        """Go on: this is the process of the tests."""

    async def answer(self, message: Message) -> Message:
        if message.kind == FAIL:
            raise ModelUnavailable("no weights", hint="Install them.")
        if message.kind == BREAK:
            raise ZeroDivisionError("by nothing")
        if message.kind == HANG:
            await asyncio.Event().wait()
        return Message(message.request, Control.ANSWER, message.head, message.tail)


class Line:
    """The other end: sends messages, and hears answers in the order in which they come."""

    def __init__(self) -> None:
        self.heard: asyncio.Queue[Message] = asyncio.Queue()
        self.transport: asyncio.Transport | None = None

    def say(self, *messages: Message) -> None:
        assert self.transport is not None
        self.transport.write(b"".join(map(frame, messages)))

    async def hear(self) -> Message:
        return await asyncio.wait_for(self.heard.get(), 30)


@pytest.fixture
async def line() -> AsyncIterator[Line]:
    ours, theirs = socket.socketpair()
    service, found = Echo(), Line()
    await service.connect(theirs.detach())
    loop = asyncio.get_running_loop()
    found.transport, _ = await loop.create_unix_connection(
        lambda: Frames(found.heard.put_nowait, lambda: None), sock=ours
    )
    yield found
    found.transport.close()


async def test_what_is_said_is_answered(line: Line) -> None:
    line.say(Message(1, ECHO, {"text": "naïve \udcff"}, b"\x00\xff"), Message(2, Control.PING))
    answers = {one.request: one for one in (await line.hear(), await line.hear())}
    assert answers[1] == Message(1, Control.ANSWER, {"text": "naïve \udcff"}, b"\x00\xff")
    assert answers[2].kind == Control.ANSWER


async def test_failures_of_one_request_are_its_answer_and_no_others(line: Line) -> None:
    line.say(Message(1, FAIL))
    failed = error_of(await line.hear())
    assert (type(failed), failed.message, failed.hint) == (ModelUnavailable, "no weights", "Install them.")
    line.say(Message(2, BREAK))
    broken = error_of(await line.hear())
    assert (type(broken), broken.message) == (KnowledgeError, "ZeroDivisionError: by nothing")
    line.say(Message(3, ECHO, "still there"))
    assert (await line.hear()).head == "still there"


async def test_what_is_given_up_is_answered_begun_or_not(line: Line) -> None:
    line.say(Message(1, HANG), Message(1, Control.CANCEL))  # it has not begun when it is given up
    assert isinstance(error_of(await line.hear()), DependencyUnavailable)
    line.say(Message(2, HANG))
    line.say(Message(3, ECHO))
    assert (await line.hear()).request == 3
    line.say(Message(2, Control.CANCEL), Message(77, Control.CANCEL))
    assert "given up" in error_of(await line.hear()).message


async def test_a_program_that_cannot_be_run_ends_with_a_reason() -> None:
    process = await ChildProcess.start(Program("knowledge_system.no_such_module", "echo"), 30)
    with pytest.raises(DependencyUnavailable, match=r"process of the echo.*No module named"):
        await process.ask(Message(process.number(), ECHO), 30)
    assert "No module named" in (await process.ended).reason
    await process.end()
    assert not os.path.exists(f"/proc/{process.pid}")  # noqa: ASYNC240, PTH110 -- a path of the kernel
