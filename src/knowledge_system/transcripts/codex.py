"""Codex CLI rollouts: every text twice, as an event and as a response item; copies of older sessions on resume."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from knowledge_system.domain.sessions import JsonObject, TokenUsage
from knowledge_system.transcripts.noise import Turn, kind_of
from knowledge_system.transcripts.tools import text_of
from knowledge_system.transcripts.values import as_count, as_object, as_text, from_json, moment, short, to_json

if TYPE_CHECKING:
    from knowledge_system.transcripts.assembly import Assembler, ExchangeDraft
    from knowledge_system.transcripts.lines import Line
    from knowledge_system.transcripts.read_log import ReadLog

NAME = "codex_rollout_jsonl"

_ITEMS = {
    "message", "reasoning", "function_call", "function_call_output", "custom_tool_call", "custom_tool_call_output",
    "local_shell_call", "local_shell_call_output", "web_search_call", "ghost_snapshot", "compaction",
    "tool_search_call", "tool_search_output", "image_generation_call",
}  # fmt: skip
_SKIPPED = (b'"type":"reasoning"', b'"type":"agent_reasoning"', b'"type":"ghost_snapshot"')
_HEAD = 256
_SPEC_KIT = re.compile(
    r"^\s*## User Input\s*\n+```[a-z]*[ \t]*\n(?P<input>.*?)\n?```[ \t]*\n\s*You \*\*MUST\*\* consider", re.DOTALL
)
_OUTLINE = re.compile(r"^## Outline\s*\n+(?P<first>[^\n]+)", re.MULTILINE)
_OUTLINE_LIMIT = 160
_EDITOR_CONTEXT = "# Context from my IDE setup:"
_REQUEST = re.compile(r"^## My request for Codex:[ \t]*\n", re.MULTILINE)


class CodexParser:
    """Reads `{timestamp, type, payload}` lines, and the bare items of the oldest layout."""

    def __init__(self, assembler: Assembler, log: ReadLog) -> None:
        self._to = assembler
        self._log = log
        state = assembler.parser_state
        self._by_events = state.get("by_events")
        self._model = as_text(state.get("model"))
        self._total = TokenUsage(*(as_count(count) for count in state.get("total") or ()))
        self._waiting: tuple[JsonObject, str, Line] | None = None
        self._early: list[str] = []
        self._subagent = False
        assembler.session.agent = "codex"
        assembler.snapshot = self._snapshot

    def _snapshot(self) -> JsonObject:
        total = self._total
        counts = [total.input, total.output, total.cache_read]
        return {"by_events": self._by_events, "model": self._model, "total": counts}

    def line(self, line: Line) -> None:
        """Read one line."""
        head = line.data[:_HEAD]
        if any(mark in head for mark in _SKIPPED):
            return
        for record, at in self._log.records(line):
            self._record(record, at)

    def end(self) -> None:
        """Take a prompt that nothing followed, in rollouts without user events."""
        self._open_waiting()

    def _record(self, record: JsonObject, line: Line) -> None:
        kind, payload = as_text(record.get("type")), as_object(record.get("payload"))
        if kind == "session_meta" or (not kind and "id" in record and "timestamp" in record):
            self._meta(payload or record)
        elif kind == "event_msg":
            self._event(record, payload, line)
        elif kind == "response_item":
            self._item(record, payload, line)
        elif kind in _ITEMS:
            self._item(record, record, line)
        elif kind == "turn_context":
            self._context(payload)
        elif kind == "compacted":
            self._note(as_text(payload.get("message")))
        elif record.get("record_type") is None:
            self._log.unknown(line.place, kind)

    # --- the session

    def _meta(self, meta: JsonObject) -> None:
        """Learn the session. A resumed rollout names two: its own and the older one it continues, which is kept."""
        session, own = self._to.session, short(meta.get("id"))
        self._subagent = self._subagent or "subagent" in as_object(meta.get("source"))
        session.parent = session.parent or short(meta.get("forked_from_id"))
        when = moment(meta.get("timestamp"))
        newer = session.started is not None and when is not None and when >= session.started
        if session.id and (newer or own == session.id):
            if own != session.id:
                session.metadata["rollouts"] = [*session.metadata.get("rollouts", []), own][-8:]
            return
        if session.id:
            session.metadata["rollouts"] = [*session.metadata.get("rollouts", []), session.id][-8:]
        session.id = own or session.id
        session.cwd = as_text(meta.get("cwd")) or session.cwd
        git = as_object(meta.get("git"))
        session.branch = as_text(git.get("branch"))
        session.repository = as_text(git.get("repository_url"))
        if version := short(meta.get("cli_version")):
            session.metadata["version"] = version
        session.seen_at(when)

    def _context(self, context: JsonObject) -> None:
        self._model = short(context.get("model")) or self._model
        self._to.session.cwd = self._to.session.cwd or as_text(context.get("cwd"))
        if self._to.draft:
            self._to.draft.model = self._model

    # --- events

    def _event(self, record: JsonObject, payload: JsonObject, line: Line) -> None:
        kind, draft = as_text(payload.get("type")), self._to.draft
        if kind == "user_message":
            self._to.markers += 1
            self._by_events, self._waiting = True, None
            self._prompt(record, as_text(payload.get("message")), line)
        elif kind == "turn_aborted" and draft:
            draft.interrupted = True
        elif kind == "token_count" and draft:
            self._tokens(draft, as_object(payload.get("info")))
        elif kind == "error":
            self._note(as_text(payload.get("message")))

    def _prompt(self, record: JsonObject, text: str, line: Line) -> None:
        if self._subagent:
            self._to.accounted += 1
            self._log.report(
                line.place, "only a sub-agent's conversation: its result is in the session that started it"
            )
            return
        draft = self._to.begin(moment(record.get("timestamp")), typed(text), at=line)
        draft.model = self._model
        for note in self._early:
            draft.note(note)
        self._early = []

    def _tokens(self, draft: ExchangeDraft, info: JsonObject) -> None:
        """Count usage by the session's totals, since an event may be repeated without a new model call."""
        total = _usage(as_object(info.get("total_token_usage")))
        if total == self._total:
            return
        grown = TokenUsage(
            total.input - self._total.input,
            total.output - self._total.output,
            total.cache_read - self._total.cache_read,
        )
        if min(grown.input, grown.output, grown.cache_read) < 0:
            grown = _usage(as_object(info.get("last_token_usage")))
        draft.usage[str(len(draft.usage))] = grown
        self._total = total

    # --- response items

    def _item(self, record: JsonObject, item: JsonObject, line: Line) -> None:
        kind = as_text(item.get("type"))
        if kind == "message":
            self._message(record, item, line)
            return
        self._open_waiting()
        draft = self._to.draft
        if draft is None:
            return
        self._to.session.seen_at(moment(record.get("timestamp")))
        key = as_text(item.get("call_id")) or as_text(item.get("id"))
        if kind.endswith("_output"):
            output, failed = _output(item.get("output"))
            draft.result(key, output, failed=failed)
        elif kind.endswith("_call"):
            given = next((item[name] for name in ("arguments", "input", "action") if name in item), None)
            draft.call(short(item.get("name")) or kind.removesuffix("_call"), given, key=key)
        elif kind not in _ITEMS:
            self._log.unknown(line.place, kind)

    def _message(self, record: JsonObject, item: JsonObject, line: Line) -> None:
        text, role = text_of(item.get("content")), as_text(item.get("role"))
        if role == "user":
            self._maybe_prompt(record, text, line)
        elif role == "assistant":
            self._open_waiting()
            if self._to.draft:
                self._to.draft.answer.add_paragraph(text.strip())
                self._to.session.seen_at(moment(record.get("timestamp")))
            elif text.strip():
                self._note(f"Before the first prompt of this file the agent said: {text}")

    def _maybe_prompt(self, record: JsonObject, text: str, line: Line) -> None:
        """Hold a user item: it is a prompt only in rollouts that write no user events."""
        self._open_waiting()
        if not self._by_events and text.strip() and kind_of(text) is Turn.PROMPT and not text.lstrip().startswith("<"):
            self._waiting = (record, text, line)

    def _open_waiting(self) -> None:
        if self._waiting:
            (record, text, line), self._waiting = self._waiting, None
            self._by_events = False
            self._prompt(record, text, line)

    def _note(self, text: str) -> None:
        if self._to.draft:
            self._to.draft.note(text)
        elif text.strip():
            self._early = [*self._early, text][-4:]


