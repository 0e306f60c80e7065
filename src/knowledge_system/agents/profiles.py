"""What each coding agent wants to find in which file: hooks, MCP server, and where its transcripts are.

Checked against the agents' public documentation in November 2026; `docs/agents.md` names the pages.
"""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from knowledge_system.agents.edits import Edit, Entry, JsonEdit, OwnFile, TomlEdit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

SECONDS = 5
"""After which an agent gives up on a hook of ours; it takes a twentieth of a second."""
SERVER = "knowledge"
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Place:
    """Where to connect: the user's home directory, the project (None: user scope), and our command with its home."""

    user: Path
    project: Path | None
    executable: str
    home: str | None

    def hook(self, event: str, agent: str) -> str:
        """Return the command line of a hook."""
        parts = [self.executable, "hook", event, "--agent", agent, *(["--home", self.home] if self.home else [])]
        return shlex.join(parts)

    def server(self) -> Json:
        """Return command and arguments of the MCP server."""
        given = ["--home", self.home] if self.home else []
        return {"command": self.executable, "args": [*given, "mcp"]}

    @property
    def root(self) -> Path:
        """The directory that the scope is about."""
        return self.project or self.user


@dataclass(frozen=True, slots=True)
class Profile:
    """One agent. `edits` returns what to change; `transcripts` where its sessions lie, below the user's home."""

    name: str
    title: str
    folder: str
    edits: Callable[[Place], list[Edit]]
    transcripts: tuple[str, ...] = ()
    note: str = ""


def _marked(agent: str) -> str:
    """Return what occurs in every hook of ours for an agent, whichever program and home it names."""
    return f"--agent {agent}"


def _nested(place: Place, agent: str, events: Mapping[str, str], seconds: int = SECONDS) -> tuple[Entry, ...]:
    """Return hooks in the form of Claude Code, which several agents share: event → matcher groups → commands."""
    return tuple(
        Entry(
            ("hooks", name),
            {"hooks": [{"type": "command", "command": place.hook(event, agent), "timeout": seconds}]},
            listed=True,
        )
        for name, event in events.items()
    )


def _claude_code(place: Place) -> list[Edit]:
    events = {
        "SessionStart": "session-start",
        "UserPromptSubmit": "prompt-submit",
        "PostToolUse": "tool-use",
        "PreCompact": "pre-compact",
        "Stop": "stop",
        "SessionEnd": "session-end",
    }
    hooks = list(_nested(place, "claude-code", events))
    hooks[2].value["hooks"][0]["async"] = True
    settings = place.root / ".claude" / "settings.json"
    server = Entry(("mcpServers", SERVER), {"type": "stdio", **place.server()})
    servers = place.project / ".mcp.json" if place.project else place.user / ".claude.json"
    return [JsonEdit(settings, tuple(hooks), _marked("claude-code")), JsonEdit(servers, (server,), SERVER)]


def _codex(place: Place) -> list[Edit]:
    events = {
        "SessionStart": "session-start",
        "UserPromptSubmit": "prompt-submit",
        "PostToolUse": "tool-use",
        "PreCompact": "pre-compact",
        "Stop": "stop",
    }
    folder = place.root / ".codex"
    server = place.server()
    entries = (
        Entry(("mcp_servers", SERVER, "command"), server["command"]),
        Entry(("mcp_servers", SERVER, "args"), server["args"]),
    )  # hooks need no switch: they are on unless `features.hooks` turns them off
    hooks = JsonEdit(folder / "hooks.json", _nested(place, "codex", events), _marked("codex"))
    return [hooks, TomlEdit(folder / "config.toml", entries)]


def _gemini(place: Place) -> list[Edit]:
    events = {
        "SessionStart": "session-start",
        "BeforeAgent": "prompt-submit",
        "AfterTool": "tool-use",
        "PreCompress": "pre-compact",
        "AfterAgent": "stop",
        "SessionEnd": "session-end",
    }
    hooks = _nested(place, "gemini", events, 1000 * SECONDS)
    server = Entry(("mcpServers", SERVER), place.server())
    return [JsonEdit(place.root / ".gemini" / "settings.json", (*hooks, server), _marked("gemini"))]


def _cursor(place: Place) -> list[Edit]:
    events = {
        "sessionStart": "session-start",
        "beforeSubmitPrompt": "prompt-submit",
        "afterFileEdit": "tool-use",
        "preCompact": "pre-compact",
        "stop": "stop",
        "sessionEnd": "session-end",
    }
    hooks = tuple(
        Entry(("hooks", name), {"command": place.hook(event, "cursor"), "timeout": SECONDS}, listed=True)
        for name, event in events.items()
    )
    folder = place.root / ".cursor"
    return [
        JsonEdit(folder / "hooks.json", (Entry(("version",), 1), *hooks), _marked("cursor")),
        JsonEdit(folder / "mcp.json", (Entry(("mcpServers", SERVER), place.server()),), SERVER),
    ]


