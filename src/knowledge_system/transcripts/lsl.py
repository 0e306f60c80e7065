"""Live session logs: one Markdown file an hour, one entry a tool call, the request repeated in each.

Each file is a session of its own: its prompts carry no position in the day's conversation, so that a "continue" of ten
o'clock and one of eleven could not be told apart in a session of a day.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from knowledge_system.domain.sessions import normalised
from knowledge_system.transcripts.capping import INPUT_LIMIT, TEXT_LIMIT, CappedText
from knowledge_system.transcripts.noise import Turn, kind_of
from knowledge_system.transcripts.values import written_moment

if TYPE_CHECKING:
    from datetime import datetime

    from knowledge_system.transcripts.assembly import Assembler
    from knowledge_system.transcripts.lines import Line
    from knowledge_system.transcripts.read_log import ReadLog

NAME = "lsl_md"

TITLE = re.compile(r"^# WORK SESSION \((?P<window>[\d-]+)\)(?: - From (?P<source>.+))?\s*$")
ENTRY = re.compile(r"^### (?P<name>.+?) - (?P<when>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) UTC\b")
_FIELD = re.compile(
    r"^\*\*(?P<name>User Request|User Message|Tool|Input|Result|Output|Type|Assistant Response):\*\*\s?(?P<value>.*)$"
)
_SOURCE = re.compile(r"^\*\*Source Project:\*\*\s*(.+?)\s*$")
_REQUESTS = {"User Request", "User Message"}
_NOBODY = {"", "{}", "(Initiated automatically)", "(No user message)"}
_SILENCE = "(No response)"


class LslParser:
    """Entries with the same request in a row are one exchange."""

    def __init__(self, assembler: Assembler, log: ReadLog) -> None:
        self._to = assembler
        self._log = log
        self._entry: _Entry | None = None
        self._request = ""
        assembler.session.agent = "claude-code"

    def line(self, line: Line) -> None:
        """Read one line."""
        text = self._log.text(line)
        found = ENTRY.match(text) if text.startswith("### ") else None
        if found:
            self._open(found, line)
        elif self._entry:
            self._entry.add(text)
        else:
            self._head(text)

    def end(self) -> None:
        """Take the last entry."""
        self._finish()

    def _head(self, text: str) -> None:
        session = self._to.session
        if title := TITLE.match(text):
            session.seed = f"{title['window']} {title['source'] or ''}"
            session.title = text[2:].strip()
            session.project = (title["source"] or "").strip()
        elif source := _SOURCE.match(text):
            session.cwd = source[1]
            session.project = ""

    def _open(self, found: re.Match[str], line: Line) -> None:
        """Start an entry; one older than the entry it stands in is quoted in that entry's request."""
        when = written_moment(found["when"])
        if self._entry and when and self._entry.when and when < self._entry.when:
            self._entry.quote()
            return
        self._finish()
        self._to.markers += 1
        self._entry = _Entry(found["name"].strip(), when, line)
        if not self._to.count:
            self._to.session.seed += f" {found['when'][:10]}"

    def _finish(self) -> None:
        entry, self._entry = self._entry, None
        if entry is None:
            return
        self._to.session.seen_at(entry.when)
        request = entry.request.value().strip().removesuffix("\n---").strip()
        turn = Turn.NOISE if request in _NOBODY else kind_of(request)
        if turn is Turn.PROMPT:
            self._asked(request, entry)
        else:
            self._to.accounted += 1
        if draft := self._to.draft:
            draft.interrupted = draft.interrupted or turn is Turn.INTERRUPTION
            draft.note(request if turn is Turn.CONTEXT else "")
        self._answer(entry)

    def _asked(self, request: str, entry: _Entry) -> None:
        key = normalised(request)
        draft = self._to.draft
        if draft and key == self._request and not draft.interrupted:
            self._to.accounted += 1
            return
        self._request = key
        self._to.begin(entry.when, request, at=entry.start)

    def _answer(self, entry: _Entry) -> None:
        draft = self._to.draft
        if draft is None:
            return
        said = entry.said.value().strip().removesuffix("\n---").strip()
        draft.answer.add_paragraph("" if said == _SILENCE else said)
        if entry.tool:
            draft.call(entry.tool, entry.given.value().strip()).finish(
                entry.output.value().strip(), failed=entry.failed
            )


class _Entry:
    """One entry while it is read; its first request field opens the request, a later one belongs to the text."""

    def __init__(self, name: str, when: datetime | None, start: Line) -> None:
        self.name, self.when, self.start = name, when, start
        self.request, self.said = CappedText(TEXT_LIMIT), CappedText(TEXT_LIMIT)
        self.given, self.output = CappedText(INPUT_LIMIT), CappedText(INPUT_LIMIT)
        self.tool = ""
        self.failed = False
        self._asked = False
        self._into: CappedText | None = None

    def add(self, text: str) -> None:
        """Add a line."""
        found = _FIELD.match(text) if text.startswith("**") else None
        if found and not (found["name"] in _REQUESTS and self._asked):
            self._field(found["name"], found["value"])
        elif self._into is not None and not (self._into is self.given and text.startswith("```")):
            self._into.add(text + "\n")

    def quote(self) -> None:
        """What follows is quoted: it belongs to nothing, until a field follows."""
        self._into = None

    def _field(self, name: str, value: str) -> None:
        self._into = None
        if name in _REQUESTS:
            self._asked, self._into = True, self.request
        elif name == "Tool":
            self.tool = value.strip()
        elif name == "Input":
            self._into = self.given
            value = value.removeprefix("```json").removeprefix("```")
        elif name == "Assistant Response":
            self._into = self.said
        elif name == "Output":
            self._into = self.output
        elif name == "Result":
            self.failed = "❌" in value
        if self._into is not None:
            self._into.add(value + "\n")
