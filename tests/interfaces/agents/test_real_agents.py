"""Real coding agents, installed for the test, talk to a scripted model on this machine and are captured."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.interfaces.conftest import Cli
from tests.interfaces.test_served import service

from knowledge_system.testing.scripted_provider import ScriptedProvider, Step

ANSWER = "The pool runs dry because find() never closes its session; a with block closes it on every path."
PROMPT = "why does the connection pool run dry in the checkout test?"
QUIET = {
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "DISABLE_AUTOUPDATER": "1",
    "DISABLE_TELEMETRY": "1",
    "DISABLE_ERROR_REPORTING": "1",
}


@pytest.fixture(scope="session")
def claude(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install Claude Code; without npm, or a registry that has it, the test is skipped."""
    if shutil.which("npm") is None:
        pytest.skip("needs npm to install a real agent: apt-get install npm")
    folder = tmp_path_factory.mktemp("agents")
    command = ["npm", "install", "--no-fund", "--no-audit", "--prefix", str(folder), "@anthropic-ai/claude-code"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)
    program = folder / "node_modules" / ".bin" / "claude"
    if done.returncode or not program.exists():
        pytest.skip(f"the real agent cannot be installed here: {done.stderr[-200:]}")
    return program


async def session(program: Path, cli: Cli, provider: ScriptedProvider, cwd: Path) -> str:
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    environment = {
        **kept,
        **QUIET,
        "HOME": str(cli.home.parent),
        "ANTHROPIC_BASE_URL": provider.anthropic_url.removesuffix("/v1"),
        "ANTHROPIC_API_KEY": "key-of-a-test",
        "KNOWLEDGE_HOOK_DEADLINE": "5",
    }
    process = await asyncio.create_subprocess_exec(
        program, "-p", PROMPT, cwd=cwd, env=environment,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    async with asyncio.timeout(120):
        out, _ = await process.communicate()
    assert process.returncode == 0, out
    return out.decode()


async def searched(cli: Cli, query: str) -> list[Any]:
    async with asyncio.timeout(60):
        while not (found := (await asyncio.to_thread(cli.json, "search", query))["results"]):
            pass
    return list(found)


async def test_a_session_of_claude_code_is_captured_and_the_next_one_is_briefed(
    claude: Path, cli: Cli, tmp_path: Path
) -> None:
    project = tmp_path / "shop"
    project.mkdir()
    (cli.home / "config.json").write_text('{"injection": {"deadline": 5000}}')
    cli.json("connect", "claude-code")
    async with ScriptedProvider(default=Step(text=ANSWER, input_tokens=100, output_tokens=20)) as provider:
        with service(cli):
            assert ANSWER in await session(claude, cli, provider, project)
            (hit, *_) = await searched(cli, "connection pool run dry")
            assert hit["project"] == "shop"
            assert ANSWER in hit["content"]
            await session(claude, cli, provider, project)
            why = [
                row for one in cli.json("sessions")["results"] for row in cli.json("why-injected", one["id"])["results"]
            ]
    assert {row["occasion"] for row in why} == {"session-start", "prompt-submit"}
    assert not (cli.home / "hooks.log").exists()
