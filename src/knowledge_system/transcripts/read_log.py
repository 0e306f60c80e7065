"""What was wrong with a file, told briefly: every reason once, with its first place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from knowledge_system.domain.sessions import ReadWarning
from knowledge_system.transcripts.capping import shortened
from knowledge_system.transcripts.values import Malformed, as_text, decode_all

if TYPE_CHECKING:
    from collections.abc import Iterator

    from knowledge_system.domain.sessions import JsonObject
    from knowledge_system.transcripts.lines import Line

_REASON_LIMIT = 100
_NAME_LIMIT = 40


class ReadLog:
    """The warnings of one file. The same reason is told once, with the first place and how often it was met."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._seen: dict[str, tuple[str, int]] = {}

    def report(self, place: str, reason: str) -> None:
        """Note that something at `place` was skipped or looks wrong."""
        if reason in self._seen:
            first, count = self._seen[reason]
            self._seen[reason] = (first, count + 1)
        elif len(self._seen) < _REASON_LIMIT:
            self._seen[reason] = (place, 1)

    def unknown(self, place: str, kind: Any) -> None:
        """Note a record of a type that the format's module does not know."""
        name = shortened(as_text(kind), _NAME_LIMIT) or "none"
        self.report(place, f'records of unknown type "{name}" were not read')

    def text(self, line: Line) -> str:
        """Return the text of `line`; notes when bytes had to be replaced."""
        try:
            return line.data.decode("utf-8")
        except UnicodeDecodeError:
            if line.ended:
                self.report(line.place, "bytes that are not UTF-8 were replaced")
            return line.text

    def records(self, line: Line) -> Iterator[tuple[JsonObject, Line]]:
        """Yield the JSON objects on `line`, each with the line from its own start on; notes what is no object."""
        text = self.text(line)
        try:
            for start, value in decode_all(text):
                if isinstance(value, dict):
                    yield value, line if not start else line.behind(len(text[:start].encode("utf-8", "replace")))
                else:
                    self.report(line.place, "a line that is no JSON object was skipped")
        except Malformed as error:
            unfinished = "the last line is incomplete and was not read: the session goes on, or the file was cut off"
            self.report(line.place, f"skipped: {error}" if line.ended else unfinished)

    def drain(self) -> tuple[ReadWarning, ...]:
        """Return the warnings so far and forget them."""
        seen, self._seen = self._seen, {}
        return tuple(
            ReadWarning(self._path, place, reason if count == 1 else f"{reason} ({count} times)")
            for reason, (place, count) in seen.items()
        )
