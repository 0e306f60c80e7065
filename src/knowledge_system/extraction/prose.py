"""The prose of an answer: its sentences with their places, without code, edits, logs and tool echoes.

Everything here is linear in the text and capped: of a long text the beginning and the end are read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

HEAD_CHARACTERS = 4_000
TAIL_CHARACTERS = 8_000
"""Of a longer text the middle is not read: the cause stands at the beginning or with the summary at the end."""
LONGEST_LINE = 1_500
"""A longer line is data, not prose."""
SHORTEST_SENTENCE = 3

_FENCE = re.compile(r"[ \t]*(?:```+|~~~+)[ \t]*([\w+#.:/-]*)")
_HEADING = re.compile(
    r"[ \t]*(?:#{1,6}[ \t]+\S|\*\*[^*\n]{2,80}\*\*:?[ \t]*$|(?!Let|Now|I\b|Done|Yes|No\b)[A-Z]\w+(?: "
    r"[\w/&'-]+){0,3}:?[ \t]*$)"
)
_BULLET = re.compile(r"[ \t]*(?:[-*•‣◦✓✔✅❌+]|\d{1,2}[.)]|[a-z][.)])[ \t]+(?:\[[ xX]\][ \t]+)?")
_SKIPPED = re.compile(
    r"[ \t]*(?:\||>|<{2,}|>{4,}|={3,}|-{3,}|\+{3}|@@|\$ |\u276f|%|</?[a-z][\w-]*[ >]|</?(?:details|summary|think)\b"
    r"|at \S+ \(|File \"|Traceback|Read file:|Searched |Listed |Grep |Tool use:|Thought |Edit(?:ed)? file:|import "
    r"|from \S+ import"
    r"|\d+[:|] |\[\d|\{|\}|//|/\*|\*/)"
)
_ENDING = re.compile(r"[.!?。\uff01\uff1f…]+[\"')\]*_`]*(?:\s+|$)|[。\uff01\uff1f]")
_ABBREVIATION = re.compile(r"(?:\b(?:e\.g|i\.e|etc|vs|cf|approx|incl|no|fig|mr|dr)|(?:^|\s)\w)\.$", re.IGNORECASE)
_WORD = re.compile(r"[^\W\d_]{2,}")
_LINK = re.compile(r"!?\[([^\]\n]{1,200})\]\([^)\n]{0,400}\)")
_EMPHASIS = re.compile(r"\*\*\*|\*\*|(?<!\w)__(?=\w)|(?<=\w)__(?!\w)|(?<![\w*`/.])\*(?=\w)|(?<=\w)\*(?![\w*`/.])")
_PICTOGRAPH = re.compile(r"[\U0001F300-\U0001FAFF\u2600-\u27BF\uFE0F\u200d]+")


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence: its cleaned text, half-open span in the source, kind (`prose`, `bullet`, `heading`) and heading."""

    text: str
    start: int
    end: int
    kind: str
    section: str = ""


@dataclass(frozen=True, slots=True)
class CodeBlock:
    """A fenced block: its language word (may be empty) and the half-open span of its inside."""

    language: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Prose:
    """What was read of a text."""

    sentences: tuple[Sentence, ...] = ()
    code: tuple[CodeBlock, ...] = ()

    @property
    def body(self) -> tuple[Sentence, ...]:
        """Return the sentences without the headings."""
        return tuple(sentence for sentence in self.sentences if sentence.kind != "heading")


def cleaned(text: str) -> str:
    """Return `text` on one line, without Markdown emphasis, links and pictographs; code marks stay."""
    if "](" in text:
        text = _LINK.sub(r"\1", text)
    if "*" in text or "__" in text:
        text = _EMPHASIS.sub("", text)
    if not text.isascii():
        text = _PICTOGRAPH.sub("", text)
    return " ".join(text.split())


def read_prose(text: str) -> Prose:
    """Return the sentences and code blocks of `text`; spans count in it.

    An unclosed fence does not hide the rest.
    """
    sentences: list[Sentence] = []
    code: list[CodeBlock] = []
    for start, end in _windows(len(text)):
        lines = list(_lines(text, start, end))
        _read_lines(text, lines, sentences, code)
    return Prose(tuple(sentences), tuple(code))


