"""VS Code Copilot chat exports: one JSON document, read request by request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, BinaryIO

from knowledge_system.transcripts.documents import BrokenDocument, ElementTooLarge, elements
from knowledge_system.transcripts.tools import text_of
from knowledge_system.transcripts.values import as_list, as_object, as_text, moment, short

if TYPE_CHECKING:
    from collections.abc import Iterator

    from knowledge_system.domain.sessions import JsonObject
    from knowledge_system.transcripts.assembly import Assembler, CallDraft, ExchangeDraft
    from knowledge_system.transcripts.read_log import ReadLog

NAME = "copilot_chat_json"

_SILENT = {
    "thinking", "prepareToolInvocation", "progressTaskSerialized", "progressTask", "mcpServersStarting", "undoStop",
    "confirmation", "progressMessage", "warning", "command", "elicitation", "elicitationSerialized", "extensions",
    "pullRequest", "agent", "usedContext", "references", "contentReference", "codeCitation", "markdownVuln", "todoList",
    "multiDiffData", "questionCarousel", "hook", "disabledClaudeHooks",
}  # fmt: skip
_EDITS = {"textEditGroup", "codeblockUri", "notebookEditGroup", "workspaceEdit"}


class CopilotParser:
    """Every request of the export is an exchange."""

    def __init__(self, assembler: Assembler, log: ReadLog) -> None:
        self._to = assembler
        self._log = log
        assembler.session.agent = "copilot"

    def document(self, stream: BinaryIO, end: int) -> Iterator[None]:
        """Read the requests; hands over after each."""
        number = 0
        try:
            for number, request in enumerate(elements(stream, end, "requests"), start=1):
                self._request(request, f"requests[{number - 1}]")
                yield
        except BrokenDocument as broken:
            place = f"requests[{number}]"
            self._log.report(place, f"the JSON breaks off here ({broken}); what was read before it is kept")
            if broken.partial is not None:
                self._request(broken.partial, place)
        except ElementTooLarge:
            self._log.report(
                f"requests[{number}]", "a request of more than 24 MB: it and the rest of the file were not read"
            )
        self._to.close()
        yield

    def _request(self, request: Any, place: str) -> None:
        self._to.markers += 1
        if not isinstance(request, dict):
            self._log.report(place, "a request that is no JSON object was skipped")
            return
        message = request.get("message")
        prompt = as_text(request.get("prompt")) or as_text(message) or as_text(as_object(message).get("text"))
        session = self._to.session
        session.id = session.id or short(request.get("requestId"))
        draft = self._to.begin(moment(request.get("timestamp")), prompt or text_of(as_object(message).get("parts")))
        draft.model = short(request.get("modelId"))
        _Answer(draft, request).read(self._log, place)
        self._outcome(draft, request)

    def _outcome(self, draft: ExchangeDraft, request: JsonObject) -> None:
        error = as_object(as_object(request.get("result")).get("errorDetails"))
        draft.interrupted = request.get("isCanceled") is True or error.get("code") == "canceled"
        draft.note("" if draft.interrupted else as_text(error.get("message")))
        draft.answer.add_paragraph(as_text(request.get("completion")))


class _Answer:
    """Puts a response's parts in order: sentences in pieces, file links, tool calls with the results kept elsewhere."""

    def __init__(self, draft: ExchangeDraft, request: JsonObject) -> None:
        metadata = as_object(as_object(request.get("result")).get("metadata"))
        rounds = [as_object(one) for one in as_list(metadata.get("toolCallRounds"))]
        calls = [as_object(call) for one in rounds for call in as_list(one.get("toolCalls"))]
        self._draft = draft
        self._parts = as_list(request.get("response"))
        self._calls = {as_text(call.get("id")): call for call in calls}
        self._results = as_object(metadata.get("toolCallResults"))
        self._fresh = False

    def read(self, log: ReadLog, place: str) -> None:
        """Add all parts to the exchange."""
        for part in self._parts:
            fields = {"value": part} if isinstance(part, str) else as_object(part)
            kind = as_text(fields.get("kind"))
            if kind in {"", "markdownContent"}:
                self._say(_value(fields.get("content")) or _value(fields))
            elif kind == "inlineReference":
                self._say(f"`{_reference(fields)}`")
            elif kind.startswith("toolInvocation"):
                self._tool(fields)
            elif kind in _EDITS:
                self._draft.touched([_path(fields.get("uri"))])
            elif kind not in _SILENT:
                log.unknown(place, kind)

    def _say(self, text: str) -> None:
        if self._fresh:
            self._draft.answer.add_paragraph(text.lstrip("\n"))
            self._fresh = not text.strip()
        else:
            self._draft.answer.add(text)

    def _tool(self, part: JsonObject) -> None:
        self._fresh = True
        key = as_text(part.get("toolCallId"))
        asked = self._calls.get(key, {})
        name = short(part.get("toolId")) or short(asked.get("name"))
        details, special = as_object(part.get("resultDetails")), as_object(part.get("toolSpecificData"))
        given = asked.get("arguments") or details.get("input") or _typed_in(special) or _message(part)
        call = self._draft.call(name, given)
        self._result(call, key, details)
        if (command := _typed_in(special)) and command != call.input:
            self._draft.ran([command])

    def _result(self, call: CallDraft, key: str, details: JsonObject) -> None:
        kept = as_object(self._results.get(key)).get("content") or details.get("output")
        output = "\n".join(filter(None, map(_value, as_list(kept))))
        call.finish(output, failed=details.get("isError") is True)


def _value(part: Any) -> str:
    """Return the text of a markdown part, a message or a result piece."""
    if isinstance(part, str):
        return part
    value = as_object(part).get("value")
    return value if isinstance(value, str) else as_text(as_object(value).get("value"))


def _message(part: JsonObject) -> str:
    return _value(part.get("pastTenseMessage")) or _value(part.get("invocationMessage"))


def _typed_in(special: JsonObject) -> str:
    """Return the command line of a terminal call."""
    line = special.get("commandLine")
    own = as_object(line).get("original") if isinstance(line, dict) else line
    return as_text(own) or as_text(special.get("command"))


def _path(uri: Any) -> str:
    return as_text(as_object(uri).get("fsPath")) or as_text(as_object(uri).get("path"))


def _reference(fields: JsonObject) -> str:
    target = as_object(fields.get("inlineReference"))
    uri = as_object(target.get("location")).get("uri") or target.get("uri") or target
    name = as_text(fields.get("name")) or as_text(target.get("name"))
    return name or _path(uri).rpartition("/")[2] or "file"
