"""Bounded text: the head and the tail of something long, with a mark between them.

A cut must not leave half a secret that no longer looks like one. So text is cut at a line end where one is near, else
at white space, else the whole run of key-like characters at the cut is dropped; a PEM block or a column of base64 lines
that the cut divides is dropped as well.
"""

from __future__ import annotations

import re

TEXT_LIMIT = 65_536
"""Characters kept of a prompt and of an answer. The longest answer seen in 561 real exchanges has 42,546."""
OUTPUT_LIMIT = 8_192
"""Characters kept of one tool output."""
INPUT_LIMIT = 8_192
"""Characters kept of one tool input."""
NOTE_LIMIT = 8_192
"""Characters kept of one note."""
SHORT_LIMIT = 2_048
"""Characters kept of titles, paths, commands and other one-line values."""

_HEAD_SHARE = 0.75
_RUN = "A-Za-z0-9+/=_.\\-"
_RUN_AT_END = re.compile(f"[{_RUN}]+$")
_RUN_AT_START = re.compile(f"^[{_RUN}]+")
_KEY_LINE = re.compile(rf"^[ \t]*[{_RUN}]{{20,}}[ \t]*$")
_BEGIN, _END = "-----BEGIN ", "-----END "
_NOT_TEXT = re.compile("[\x00\ud800-\udfff]")


def clean(text: str) -> str:
    """Return `text` without NUL and lone surrogates, which no database and no UTF-8 file can hold."""
    if text.isascii() and "\0" not in text:
        return text
    return _NOT_TEXT.sub("\ufffd", text) if _NOT_TEXT.search(text) else text


def shortened(text: str, limit: int = SHORT_LIMIT) -> str:
    """Return `text`, cleaned, with at most about `limit` characters."""
    if len(text) <= limit:
        return clean(text)
    capped = CappedText(limit)
    capped.add(text)
    return capped.value()


class CappedText:
    """Collects text piece by piece and holds about `limit` characters of it: three quarters head, the rest tail."""

    __slots__ = ("_head", "_head_room", "_limit", "_tail", "_tail_size", "size")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._head: list[str] = []
        self._head_room = int(limit * _HEAD_SHARE)
        self._tail: list[str] = []
        self._tail_size = 0
        self.size = 0

    def add(self, text: str) -> None:
        """Append `text`."""
        if not text:
            return
        text = clean(text)
        size, room = len(text), self._head_room
        self.size += size
        if size <= room:
            self._head.append(text)
            self._head_room = room - size
            return
        self._head.append(text[:room])
        self._head_room = 0
        self._add_to_tail(text[room:])

    def add_paragraph(self, text: str) -> None:
        """Append `text` after an empty line."""
        if text:
            self.add("\n\n" + text if self.size else text)

    def value(self) -> str:
        """Return what is kept; equal to everything added when that was not longer than the limit."""
        head, tail = "".join(self._head), "".join(self._tail)
        if self.size <= self._limit:
            return head + tail
        head = _safe_head(head)
        tail = _safe_tail(tail[-self._tail_limit :])
        return f"{head}\n[… {self.size - len(head) - len(tail)} characters left out …]\n{tail}"

    @property
    def _tail_limit(self) -> int:
        return self._limit - int(self._limit * _HEAD_SHARE)

    def _add_to_tail(self, text: str) -> None:
        self._tail.append(text[-2 * self._tail_limit :])
        self._tail_size += len(self._tail[-1])
        if self._tail_size > 4 * self._tail_limit:
            self._tail = ["".join(self._tail)[-2 * self._tail_limit :]]
            self._tail_size = len(self._tail[0])


def _safe_head(head: str) -> str:
    """Return a prefix of `head` that ends before the run the cut went through."""
    size = len(head)
    if (cut := head.rfind("\n", int(size * 0.75))) >= 0 or (cut := _last_space(head, size // 2)) >= 0:
        head = head[:cut]
    else:
        head = _RUN_AT_END.sub("", head)
    if head.rfind(_BEGIN) > head.rfind(_END):
        head = head[: head.rfind(_BEGIN)]
    return _drop_key_lines(head.split("\n"), last=True)


def _safe_tail(tail: str) -> str:
    """Return a suffix of `tail` that starts behind the run the cut went through."""
    size = len(tail)
    if (cut := tail.find("\n", 0, size // 4)) >= 0:
        tail = tail[cut + 1 :]
    elif found := re.search(r"\s", tail[: size // 2]):
        tail = tail[found.end() :]
    else:
        tail = _RUN_AT_START.sub("", tail)
    end = tail.find(_END)
    if end >= 0 and not 0 <= tail.find(_BEGIN) < end:
        tail = tail[end + len(_END) :].partition("\n")[2]
    return _drop_key_lines(tail.split("\n"), last=False)


def _last_space(text: str, start: int) -> int:
    return max(text.rfind(" ", start), text.rfind("\t", start))


def _drop_key_lines(lines: list[str], *, last: bool) -> str:
    at = -1 if last else 0
    while lines and _KEY_LINE.match(lines[at]):
        lines.pop(at)
    return "\n".join(lines)
