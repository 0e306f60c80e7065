"""From what a format module finds to exchanges: one open exchange at a time, numbered, counted, bounded, resumable."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from knowledge_system.domain.clock import from_stored, to_stored
from knowledge_system.domain.sessions import (
    ExchangeFacts,
    JsonObject,
    RawExchange,
    Session,
    TokenUsage,
    ToolCall,
    normalised,
)
from knowledge_system.transcripts.capping import (
    INPUT_LIMIT,
    NOTE_LIMIT,
    OUTPUT_LIMIT,
    SHORT_LIMIT,
    TEXT_LIMIT,
    CappedText,
    shortened,
)
from knowledge_system.transcripts.tools import facts_of, looks_failed
from knowledge_system.transcripts.values import as_count, as_object

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime
    from pathlib import Path

    from knowledge_system.transcripts.lines import Line
    from knowledge_system.transcripts.projects import Projects

TOOL_LIMIT = 200
"""Tool calls kept of one exchange; the rest is counted in a note. 0.4 % of 561 real exchanges have more."""
FILE_LIMIT = 200
COMMAND_LIMIT = 200
NOTE_COUNT = 8
_GAP = re.compile(r"\n(?:[ \t]*\n){2,}")


@dataclass(slots=True)
class SessionNotes:
    """What is known of the session so far; becomes a `Session` with every exchange.

    `seed` is what tells sessions without an id apart: the time they started, or their title.
    """

    id: str = ""
    agent: str = ""
    seed: str = ""
    title: str = ""
    cwd: str = ""
    branch: str = ""
    repository: str = ""
    project: str = ""
    parent: str = ""
    started: datetime | None = None
    ended: datetime | None = None
    metadata: JsonObject = field(default_factory=dict)

    def seen_at(self, when: datetime | None) -> None:
        """Widen the session's span of time."""
        if when is not None:
            self.started = when if self.started is None else min(self.started, when)
            self.ended = when if self.ended is None else max(self.ended, when)

    def to_json(self) -> JsonObject:
        """Return the notes as JSON, for the reader's state."""
        values = {name: getattr(self, name) for name in self.__slots__}
        for name in ("started", "ended"):
            values[name] = None if values[name] is None else to_stored(values[name])
        return values | {"metadata": dict(self.metadata)}

    @classmethod
    def from_json(cls, stored: JsonObject) -> SessionNotes:
        """Invert `to_json`."""
        values = {name: stored[name] for name in cls.__slots__ if stored.get(name) is not None}
        for name in ("started", "ended"):
            if name in values:
                values[name] = from_stored(values[name])
        return cls(**values)


@dataclass(slots=True)
class CallDraft:
    """A tool call whose result may still come."""

    name: str
    input: str
    agent: str | None = None
    failed: bool = False
    output: CappedText = field(default_factory=lambda: CappedText(OUTPUT_LIMIT))

    def finish(self, output: str, *, failed: bool = False) -> None:
        """Add the result, or a piece of it."""
        self.output.add_paragraph(output)
        self.failed = self.failed or failed or looks_failed(output)

    def done(self) -> ToolCall:
        """Return the call as the domain has it."""
        return ToolCall(self.name, self.input, self.output.value().strip("\n"), self.failed, self.agent)


