"""aider's chat history: one append-only Markdown file per repository, many sessions."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

from knowledge_system.transcripts.assembly import SessionNotes
from knowledge_system.transcripts.capping import TEXT_LIMIT, CappedText
from knowledge_system.transcripts.values import moment

if TYPE_CHECKING:
    from datetime import datetime

    from knowledge_system.domain.sessions import JsonObject
    from knowledge_system.transcripts.assembly import Assembler, CallDraft, ExchangeDraft
    from knowledge_system.transcripts.lines import Line
    from knowledge_system.transcripts.read_log import ReadLog

NAME = "aider_md"

STARTED = re.compile(r"^# aider chat started at (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)")
_MODEL = re.compile(r"^(?:Main model|Model|Architect model): (\S+)")
_FOLDER = re.compile(r"^(?:Cur|Git) working dir: (.+)$")
_APPLIED = re.compile(r"^Applied edit to (.+)$")
_RUNNING = re.compile(r"^Running (.+)$")
_ANSWERED = re.compile(r"^Tokens: .+ sent, .+ received")
_STATUS = (
    "Tokens: ", "Cost: ", "Added ", "Copied code context", "Add file to the chat?", "Run shell command",
    "Add command output", "Create new file?", "Edit the files?", "Allow edits", "You can use /undo", "Use /help",
    "Repo-map", "Commit ", "Initial repo scan", "Processing your request", "Has it been deleted", "Cost estimates", "https://aider.chat",
    "Note: in-chat filenames", "Warning: it's best to only add", "^C", "Committing ", "Diff since",
)  # fmt: skip
_TROUBLE = re.compile(
    r"litellm\.|Traceback|\b\w*(?:Error|Exception)\b|\b(?:error|failed)\b|did not conform|^Invalid command|^# \d+ SEAR"
)
_ANSWER_TO_DIALOG = re.compile(r"\[(?:Yes|No)\]: \w*$|^Add .+ of command output")
_PREFIX = "####"
_UNFINISHED = "the last prompt is not complete yet and was not read"


class AiderParser:
    """Prompt lines start with `#### `, console lines with `> `, everything else is the answer.

    A prompt that repeats the answer before it is architect mode handing its plan to the editor model: no new exchange.
    """

    def __init__(self, assembler: Assembler, log: ReadLog) -> None:
        self._to = assembler
        self._log = log
        self._when: datetime | None = moment(assembler.parser_state.get("when"))
        self._model = str(assembler.parser_state.get("model") or "")
        self._padded = assembler.parser_state.get("padded") is True
        self._asked: _Prompt | None = None
        self._before = ""
        self._blank = True
        self._console: CallDraft | None = None
        self._spoken = _Words()
        self._unanswered = False
        assembler.session.agent = "aider"
        assembler.snapshot = self._snapshot

    def _snapshot(self) -> JsonObject:
        when = self._when.isoformat() if self._when else None
        return {"when": when, "model": self._model, "padded": self._padded}

    def line(self, line: Line) -> None:
        """Read one line."""
        text = self._log.text(line)
        if text.startswith(_PREFIX) and not line.ended and (self._blank or self._asked):
            self._log.report(line.place, _UNFINISHED)
            self._asked = None
            return
        if text.startswith(_PREFIX) and self._is_prompt(text):
            self._asked = self._asked or _Prompt(line)
            self._asked.add(text.removeprefix(_PREFIX).removeprefix(" ").rstrip())
            return
        if self._asked:
            self._prompt()
            self._console = None
        if text.startswith("# aider chat started at ") and (found := STARTED.match(text)):
            self._session(found[1])
        elif text.startswith("> ") or text == ">":
            self._padded = self._padded or text.endswith("  ")
            self._said_by_console(text[2:].rstrip())
        else:
            self._console = None
            self._answer(text)
        if text.strip():
            self._before = text[0]
        self._blank = not text.strip()

    def end(self) -> None:
        """Take the last prompt, when no answer followed."""
        self._prompt()

    def _is_prompt(self, text: str) -> bool:
        """Tell a prompt from a heading in an answer: aider ends prompt lines with two spaces, after an empty line."""
        if len(text) > len(_PREFIX) and text[len(_PREFIX)] != " ":
            return False
        if self._asked:
            return True
        if self._padded:
            return self._blank and text.endswith("  ")
        return self._blank and (text.endswith("  ") or self._before in {"", ">", "#"})

    def _session(self, started: str) -> None:
        self._when = moment(started)
        self._model = ""
        self._before = "#"
        self._to.new_session(SessionNotes(agent="aider", seed=started, started=self._when, ended=self._when))

    def _prompt(self) -> None:
        asked, self._asked = self._asked, None
        if asked is None:
            return
        handed_over = self._to.draft is not None and asked.words.same_as(self._spoken)
        self._spoken = _Words()
        self._to.markers += 1
        if handed_over:
            self._to.accounted += 1
            return
        self._console = None
        self._unanswered = True
        draft = self._to.begin(self._when, asked.text.value(), at=asked.start)
        draft.model = self._model

    def _answer(self, text: str) -> None:
        if self._to.draft is None:
            return
        self._to.draft.answer.add(text + "\n")
        self._spoken.add(text)
        self._unanswered = self._unanswered or bool(text.strip())

    def _said_by_console(self, text: str) -> None:
        draft = self._to.draft
        if found := _MODEL.match(text):
            self._model = found[1]
        elif found := _FOLDER.match(text):
            self._to.session.cwd = self._to.session.cwd or found[1]
        if draft is None:
            return
        if "KeyboardInterrupt" in text:
            draft.interrupted = draft.interrupted or self._unanswered
        elif _ANSWERED.match(text):
            self._unanswered = False  # the report of its cost ends an answer: leaving after it interrupts nothing
        if found := _APPLIED.match(text):
            draft.call("edit", found[1]).finish(text)
            draft.touched([found[1]])
        elif found := _RUNNING.match(text):
            self._console = draft.call("shell", found[1])
        elif text and not text.startswith(_STATUS) and not _ANSWER_TO_DIALOG.search(text):
            self._output(draft, text)

    def _output(self, draft: ExchangeDraft, text: str) -> None:
        """Keep the output of a command, and aider's own messages from the first that tells of trouble."""
        trouble = bool(_TROUBLE.search(text))
        if self._console is None and trouble:
            self._console = draft.call("aider", "")
        if self._console is not None:
            self._console.output.add(text + "\n")
            self._console.failed = self._console.failed or trouble


class _Words:
    """A running digest of words, so that two texts of any size compare whatever their white space."""

    def __init__(self) -> None:
        self.count = 0
        self._digest = hashlib.sha256()

    def add(self, text: str) -> None:
        words = text.split()
        self.count += len(words)
        for word in words:
            self._digest.update(word.encode("utf-8", "surrogatepass") + b" ")

    def same_as(self, other: _Words) -> bool:
        return bool(self.count) and self.count == other.count and self._digest.digest() == other._digest.digest()


class _Prompt:
    """The lines of a prompt so far."""

    def __init__(self, start: Line) -> None:
        self.start = start
        self.text = CappedText(TEXT_LIMIT)
        self.words = _Words()

    def add(self, text: str) -> None:
        self.text.add("\n" + text if self.text.size else text)
        self.words.add(text)
