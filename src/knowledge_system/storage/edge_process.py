"""Running the child process: bounded by a deadline, never left behind, and its death is an answer."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from knowledge_system.domain.errors import DependencyUnavailable

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Answer:
    """What a child said, or how it ended when it said nothing more."""

    facts: dict[str, Any] = field(default_factory=dict)
    problems: tuple[str, ...] = ()


async def run_child(command: str, generation: Path, dimension: int, deadline: float) -> Answer:
    """Run one command of `edge_child`. Cancelling kills the child. Never raises for what happens inside it."""
    arguments = ["-P", "-m", "knowledge_system.storage.edge_child", command, str(generation), str(dimension)]
    pipe = asyncio.subprocess.PIPE
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable, *arguments, str(os.getpid()), stdin=pipe, stdout=pipe, stderr=pipe, limit=2**24
        )
    except OSError as error:
        hint = "Check the limits on processes and memory of the user who runs this."
        raise DependencyUnavailable(f"cannot start the index's child process: {error}", hint=hint) from error
    try:
        async with asyncio.timeout(deadline):
            # Not `communicate`: it would close standard input, whose end tells the child that its parent is gone.
            output, errors = await asyncio.gather(_all(process.stdout), _all(process.stderr))
            status = await process.wait()
    except TimeoutError:
        return Answer(problems=(f"{command} did not end within {deadline:.0f} s",))
    finally:
        await _end(process)
    return _answer(command, status, output, errors)


async def _all(stream: asyncio.StreamReader | None) -> bytes:
    return b"" if stream is None else await stream.read()


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.stdin is not None:
        process.stdin.close()
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    await asyncio.shield(process.wait())


def _answer(command: str, status: int, output: bytes, errors: bytes) -> Answer:
    lines = [line for line in output.splitlines() if line.startswith(b"{")]
    facts: dict[str, Any] = json.loads(lines[-1]) if lines else {}
    problems = tuple(map(str, facts.get("problems", ())))
    if status == 0 and lines:
        return Answer(facts, problems)
    how = f"died by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
    said = errors.decode("utf-8", "replace").strip()[:300]
    return Answer(facts, (*problems, f"{command}: the child process {how}: {said}"))