class ExchangeDraft:
    """The open exchange."""

    __slots__ = (
        "_commands", "_files", "_notes", "_uncounted", "answer", "calls", "interrupted", "model", "pending", "prompt",
        "usage", "when",
    )  # fmt: skip

    def __init__(self, when: datetime | None) -> None:
        self.when = when
        self.prompt = CappedText(TEXT_LIMIT)
        self.answer = CappedText(TEXT_LIMIT)
        self.calls: list[CallDraft] = []
        self.pending: dict[str, CallDraft] = {}
        self.usage: dict[str, TokenUsage] = {}
        self.model = ""
        self.interrupted = False
        self._uncounted = 0
        self._notes: list[str] = []
        self._files: dict[str, None] = {}
        self._commands: list[str] = []

    def call(self, name: str, given: Any, *, key: str = "", agent: str | None = None) -> CallDraft:
        """Add a tool call; `key` is the id its result will name. Calls beyond the limit are only counted."""
        facts = facts_of(name, given)
        call = CallDraft(shortened(name) or "tool", shortened(facts.shown, INPUT_LIMIT), agent)
        if len(self.calls) < TOOL_LIMIT:
            self.calls.append(call)
            if key:
                self.pending[key] = call
        else:
            self._uncounted += 1
        self.touched(facts.files)
        self.ran(facts.commands)
        return call

    def result(self, key: str, output: str, *, failed: bool = False) -> None:
        """Add the result of the call with id `key`; results of unknown calls are dropped."""
        if call := self.pending.get(key):
            call.finish(output, failed=failed)

    def touched(self, files: Iterable[str]) -> None:
        """Note edited files."""
        for path in files:
            if len(self._files) < FILE_LIMIT and path.strip():
                self._files[shortened(path.strip())] = None

    def ran(self, commands: Iterable[str]) -> None:
        """Note shell commands."""
        room = max(0, COMMAND_LIMIT - len(self._commands))
        self._commands.extend([shortened(command) for command in commands][:room])

    def note(self, text: str) -> None:
        """Keep context that nobody typed and the agent did not answer."""
        if text.strip() and len(self._notes) < NOTE_COUNT:
            self._notes.append(shortened(text.strip(), NOTE_LIMIT))

    def facts(self, cwd: str, branch: str) -> ExchangeFacts:
        """Return the facts; files below `cwd` relative to it."""
        notes = tuple(self._notes)
        if self._uncounted:
            notes += (f"{self._uncounted} more tool calls were made and are not kept.",)
        return ExchangeFacts(
            files=tuple(dict.fromkeys(_relative(path, cwd) for path in self._files)),
            commands=tuple(self._commands),
            model=self.model,
            usage=_total(self.usage.values()),
            interrupted=self.interrupted,
            git_branch=branch,
            notes=notes,
        )


def _relative(path: str, cwd: str) -> str:
    root = cwd.rstrip("/\\")
    return path[len(root) + 1 :] if root and path[: len(root) + 1] in {root + "/", root + "\\"} else path