def typed(text: str) -> str:
    """Return what was typed of a prompt that the editor or a spec-kit command expanded; other prompts unchanged.

    A command without input is named by the first step of its outline, since nothing was typed.
    """
    if text.lstrip().startswith(_EDITOR_CONTEXT) and (request := _REQUEST.search(text)):
        text = text[request.end() :]
    found = _SPEC_KIT.match(text)
    if not found:
        return text
    if found["input"].strip():
        return found["input"].strip()
    outline = _OUTLINE.search(text)
    first = outline["first"] if outline else "no outline"
    return f"(spec-kit command without input: {first[:_OUTLINE_LIMIT].rsplit(' ', 1)[0]})"


def _usage(usage: JsonObject) -> TokenUsage:
    cached = as_count(usage.get("cached_input_tokens"))
    fresh = max(0, as_count(usage.get("input_tokens")) - cached)
    return TokenUsage(input=fresh, output=as_count(usage.get("output_tokens")), cache_read=cached)


def _output(given: Any) -> tuple[str, bool]:
    """Return the text of a call's output and whether the call failed."""
    value = from_json(given) if isinstance(given, str) and given[:1] == "{" else given
    fields = as_object(value)
    if "output" in fields or "content" in fields:
        code = as_object(fields.get("metadata")).get("exit_code")
        text = text_of(fields.get("output")) or text_of(fields.get("content"))
        return text, (isinstance(code, int) and code != 0) or fields.get("success") is False
    return (given if isinstance(given, str) else text_of(given) or (to_json(given) if given else "")), False
