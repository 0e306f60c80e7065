"""Transcripts rendered to Markdown by a hook: a table about the session, then `## User (04:06 UTC)` turns."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from knowledge_system.transcripts.capping import TEXT_LIMIT, CappedText
from knowledge_system.transcripts.noise import Turn, as_typed, kind_of
from knowledge_system.transcripts.values import moment

if TYPE_CHECKING:
    from knowledge_system.transcripts.assembly import Assembler
    from knowledge_system.transcripts.lines import Line
    from knowledge_system.transcripts.read_log import ReadLog

NAME = "rendered_md"

TITLE = re.compile(r"^# Conversation\b:?\s*(?P<date>.*)$")
MARKER = re.compile(r"^## (?P<who>User|Human|Assistant)(?: \((?P<time>\d\d:\d\d(?::\d\d)?)(?: UTC)?\))?\s*$")
_ROW = re.compile(r"^\|\s*(?P<key>[^|]+?)\s*\|\s*`?(?P<value>[^|`]*?)`?\s*\|\s*$")
_USED = re.compile(
    r"^- \*\*Used (?P<tool>[^*]+)\*\*(?: on `(?P<path>[^`]+)`)?(?: \([^)]*\))?"
    r"(?:: (?:`(?P<code>.*)`|(?P<about>.*?)))?\s*$"
)
_CHANGING = {"Edit", "Write", "MultiEdit", "NotebookEdit"}


class RenderedParser:
    """Turns follow each other without rules; messages of other agents come as user turns and are none."""

    def __init__(self, assembler: Assembler, log: ReadLog) -> None:
        self._to = assembler
        self._log = log
        self._asked: tuple[datetime | None, Line, CappedText] | None = None
        self._answering = False
        self._timed: bool | None = None
        self._last: datetime | None = None
        assembler.session.agent = "unknown"

    def line(self, line: Line) -> None:
        """Read one line."""
        text = self._log.text(line)
        found = MARKER.match(text) if text.startswith("## ") else None
        if found and self._timed in {None, found["time"] is not None}:
            self._timed = found["time"] is not None
            self._turn(found, line)
        elif self._asked:
            self._asked[2].add(text + "\n")
        elif not self._answering:
            self._head(text)
        elif self._to.draft:
            self._answer(text)

    def end(self) -> None:
        """Take the last prompt, when no answer followed."""
        self._resolve()

    def _turn(self, found: re.Match[str], line: Line) -> None:
        self._resolve()
        when = self._when(found["time"])
        if found["who"] == "Assistant":
            self._answering = True
            self._to.session.seen_at(when)
            if self._to.draft:
                self._to.draft.answer.add("\n\n" if self._to.draft.answer.size else "")
        else:
            self._to.markers += 1
            self._answering = False
            self._asked = (when, line, CappedText(TEXT_LIMIT))

    def _resolve(self) -> None:
        """Decide what the user turn that ended was."""
        if self._asked is None:
            return
        (when, line, capped), self._asked = self._asked, None
        text = capped.value().strip()
        turn = kind_of(text)
        if turn is Turn.PROMPT:
            self._to.begin(when, as_typed(text), at=line)
            return
        self._to.accounted += 1
        if draft := self._to.draft:
            draft.interrupted = draft.interrupted or turn is Turn.INTERRUPTION
            draft.note(text if turn is Turn.CONTEXT else "")
        elif turn is Turn.CONTEXT:
            self._log.report(line.place, "a message of another agent without a human prompt before it was skipped")

    def _answer(self, text: str) -> None:
        draft = self._to.draft
        used = _USED.match(text) if text.startswith("- **Used ") else None
        if draft is None:
            return
        if used is None:
            draft.answer.add(text + "\n")
            return
        draft.call(used["tool"], used["code"] or used["path"] or {"description": used["about"] or ""})
        if used["path"] and used["tool"] in _CHANGING:
            draft.touched([used["path"]])

    def _head(self, text: str) -> None:
        session = self._to.session
        if title := TITLE.match(text):
            session.seed = title["date"]
        elif row := _ROW.match(text):
            key, value = row["key"].lower(), row["value"].strip()
            if key == "session id":
                session.id = value
            elif key == "date":
                self._last = moment(value)
            elif key in {"project", "directory", "cwd"}:
                session.cwd = value
            elif key == "model":
                session.metadata["model"] = value
                session.agent = "claude-code" if value.startswith("claude") else session.agent

    def _when(self, time: str | None) -> datetime | None:
        """Return the turn's time: the table's date, a day later whenever the clock goes back."""
        if time is None or self._last is None:
            return None
        hour, minute = int(time[:2]) % 24, int(time[3:5]) % 60
        when = self._last.replace(hour=hour, minute=minute)
        self._last = when + timedelta(days=1) if when < self._last else when
        return self._last
