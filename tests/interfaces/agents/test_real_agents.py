"""Real coding agents, installed for the test, talk to a scripted model on this machine and are captured."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.interfaces.conftest import KNOWLEDGE, ROOT, Cli
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


def installed(package: str, program: str, folder: Path) -> Path:
    """Install an agent's package; without npm, or a registry that has it, the test is skipped."""
    if shutil.which("npm") is None:
        pytest.skip("needs npm to install a real agent: apt-get install npm")
    command = ["npm", "install", "--no-fund", "--no-audit", "--prefix", str(folder), package]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)
    path = folder / "node_modules" / ".bin" / program
    if done.returncode or not path.exists():
        pytest.skip(f"{package} cannot be installed here: {done.stderr[-200:]}")
    return path


@pytest.fixture(scope="session")
def claude(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return installed("@anthropic-ai/claude-code", "claude", tmp_path_factory.mktemp("claude-code"))


@pytest.fixture(scope="session")
def codex(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return installed("@openai/codex", "codex", tmp_path_factory.mktemp("codex"))


@pytest.fixture(scope="session")
def inspector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inspector")
    return installed("@modelcontextprotocol/inspector", "mcp-inspector", folder)


async def run(program: Path, arguments: list[str], cwd: Path, environment: dict[str, str]) -> str:
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    process = await asyncio.create_subprocess_exec(
        program, *arguments, cwd=cwd, env={**kept, **environment},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    async with asyncio.timeout(120):
        out, _ = await process.communicate()
    assert process.returncode == 0, out
    return out.decode()


async def session(program: Path, cli: Cli, provider: ScriptedProvider, cwd: Path) -> str:
    environment = {
        **QUIET,
        "HOME": str(cli.home.parent),
        "ANTHROPIC_BASE_URL": provider.anthropic_url.removesuffix("/v1"),
        "ANTHROPIC_API_KEY": "key-of-a-test",
        "KNOWLEDGE_HOOK_DEADLINE": "5",
    }
    return await run(program, ["-p", PROMPT], cwd, environment)


def responses_stream(text: str) -> Step:
    """Return an answer in the protocol that Codex speaks: the events of OpenAI's Responses interface."""
    content = [{"type": "output_text", "text": text, "annotations": []}]
    item = {"type": "message", "role": "assistant", "id": "msg_1", "content": content}
    usage = {"input_tokens": 100, "output_tokens": 20, "total_tokens": 120}
    events = [
        {"type": "response.created", "response": {"id": "resp_1"}},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": {"id": "resp_1", "output": [item], "usage": usage}},
    ]
    body = "".join(f"event: {one['type']}\ndata: {json.dumps(one)}\n\n" for one in events)
    return Step(body=body, headers={"content-type": "text/event-stream"})


async def codex_session(program: Path, cli: Cli, provider: ScriptedProvider, cwd: Path) -> str:
    vendor = f'{{name="scripted",base_url="{provider.openai_url}",wire_api="responses",env_key="SCRIPTED_KEY"}}'
    settings = ["model=test", "model_provider=scripted", f"model_providers.scripted={vendor}"]
    options = [part for one in settings for part in ("-c", one)]
    # Hooks wait for a person's consent in Codex's own screen; this switch is its own for automation.
    arguments = ["exec", "--dangerously-bypass-hook-trust", "--skip-git-repo-check", *options, PROMPT]
    environment = {"HOME": str(cli.home.parent), "SCRIPTED_KEY": "key-of-a-test", "KNOWLEDGE_HOOK_DEADLINE": "5"}
    return await run(program, arguments, cwd, environment)


async def answered(cli: Cli, query: str) -> Any:
    """Search until the best hit has the answer: a prompt may be captured before its answer is there."""
    hits: list[Any] = []
    async with asyncio.timeout(60):
        while not hits or ANSWER not in hits[0]["content"]:
            hits = (await asyncio.to_thread(cli.json, "search", query))["results"]
    return hits[0]


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
            hit = await answered(cli, "connection pool run dry")
            assert hit["project"] == "shop"
            await session(claude, cli, provider, project)
            why = [
                row for one in cli.json("sessions")["results"] for row in cli.json("why-injected", one["id"])["results"]
            ]
    assert {row["occasion"] for row in why} == {"session-start", "prompt-submit"}
    assert not (cli.home / "hooks.log").exists()


async def test_a_session_of_codex_is_captured(codex: Path, cli: Cli, tmp_path: Path) -> None:
    project = tmp_path / "shop"
    project.mkdir()
    cli.json("connect", "codex")
    async with ScriptedProvider(default=responses_stream(ANSWER)) as provider:
        with service(cli):
            said = await codex_session(codex, cli, provider, project)
            assert "hook: Stop Completed" in said
            hit = await answered(cli, "connection pool run dry")
    assert hit["project"] == "shop"
    assert "deprecated" not in said
    assert not (cli.home / "hooks.log").exists()


async def test_the_inspector_of_mcp_lists_and_calls_the_tools(inspector: Path, cli: Cli) -> None:
    cli.json("ingest", ROOT / "examples")

    async def asked(*arguments: str) -> Any:
        command = ["--cli", str(KNOWLEDGE), "--home", str(cli.home), "mcp", "--method", *arguments]
        return json.loads(await run(inspector, command, cli.home.parent, {"HOME": str(cli.home.parent)}))

    tools = {one["name"]: one for one in (await asked("tools/list"))["tools"]}
    assert set(tools) == {
        "knowledge_search", "knowledge_get", "knowledge_timeline", "knowledge_remember", "knowledge_feedback"
    }  # fmt: skip
    assert all(one["inputSchema"]["type"] == one["outputSchema"]["type"] == "object" for one in tools.values())
    query = ("--tool-name", "knowledge_search", "--tool-arg", "query=connection pool")
    found = await asked("tools/call", *query)
    assert found["isError"] is False
    assert found["structuredContent"]["results"]
    refused = await asked("tools/call", "--tool-name", "knowledge_search")
    assert refused["isError"] is True
