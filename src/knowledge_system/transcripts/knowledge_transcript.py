"""Our own documented minimum, `knowledge-transcript/1`: one JSON document, or JSON lines that can grow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, BinaryIO

from knowledge_system.transcripts.documents import BrokenDocument, ElementTooLarge, elements, header
from knowledge_system.transcripts.values import as_list, as_object, as_text, moment, short, to_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from knowledge_system.domain.sessions import JsonObject
    from knowledge_system.transcripts.assembly import Assembler, SessionNotes
    from knowledge_system.transcripts.lines import Line
    from knowledge_system.transcripts.read_log import ReadLog

NAME = "knowledge-transcript/1"
PREFIX = "knowledge-transcript/"


class NotReadable(ValueError):
    """The file breaks the contract in a way that leaves nothing to read."""


class _Exchanges:
    """Checks and takes exchanges; every complaint names the place."""

    def __init__(self, assembler: Assembler, log: ReadLog) -> None:
        self._to = assembler
        self._log = log

    def take(self, exchange: Any, place: str, line: Line | None = None) -> None:
        """Add one exchange."""
        self._to.markers += 1
        self._to.accounted += 1
        if not isinstance(exchange, dict):
            self._log.report(place, "an exchange must be a JSON object: skipped")
            return
        user, assistant = self._text(exchange, "user", place), self._text(exchange, "assistant", place)
        if not user.strip() and not assistant.strip():
            self._log.report(place, 'an exchange needs a text "user" or "assistant": skipped')
            return
        self._to.accounted -= 1
        draft = self._to.begin(self._time(exchange, place), user, at=line)
        draft.answer.add(assistant)
        draft.touched(path for path in as_list(exchange.get("files")) if isinstance(path, str))
        for number, tool in enumerate(self._list(exchange, "tools", place)):
            self._tool(tool, f"{place}.tools[{number}]")

    def _tool(self, tool: Any, place: str) -> None:
        draft = self._to.draft
        if not isinstance(tool, dict) or not short(tool.get("name")):
            self._log.report(place, 'a tool call must be an object with a "name": skipped')
        elif draft:
            output = tool.get("output")
            text = output if isinstance(output, str) else to_json(output) if output is not None else ""
            draft.call(short(tool["name"]), tool.get("input")).finish(text, failed=tool.get("is_error") is True)

    def _text(self, exchange: JsonObject, key: str, place: str) -> str:
        value = exchange.get(key)
        if value is not None and not isinstance(value, str):
            self._log.report(f"{place}.{key}", f'"{key}" must be a text: ignored')
        return as_text(value)

    def _list(self, exchange: JsonObject, key: str, place: str) -> list[Any]:
        value = exchange.get(key)
        if value is not None and not isinstance(value, list):
            self._log.report(f"{place}.{key}", f'"{key}" must be a list: ignored')
        return as_list(value)

    def _time(self, exchange: JsonObject, place: str) -> Any:
        value = exchange.get("timestamp")
        when = moment(value)
        if value is not None and when is None:
            self._log.report(f"{place}.timestamp", '"timestamp" must be a time as 2026-01-01T00:00:00Z: ignored')
        return when


def learn_session(notes: SessionNotes, top: JsonObject, log: ReadLog, place: str) -> None:
    """Take over `format` and `session`. Raises NotReadable for a version that is not known here."""
    if top.get("format") != NAME:
        raise NotReadable(f'has format "{short(top.get("format"))}": this version reads {NAME}, convert it or update')
    given = top.get("session")
    if given is not None and not isinstance(given, dict):
        log.report(f"{place}session", '"session" must be a JSON object: ignored')
    session = as_object(given)
    for key in ("id", "project", "agent", "started_at"):
        if session.get(key) is not None and not isinstance(session[key], str):
            log.report(f"{place}session.{key}", f'"{key}" must be a text: ignored')
    notes.id, notes.project = short(session.get("id")), short(session.get("project"))
    notes.agent = short(session.get("agent")) or "unknown"
    notes.cwd, notes.branch = as_text(session.get("cwd")), as_text(session.get("git_branch"))
    notes.title, notes.seed = short(session.get("title")), as_text(session.get("started_at"))
    notes.seen_at(moment(session.get("started_at")))


class KnowledgeTranscriptDocument:
    """The form with everything in one JSON object."""

    def __init__(self, assembler: Assembler, log: ReadLog) -> None:
        self._to = assembler
        self._log = log

    def document(self, stream: BinaryIO, end: int) -> Iterator[None]:
        """Read the exchanges; hands over after each. Raises NotReadable when there are none by contract."""
        top = header(stream, end, skip="exchanges")
        learn_session(self._to.session, top, self._log, "")
        if not isinstance(top.get("exchanges"), list):
            reason = "is not a list" if "exchanges" in top else "is missing"
            raise NotReadable(f'{NAME}: "exchanges" {reason}; see the format in the documentation')
        exchanges, number = _Exchanges(self._to, self._log), -1
        try:
            for number, exchange in enumerate(elements(stream, end, "exchanges")):
                exchanges.take(exchange, f"exchanges[{number}]")
                yield
        except BrokenDocument as broken:
            place = f"exchanges[{number + 1}]"
            self._log.report(place, f"the JSON breaks off here ({broken}); what was read before it is kept")
            if isinstance(broken.partial, dict) and broken.partial:
                exchanges.take(broken.partial, place)
        except ElementTooLarge:
            self._log.report(
                f"exchanges[{number + 1}]", "an exchange of more than 24 MB: it and the rest were not read"
            )
        self._to.close()
        yield


class KnowledgeTranscriptLines:
    """The form with `format` and `session` on the first line and an exchange on each further one."""

    def __init__(self, assembler: Assembler, log: ReadLog) -> None:
        self._to = assembler
        self._log = log
        self._exchanges = _Exchanges(assembler, log)
        self._headed = bool(assembler.session.agent)

    def line(self, line: Line) -> None:
        """Read one line."""
        for record, at in self._log.records(line):
            if "format" in record and "user" not in record and "assistant" not in record:
                if not self._headed:
                    learn_session(self._to.session, record, self._log, f"{line.place}: ")
                    self._headed = True
            else:
                self._exchanges.take(record, line.place, at)

    def end(self) -> None:
        """Say so when only the first line is there."""
        if not self._to.count:
            self._log.report("line 1", 'no exchange follows the line with "format" and "session"')
