"""Lines of a file of any size: with their place, and never more than a bounded piece of one in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_LINE = 16 * 1024 * 1024
"""Bytes of the longest line that is read. Decoding and parsing it costs up to five times as much memory."""

BOM = b"\xef\xbb\xbf"
_PIECE = 1024 * 1024
_LINE_FEED = ord("\n")


class Line(NamedTuple):
    """One line without its end. `number` counts from 1, `offset` is the byte it starts at.

    `ended` is False for a last line without a line end. `lost` is the size in bytes of a line longer than `MAX_LINE`,
    whose `data` is only its beginning.
    """

    data: bytes
    number: int
    offset: int
    ended: bool = True
    lost: int = 0

    def behind(self, size: int) -> Line:
        """Return the same line from `size` bytes on."""
        return self._replace(data=self.data[size:], offset=self.offset + size)

    @property
    def place(self) -> str:
        """The place as warnings give it."""
        return f"line {self.number}"

    @property
    def text(self) -> str:
        """The line as text; bytes that are no UTF-8 become replacement characters."""
        return self.data.decode("utf-8", "replace")


def read_lines(stream: BinaryIO, end: int, *, offset: int = 0, number: int = 1) -> Iterator[Line]:
    """Yield the lines of `stream` from byte `offset` (the start of line `number`) up to byte `end`, without the BOM."""
    stream.seek(offset)
    while offset < end:
        most = min(end - offset, _PIECE)
        data = stream.readline(most)
        if not data:
            return
        size, lost, ended = len(data), 0, data[-1] == _LINE_FEED
        if size == most and not ended:
            data, size, lost = _rest(stream, data, end - offset)
            ended = lost > 0 or data.endswith(b"\n")
        line = Line(data.rstrip(b"\r\n"), number, offset, ended, lost)
        yield line if offset or not data.startswith(BOM) else line.behind(len(BOM))
        offset += size
        number += 1


def _rest(stream: BinaryIO, data: bytes, room: int) -> tuple[bytes, int, int]:
    """Read on to the end of a long line: what is kept of it, its size, and its size again when it was too long."""
    pieces, size, kept = [data], len(data), len(data)
    while size < room and not pieces[-1].endswith(b"\n"):
        piece = stream.readline(min(_PIECE, room - size))
        if not piece:
            break
        size += len(piece)
        if size <= MAX_LINE:
            pieces.append(piece)
            kept = size
        else:
            pieces = [pieces[0], piece]
    if kept == size:
        return b"".join(pieces), size, 0
    return pieces[0], size, size