def _windows(length: int) -> list[tuple[int, int]]:
    if length <= HEAD_CHARACTERS + TAIL_CHARACTERS:
        return [(0, length)]
    return [(0, HEAD_CHARACTERS), (length - TAIL_CHARACTERS, length)]


def _lines(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    while start < end:
        stop = text.find("\n", start, end)
        stop = end if stop < 0 else stop
        yield start, stop
        start = stop + 1


def _read_lines(text: str, lines: list[tuple[int, int]], sentences: list[Sentence], code: list[CodeBlock]) -> None:
    position, section = 0, ""
    while position < len(lines):
        start, end = lines[position]
        after = _block_end(text, lines, position, code)
        if after > position:
            position = after
            continue
        line = text[start:end]
        if not line.strip() or len(line) > LONGEST_LINE or _SKIPPED.match(line):
            position += 1
        elif _HEADING.match(line) and not line.rstrip().endswith("."):
            section = cleaned(line.lstrip("# \t")).rstrip(":")
            sentences.append(Sentence(section, start, end, "heading", section))
            position += 1
        else:
            position, end = _paragraph(text, lines, position)
            kind, offset = ("bullet", match.end()) if (match := _BULLET.match(line)) else ("prose", 0)
            sentences.extend(_sentences(text, start + offset, end, (kind, section)))


def _block_end(text: str, lines: list[tuple[int, int]], position: int, code: list[CodeBlock]) -> int:
    """Return the line after the fenced or edited block that begins at `position`, or `position` when none does."""
    start, end = lines[position]
    if text.startswith("<<<<<<<", start):
        return _line_after(text, lines, position, ">>>>>>>")
    if text.startswith(("<details", "<tool-use", "<think"), start):
        closing = "</" + text[start + 1 : start + 6]
        return _line_after(text, lines, position, closing)
    fence = _FENCE.match(text, start, end)
    if fence is None:
        return position
    for later in range(position + 1, len(lines)):
        closing_fence = _FENCE.match(text, *lines[later])
        if closing_fence and not closing_fence.group(1):
            code.append(CodeBlock(fence.group(1), end + 1, lines[later][0]))
            return later + 1
        if closing_fence:
            return later
    return position + 1


def _line_after(text: str, lines: list[tuple[int, int]], position: int, marker: str) -> int:
    for later in range(position, len(lines)):
        if marker in text[lines[later][0] : min(lines[later][1], lines[later][0] + LONGEST_LINE)]:
            return later + 1
    return position + 1


def _paragraph(text: str, lines: list[tuple[int, int]], position: int) -> tuple[int, int]:
    """Return the line after and the end of the wrapped line that begins at `position`."""
    end = lines[position][1]
    for later in range(position + 1, min(position + 6, len(lines))):
        following = text[lines[later][0] : lines[later][1]].strip()
        last = text[max(0, end - 1) : end]
        if not following or last in ".:!?" or not (following[0].islower() or last == ","):
            return later, end
        end = lines[later][1]
    return min(position + 6, len(lines)), end


def _sentences(text: str, start: int, end: int, place: tuple[str, str]) -> Iterator[Sentence]:
    kind, section = place
    begin = start
    for match in _ENDING.finditer(text, start, end):
        if match.end() < end and (_ABBREVIATION.search(text[max(begin, match.start() - 8) : match.start() + 1])):
            continue
        yield from _sentence(text, begin, match.end(), (kind, section))
        begin = match.end()
    yield from _sentence(text, begin, end, (kind, section))


def _sentence(text: str, start: int, end: int, place: tuple[str, str]) -> Iterator[Sentence]:
    raw = text[start:end]
    start += len(raw) - len(raw.lstrip())
    end -= len(raw) - len(raw.rstrip())
    shown = cleaned(raw)
    if start < end and len(_WORD.findall(shown)) >= SHORTEST_SENTENCE:
        yield Sentence(shown, start, end, *place)
