"""Builders of small transcripts, and one way to read them."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from knowledge_system.domain.sessions import RawExchange, ReadWarning, SkippedFile, SourceState
from knowledge_system.transcripts.files import FileTranscriptReader

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

SESSION = "11111111-2222-4333-8444-555555555555"


@dataclass
class Result:
    """All that reading one file gave."""

    exchanges: list[RawExchange] = field(default_factory=list)
    warnings: list[ReadWarning] = field(default_factory=list)
    skipped: list[SkippedFile] = field(default_factory=list)
    states: list[SourceState] = field(default_factory=list)
    batches: int = 0

    @property
    def prompts(self) -> list[str]:
        return [exchange.user for exchange in self.exchanges]

    @property
    def answers(self) -> list[str]:
        return [exchange.assistant for exchange in self.exchanges]

    @property
    def reasons(self) -> str:
        return " | ".join(f"{warning.place}: {warning.reason}" for warning in self.warnings)

    @property
    def state(self) -> SourceState:
        return self.states[-1]


def read_file(path: Path, known: SourceState | None = None, reader: FileTranscriptReader | None = None) -> Result:
    """Read a file to its end."""

    async def collect() -> Result:
        result = Result()
        async for outcome in (reader or FileTranscriptReader()).read(path, known):
            if isinstance(outcome, SkippedFile):
                result.skipped.append(outcome)
                continue
            result.batches += 1
            result.exchanges += outcome.exchanges
            result.warnings += outcome.warnings
            result.states.append(outcome.state)
        return result

    return asyncio.run(collect())


def jsonl(records: Iterable[Any]) -> str:
    """Return the records as JSON lines."""
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


class Claude:
    """Builds a Claude Code transcript record by record."""

    def __init__(self, cwd: str = "/home/dana/src/orders-api") -> None:
        self.cwd = cwd
        self.records: list[Any] = []

    def record(self, kind: str, message: Any = None, **more: Any) -> Claude:
        number = len(self.records)
        made = {
            "parentUuid": None, "isSidechain": False, "cwd": self.cwd, "sessionId": SESSION, "version": "2.1.50",
            "gitBranch": "main", "type": kind, "uuid": f"u{number}",
            "timestamp": f"2026-03-02T09:{number // 60 % 60:02d}:{number % 60:02d}.000Z",
        }  # fmt: skip
        if message is not None:
            made["message"] = message
        self.records.append({**made, **more})
        return self

    def ask(self, text: Any, **more: Any) -> Claude:
        return self.record("user", {"role": "user", "content": text}, **more)

    def say(self, text: str, **more: Any) -> Claude:
        return self.blocks({"type": "text", "text": text}, **more)

    def use(self, name: str, key: str, **given: Any) -> Claude:
        return self.blocks({"type": "tool_use", "id": key, "name": name, "input": given})

    def blocks(self, *blocks: Any, message_id: str = "", usage: Any = None, **more: Any) -> Claude:
        message = {
            "id": message_id or f"msg_{len(self.records)}", "role": "assistant", "model": "claude-opus-4-8",
            "content": list(blocks), "usage": usage or {"input_tokens": 1, "output_tokens": 2},
        }  # fmt: skip
        return self.record("assistant", message, **more)

    def result(self, key: str, content: Any, **more: Any) -> Claude:
        block = {"type": "tool_result", "tool_use_id": key, "content": content, **more}
        return self.record("user", {"role": "user", "content": [block]})

    def add(self, record: Any) -> Claude:
        self.records.append(record)
        return self

    def text(self) -> str:
        return jsonl(self.records)


class Codex:
    """Builds a Codex rollout record by record."""

    def __init__(self, session: str = SESSION, started: str = "2026-03-04T09:00:00Z", **meta: Any) -> None:
        self.records: list[Any] = []
        self.meta(session, started, **meta)

    def record(self, kind: str, payload: Any) -> Codex:
        stamp = f"2026-03-04T09:{len(self.records) // 60 % 60:02d}:{len(self.records) % 60:02d}.000Z"
        self.records.append({"timestamp": stamp, "type": kind, "payload": payload})
        return self

    def meta(self, session: str, started: str, **more: Any) -> Codex:
        git = {"branch": "main", "repository_url": "git@git.example.com:finance/ledger-sync.git"}
        payload = {"id": session, "timestamp": started, "cwd": "/home/dana/ledger", "cli_version": "0.80.0", "git": git}
        return self.record("session_meta", {**payload, **more})

    def item(self, **payload: Any) -> Codex:
        return self.record("response_item", payload)

    def event(self, **payload: Any) -> Codex:
        return self.record("event_msg", payload)

    def ask(self, text: str) -> Codex:
        self.item(type="message", role="user", content=[{"type": "input_text", "text": text}])
        return self.event(type="user_message", message=text)

    def say(self, text: str) -> Codex:
        self.event(type="agent_message", message=text)
        return self.item(type="message", role="assistant", content=[{"type": "output_text", "text": text}])

    def run(self, command: Any, output: Any, key: str = "c1") -> Codex:
        self.item(type="function_call", name="shell", arguments=json.dumps({"command": command}), call_id=key)
        return self.item(type="function_call_output", call_id=key, output=output)

    def text(self) -> str:
        return jsonl(self.records)
