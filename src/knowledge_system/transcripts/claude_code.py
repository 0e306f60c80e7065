"""Claude Code: one JSON record a line, several records a message, sub-agents inside progress records."""

from __future__ import annotations

import re
from collections import deque
from typing import TYPE_CHECKING, Any

from knowledge_system.domain.sessions import JsonObject, TokenUsage
from knowledge_system.transcripts.assembly import Assembler, ExchangeDraft, SessionNotes
from knowledge_system.transcripts.noise import Turn, as_typed, kind_of, without_editor_context
from knowledge_system.transcripts.tools import text_of
from knowledge_system.transcripts.values import as_count, as_list, as_object, as_text, moment, short

if TYPE_CHECKING:
    from datetime import datetime

    from knowledge_system.transcripts.lines import Line
    from knowledge_system.transcripts.read_log import ReadLog

NAME = "claude_code_jsonl"

_HEAD = 2048
_SKIPPED = (b'"type":"progress"', b'"type":"file-history-snapshot"', b'"type":"queue-operation"')
_MARKER = re.compile(rb'"(?:type|role)"\s*:\s*"user"')
_WITHOUT_CONTENT = {
    "file-history-snapshot", "queue-operation", "pr-link", "system", "agent-name", "agent-color", "agent-setting",
    "last-prompt", "permission-mode", "worktree-state", "mode", "tag", "bridge-session", "content-replacement",
    "marble-origami-commit", "marble-origami-snapshot", "attribution-snapshot", "speculation-accept", "task-summary",
}  # fmt: skip
_MAX_TITLES = 50
_RECENT = 64
_EMPTY_TEXTS = {"(no content)", "No response requested."}


