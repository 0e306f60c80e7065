"""Cursor's "Export chat" Markdown: a title, and blocks of `**User**` and `**Cursor**` between rules."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from knowledge_system.transcripts.values import written_moment

if TYPE_CHECKING:
    from knowledge_system.transcripts.assembly import Assembler
    from knowledge_system.transcripts.capping import CappedText
    from knowledge_system.transcripts.lines import Line
    from knowledge_system.transcripts.read_log import ReadLog

NAME = "cursor_export_md"

EXPORTED = re.compile(r"^_Exported on (?P<when>.+?) from Cursor \((?P<version>[^)]*)\)_\s*$")


class CursorParser:
    """A block starts at its bold name when a rule stands before it; answers may hold rules of their own."""

    def __init__(self, assembler: Assembler, log: ReadLog) -> None:
        self._to = assembler
        self._log = log
        self._sink: CappedText | None = None
        self._held: list[str] = []
        assembler.session.agent = "cursor"

    def line(self, line: Line) -> None:
        """Read one line."""
        text = self._log.text(line)
        bare = text.strip()
        if bare in {"", "---"}:
            if bare or self._held[-2:] != ["", ""]:
                self._held.append(bare)
        elif bare == "**User**" and self._after_rule():
            self._held = []
            self._to.markers += 1
            self._sink = self._to.begin(None, at=line).prompt
        elif bare == "**Cursor**" and self._after_rule() and self._to.draft:
            self._held = []
            self._sink = self._to.draft.answer
            self._sink.add("\n\n" if self._sink.size else "")
        elif self._sink is None:
            self._head(text)
        else:
            self._sink.add("\n".join(["", *self._held, text] if self._sink.size else [text]))
            self._held = []

    def end(self) -> None:
        """Nothing is left to do at the end."""

    def _after_rule(self) -> bool:
        rules = [line for line in self._held if line]
        return bool(rules) or self._sink is None

    def _head(self, text: str) -> None:
        """Learn the title, which tells chats apart: the time of export changes with every export."""
        session = self._to.session
        if found := EXPORTED.match(text):
            session.metadata["cursor"] = found["version"]
            if when := written_moment(found["when"]):
                session.metadata["exported_at"] = when.isoformat()
        elif text.startswith("# ") and not session.title:
            session.title = session.seed = text[2:].strip()
        self._held = []