def _copilot(place: Place) -> list[Edit]:
    events = {
        "sessionStart": "session-start",
        "userPromptSubmitted": "prompt-submit",
        "postToolUse": "tool-use",
        "agentStop": "stop",
        "sessionEnd": "session-end",
    }
    hooks = {
        name: [{"type": "command", "bash": place.hook(event, "copilot"), "timeoutSec": SECONDS}]
        for name, event in events.items()
    }
    below = place.project / ".github" / "hooks" if place.project else place.user / ".copilot" / "hooks"
    servers = place.project / ".vscode" / "mcp.json" if place.project else place.user / ".copilot" / "mcp-config.json"
    kind = {"type": "stdio"} if place.project else {"type": "local", "tools": ["*"]}
    key = "servers" if place.project else "mcpServers"
    return [
        OwnFile(below / "knowledge-system.json", _json({"version": 1, "hooks": hooks})),
        JsonEdit(servers, (Entry((key, SERVER), {**kind, **place.server()}),), SERVER),
    ]


def _opencode(place: Place) -> list[Edit]:
    folder = place.project / ".opencode" if place.project else place.user / ".config" / "opencode"
    config = place.project / "opencode.json" if place.project else folder / "opencode.json"
    server = place.server()
    local = {"type": "local", "command": [server["command"], *server["args"]], "enabled": True}
    plugin = _PLUGIN.replace("@COMMAND@", _json([server["command"]]).strip()).replace(
        "@HOME@", _json(["--home", place.home] if place.home else []).strip()
    )
    return [
        OwnFile(folder / "plugins" / "knowledge-system.js", plugin),
        JsonEdit(config, (Entry(("mcp", SERVER), local),), SERVER),
    ]


def _generic(place: Place) -> list[Edit]:
    return [JsonEdit(place.root / ".mcp.json", (Entry(("mcpServers", SERVER), place.server()),), SERVER)]


_PLUGIN = """// Written by `knowledge connect opencode`; `knowledge disconnect opencode` removes it.
import { spawn } from "node:child_process"

const command = @COMMAND@
const home = @HOME@

function tell(event, payload) {
  try {
    const child = spawn(command[0], ["hook", event, "--agent", "opencode", ...home], {
      stdio: ["pipe", "ignore", "ignore"],
    })
    child.on("error", () => {})
    child.stdin.on("error", () => {})
    child.stdin.end(JSON.stringify(payload))
  } catch {}
}

function words(message) {
  return (message.parts ?? []).filter((part) => part.type === "text").map((part) => part.text).join("\\n")
}

function tools(message) {
  return (message.parts ?? []).filter((part) => part.type === "tool").map((part) => ({
    name: part.tool,
    input: part.state?.input ?? {},
    output: String(part.state?.output ?? part.state?.error ?? ""),
    is_error: part.state?.status === "error",
  }))
}

export const KnowledgeSystem = async ({ client, directory }) => {
  const sent = new Map()
  return {
    event: async ({ event }) => {
      if (event.type !== "session.idle") return
      const id = event.properties.sessionID
      const found = await client.session.messages({ path: { id } })
      const messages = (found.data ?? []).map((one) => ({ role: one.info.role, parts: one.parts }))
      const exchanges = []
      for (const message of messages) {
        if (message.role === "user") exchanges.push({ user: words(message), assistant: "", tools: [] })
        else if (exchanges.length) {
          const last = exchanges[exchanges.length - 1]
          last.assistant = [last.assistant, words(message)].filter(Boolean).join("\\n\\n")
          last.tools.push(...tools(message))
        }
      }
      const fresh = exchanges.slice(sent.get(id) ?? 0)
      if (!fresh.length) return
      sent.set(id, exchanges.length)
      const session = { id, agent: "opencode", project: directory.split("/").pop() }
      tell("stop", { format: "knowledge-transcript/1", session, cwd: directory, exchanges: fresh })
    },
  }
}
"""


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


PROFILES: Mapping[str, Profile] = {
    one.name: one
    for one in (
        Profile("claude-code", "Claude Code", ".claude", _claude_code, (".claude/projects",)),
        Profile(
            "codex",
            "Codex",
            ".codex",
            _codex,
            (".codex/sessions",),
            "Codex asks once whether it may run new hooks: answer in its /hooks screen",
        ),
        Profile("cursor", "Cursor", ".cursor", _cursor, (), "Cursor takes context at the start of a session only"),
        Profile(
            "copilot",
            "GitHub Copilot",
            ".copilot",
            _copilot,
            (".copilot/session-state",),
            "Copilot ignores what hooks print: knowledge comes through its MCP server",
        ),
        Profile("gemini", "Gemini CLI", ".gemini", _gemini, (".gemini/tmp",)),
        Profile("opencode", "OpenCode", ".config/opencode", _opencode),
        Profile("generic", "any agent that reads .mcp.json", "", _generic),
    )
}