class ClaudeCodeParser:
    """Reads records; a prompt opens an exchange, everything else adds to the open one."""

    def __init__(self, assembler: Assembler, log: ReadLog) -> None:
        self._to = assembler
        self._log = log
        self._titles: dict[str, str] = dict(as_object(assembler.parser_state.get("titles")))
        self._uuids: deque[str] = deque(maxlen=_RECENT)
        self._agents: dict[str, str] = {}
        self._early: list[str] = []
        self._sidechains = 0
        assembler.session.agent = "claude-code"
        assembler.snapshot = lambda: {"titles": dict(self._titles)}

    def line(self, line: Line) -> None:
        """Read one line."""
        head = line.data[:_HEAD]
        skippable = any(mark in head for mark in _SKIPPED)
        if skippable and _is_idle(line.data, head):
            return
        if not skippable and _MARKER.search(head):
            self._to.markers += 1
        for record, at in self._log.records(line):
            self._record(record, at)

    def end(self) -> None:
        """Say what a file without prompts was."""
        if self._sidechains and not self._to.count:
            self._log.report("line 1", "only a sub-agent's conversation: its result is in the session that started it")

    def _record(self, record: JsonObject, line: Line) -> None:
        kind = as_text(record.get("type"))
        if kind == "user":
            self._user(record, line)
        elif kind == "assistant":
            self._assistant(record)
        elif kind == "progress":
            self._progress(as_object(record.get("data")), as_text(record.get("parentToolUseID")))
        elif kind in {"summary", "custom-title", "ai-title"}:
            self._title(record)
        elif kind == "attachment":
            self._attachment(as_object(record.get("attachment")))
        elif kind not in _WITHOUT_CONTENT:
            self._log.unknown(line.place, kind)

    # --- user records

    def _user(self, record: JsonObject, line: Line) -> None:
        message = as_object(record.get("message"))
        if not message:
            self._log.report(line.place, "a user record without a message was skipped")
            return
        content = message.get("content")
        results = [block for block in map(as_object, as_list(content)) if block.get("type") == "tool_result"]
        self._results(results, as_object(record.get("toolUseResult")))
        if record.get("isSidechain") is True:
            self._sidechains += 1
            self._to.accounted += 1
        elif record.get("isMeta") is True or record.get("isVisibleInTranscriptOnly") is True:
            self._to.accounted += 1
        elif results:
            self._beside_results(_typed(content))
        else:
            self._turn(record, without_editor_context(_typed(content)), line)

    def _turn(self, record: JsonObject, text: str, line: Line) -> None:
        turn = Turn.CONTEXT if record.get("isCompactSummary") is True else kind_of(text)
        if turn is Turn.PROMPT and text.strip():
            self._prompt(record, text, line)
            return
        self._to.accounted += 1
        if turn is Turn.INTERRUPTION:
            self._interrupted()
        elif turn is Turn.CONTEXT:
            self._note(text)

    def _prompt(self, record: JsonObject, text: str, line: Line) -> None:
        when = moment(record.get("timestamp"))
        self._enter(record)
        draft = self._to.begin(when, as_typed(text), at=line)
        self._uuids.clear()
        self._agents.clear()
        self._seen(record, when)
        for note in self._early:
            draft.note(note)
        self._early = []

    def _enter(self, record: JsonObject) -> None:
        """Switch to the record's session, and learn its directory and branch."""
        own = short(record.get("sessionId"))
        session = self._to.session
        if own and session.id and own != session.id:
            self._to.close()
            self._to.new_session(SessionNotes(id=own, agent=session.agent))
        session = self._to.session
        session.id = session.id or own
        session.cwd = session.cwd or as_text(record.get("cwd"))
        if branch := as_text(record.get("gitBranch")):
            session.branch = branch
        if version := short(record.get("version")):
            session.metadata = {"version": version}

    def _beside_results(self, text: str) -> None:
        self._to.accounted += 1
        if kind_of(text) is Turn.INTERRUPTION:
            self._interrupted()
        elif text.strip():
            self._note(text)

    def _results(self, results: list[JsonObject], extra: JsonObject) -> None:
        draft = self._to.draft
        if draft is None:
            return
        for block in results:
            output = text_of(block.get("content"))
            if extra.get("interrupted") is True:
                output += "\n(interrupted)"
            draft.result(as_text(block.get("tool_use_id")), output, failed=block.get("is_error") is True)

    def _interrupted(self) -> None:
        if self._to.draft:
            self._to.draft.interrupted = True

    def _note(self, text: str) -> None:
        if self._to.draft:
            self._to.draft.note(text)
        else:
            self._early.append(text)

    # --- what the agent said and did

    def _assistant(self, record: JsonObject) -> None:
        message, draft = as_object(record.get("message")), self._to.draft
        when = moment(record.get("timestamp"))
        blocks = message.get("content")
        if record.get("isApiErrorMessage") is True:
            self._note(text_of(blocks))
            return
        if draft is None:
            self._before_first_prompt(text_of(blocks))
            return
        self._seen(record, when)
        sidechain = record.get("isSidechain") is True
        if not sidechain:
            _count_usage(draft, message)
        agent = (short(record.get("agentId")) or "sidechain") if sidechain else None
        self._blocks(draft, blocks, agent)

    def _before_first_prompt(self, text: str) -> None:
        """Keep as a note what was said in a transcript that starts in the middle."""
        if text.strip() and len(self._early) < _MAX_TITLES:
            self._early.append(f"Before the first prompt of this file the agent said: {text}")

    def _blocks(self, draft: ExchangeDraft, blocks: Any, agent: str | None) -> None:
        blocks = [blocks] if isinstance(blocks, str) else as_list(blocks)
        for block in blocks:
            fields = {"type": "text", "text": block} if isinstance(block, str) else as_object(block)
            kind = as_text(fields.get("type"))
            if kind == "text":
                text = as_text(fields.get("text")).strip()
                if agent is None and text not in _EMPTY_TEXTS:
                    draft.answer.add_paragraph(text)
            elif kind in {"tool_use", "server_tool_use", "mcp_tool_use"}:
                self._call(draft, fields, agent)
            elif kind.endswith("_tool_result"):
                draft.result(as_text(fields.get("tool_use_id")), text_of(fields.get("content")))

    def _call(self, draft: ExchangeDraft, block: JsonObject, agent: str | None) -> None:
        key, given = as_text(block.get("id")), block.get("input")
        draft.call(short(block.get("name")), given, key=key, agent=agent)
        if kind := short(as_object(given).get("subagent_type")):
            self._agents[key] = kind

    def _progress(self, data: JsonObject, parent: str) -> None:
        """Keep the tool calls of a sub-agent under its name."""
        draft = self._to.draft
        if data.get("type") != "agent_progress" or draft is None:
            return
        outer = as_object(data.get("message"))
        content = as_object(outer.get("message")).get("content")
        agent = self._agents.get(parent) or short(data.get("agentId")) or "sub-agent"
        if outer.get("type") == "assistant":
            self._blocks(draft, content, agent)
        for block in map(as_object, as_list(content)):
            if block.get("type") == "tool_result":
                key, failed = as_text(block.get("tool_use_id")), block.get("is_error") is True
                draft.result(key, text_of(block.get("content")), failed=failed)

    def _attachment(self, attachment: JsonObject) -> None:
        if attachment.get("type") == "queued_command" and (text := text_of(attachment.get("prompt"))):
            self._note(f"Typed while the agent was working: {text}")

    # --- the session

    def _seen(self, record: JsonObject, when: datetime | None) -> None:
        """Note the record's time, and its uuid: a summary names the last record of the session it is the title of."""
        self._to.session.seen_at(when)
        if uuid := short(record.get("uuid")):
            self._uuids.append(uuid)
            if uuid in self._titles:
                self._to.session.title = self._titles[uuid]

    def _title(self, record: JsonObject) -> None:
        title = short(record.get("summary") or record.get("customTitle") or record.get("aiTitle"))
        leaf, own = short(record.get("leafUuid")), short(record.get("sessionId"))
        if not title:
            return
        if leaf in self._uuids or (own and own == self._to.session.id) or (own and not self._to.session.id):
            self._to.session.title = title
        elif leaf and len(self._titles) < _MAX_TITLES:
            self._titles[leaf] = title


def _is_idle(data: bytes, head: bytes) -> bool:
    """Whether a record of a skipped type holds nothing to keep: all but the tool calls of sub-agents."""
    marks = [head.find(mark) for mark in _SKIPPED if mark in head]
    if 0 <= head.find(b'"message":') < min(marks):
        return False
    return b'"agent_progress"' not in data or not (b'"tool_use"' in data or b'"tool_result"' in data)


def _typed(content: Any) -> str:
    """Return the text of a user's message; an image without text as a mark."""
    if isinstance(content, str):
        return content
    blocks = [as_object(block) for block in as_list(content)]
    text = "\n".join(as_text(block.get("text")) for block in blocks if block.get("type") == "text")
    return text or ("[image]" if any(block.get("type") == "image" for block in blocks) else "")


def _count_usage(draft: ExchangeDraft, message: JsonObject) -> None:
    """Note the usage of a message; the last of its lines counts."""
    model = short(message.get("model"))
    if model and not model.startswith("<"):
        draft.model = model
    usage = as_object(message.get("usage"))
    if usage:
        draft.usage[as_text(message.get("id"))] = TokenUsage(
            input=as_count(usage.get("input_tokens")),
            output=as_count(usage.get("output_tokens")),
            cache_read=as_count(usage.get("cache_read_input_tokens")),
            cache_write=as_count(usage.get("cache_creation_input_tokens")),
        )