def _total(usages: Iterable[TokenUsage]) -> TokenUsage:
    rows = [(usage.input, usage.output, usage.cache_read, usage.cache_write) for usage in usages]
    return TokenUsage(*(sum(column) for column in zip(*rows, strict=True))) if rows else TokenUsage()


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Where the open exchange starts, and what must be known to read it again."""

    offset: int = 0
    line: int = 1
    session: JsonObject = field(default_factory=dict)
    parser: JsonObject = field(default_factory=dict)


class Assembler:
    """Holds one open exchange of one file; gives out the finished ones.

    A format module calls `begin` at each prompt and adds to `draft`. `snapshot` gives the module's own state; it is
    taken when an exchange begins.
    """

    def __init__(self, path: Path, format_name: str, projects: Projects, resume: JsonObject) -> None:
        self._path = path
        self._format = format_name
        self._projects = projects
        self.session = SessionNotes.from_json(as_object(resume.get("session")))
        self.parser_state = as_object(resume.get("parser"))
        self.draft: ExchangeDraft | None = None
        self._ready: list[RawExchange] = []
        self.ready_size = 0
        self.index = as_count(resume.get("index"))
        self._seen: dict[str, int] = dict(as_object(resume.get("seen")))
        self._last = ""
        self.checkpoint = Checkpoint(
            as_count(resume.get("offset")), as_count(resume.get("line")) or 1, self.session.to_json(), self.parser_state
        )
        self.snapshot: Callable[[], JsonObject] = dict
        self.markers = 0
        self.accounted = 0

    @property
    def count(self) -> int:
        """Exchanges of the file so far, the open one included."""
        return self.index + (self.draft is not None)

    def begin(self, when: datetime | None, prompt: str = "", *, at: Line | None = None) -> ExchangeDraft:
        """Close the open exchange and open one whose prompt stands at line `at`."""
        self.close()
        if self.index and at is not None:
            self.checkpoint = Checkpoint(at.offset, at.number, self.session.to_json(), self.snapshot())
        self.draft = ExchangeDraft(when)
        self.draft.prompt.add(prompt)
        self.accounted += 1
        self.session.seen_at(when)
        return self.draft

    def close(self) -> None:
        """Finish the open exchange."""
        draft, self.draft = self.draft, None
        if draft is None:
            return
        prompt = draft.prompt.value().strip()
        if not self.session.id:
            self.session.id = digest_id(self._format, self.session.seed, prompt)
        self._last = _digest(self.session.id, normalised(prompt))[:16]
        occurrence = self._seen.get(self._last, 0)
        self._seen[self._last] = occurrence + 1
        exchange = self._exchange(draft, prompt, occurrence)
        self._ready.append(exchange)
        self.ready_size += _size(exchange)
        self.index += 1

    def new_session(self, session: SessionNotes) -> None:
        """Close the open exchange; what follows belongs to `session`."""
        self.close()
        self.session = session

    @property
    def ready_count(self) -> int:
        """Finished exchanges that were not taken yet."""
        return len(self._ready)

    def take(self, count: int) -> tuple[RawExchange, ...]:
        """Give out the first `count` finished exchanges."""
        taken, self._ready = self._ready[:count], self._ready[count:]
        self.ready_size = sum(map(_size, self._ready))
        return tuple(taken)

    def state(self) -> JsonObject:
        """Return the reader's state: where the open, or the file's last, exchange starts."""
        at, seen = self.checkpoint, dict(self._seen)
        if not at.offset:
            return {}
        begun = self.draft is not None or bool(self._last)
        if self.draft is None and self._last:  # the file's last exchange is read again, so it is not yet counted
            seen[self._last] -= 1
        where = {"offset": at.offset, "line": at.line, "index": self.count - begun, "seen": seen}
        return where | {"session": at.session, "parser": at.parser}

    def _exchange(self, draft: ExchangeDraft, prompt: str, occurrence: int) -> RawExchange:
        notes = self.session
        return RawExchange(
            session=self._session(),
            index=self.index,
            user=prompt,
            assistant=_GAP.sub("\n\n", draft.answer.value()).strip(),
            occurrence=occurrence,
            timestamp=draft.when,
            tools=tuple(call.done() for call in draft.calls),
            facts=draft.facts(notes.cwd, notes.branch),
        )

    def _session(self) -> Session:
        notes = self.session
        project = notes.project or self._projects.of(notes.cwd, self._path, notes.repository)
        return Session(
            id=shortened(notes.id, SHORT_LIMIT // 8),
            project=project,
            agent=notes.agent,
            format=self._format,
            path=str(self._path),
            title=shortened(notes.title),
            cwd=shortened(notes.cwd),
            git_branch=shortened(notes.branch),
            parent_id=notes.parent or None,
            started_at=notes.started,
            ended_at=notes.ended,
            metadata=dict(notes.metadata),
        )


def _size(exchange: RawExchange) -> int:
    """Return about how many characters an exchange's texts have; never 0."""
    tools = sum(len(tool.input) + len(tool.output) for tool in exchange.tools)
    return 1 + len(exchange.user) + len(exchange.assistant) + tools


def digest_id(format_name: str, seed: str, prompt: str) -> str:
    """Return an id for a session of a format that has none: the format's name and 24 digits of SHA-256.

    It depends on when the session started (or its title) and the first line of its first prompt, not on the path.
    """
    first = next((line for line in prompt.splitlines() if line.strip()), "")
    family = format_name.partition("_")[0].partition("/")[0]
    return f"{family}-{_digest(format_name, normalised(seed), normalised(first))[:24]}"


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()
