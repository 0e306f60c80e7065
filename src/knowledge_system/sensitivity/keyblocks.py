r"""Private keys as blocks of text: PEM, OpenPGP, PuTTY, JSON web keys, and texts that hide them in base64.

A block is found whole, whether its lines end in line breaks, in the two characters ``\n`` (JSON, source code), or are
quoted and concatenated; whether it ends properly, is cut off by a size limit, or has lost its beginning.
Public keys and certificates are no secrets.
"""

from __future__ import annotations

import base64
import binascii
import re
from bisect import bisect_left
from typing import TYPE_CHECKING

from knowledge_system.domain.sensitivity import Finding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from knowledge_system.sensitivity.reading import Reading

LONGEST_BLOCK = 32_768
"""Characters from BEGIN to END that still count as one block (an RSA key of 16384 bits has 12.7 kB)."""

_BEGIN = re.compile(
    r"-----BEGIN (?:[A-Z0-9]{1,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----"
    r"|-----BEGIN%20(?:[A-Z0-9]{1,12}%20){0,3}PRIVATE%20KEY-----"
)
_END = re.compile(r"-----END(?: |%20)(?:[A-Z0-9]{1,12}(?: |%20)){0,3}PRIVATE(?: |%20)KEY(?:(?: |%20)BLOCK)?-----")
_BODY = re.compile(
    r"(?:(?:Proc-Type|DEK-Info|Comment|Version|Charset|Hash):[^\n\\]{0,80}|[A-Za-z0-9+/=]{24,}+"
    r"|[A-Za-z0-9+/]{1,76}={0,2}(?=\s|\\|\"|'|`|%|\Z|-)"
    r"|\\[nrt\\\"]|%0[AaDd]|[\s\"'`+,;.\\|>#*]){1,2000}+"
)
_TAIL_BODY = re.compile(r"(?:[A-Za-z0-9+/=]{16,}+|[nr]\\|[\s\"'+,\\])*+")
_PUTTY = re.compile(r"Private-Lines:\s{0,4}[0-9]{1,4}\s{1,4}((?:[A-Za-z0-9+/=]{1,64}\s{0,4}){1,100}+)")
_WEB_KEY_TYPE = re.compile(r"\\?\"kty\\?\"\s{0,4}:\s{0,4}\\?\"")
_WEB_KEY_PART = re.compile(r"\\?\"(?:d|k|p|q|dp|dq|qi)\\?\"\s{0,4}:\s{0,4}\\?\"([A-Za-z0-9_=-]{16,1400})")
_BASE64_RUN = re.compile(r"[A-Za-z0-9+/_-]{64,}={0,2}")
_WEB_KEY_REACH = 2000
_LONGEST_TAIL = 16_384
_SHORTEST_TAIL = 32
_SHORTEST_KEY = 16
_SHORTEST_TEXT = 24
_SAMPLE = 512
_TEXT_SHARE = 0.97
_PRINTABLE = frozenset(range(32, 127)) | frozenset(b"\t\n\r")
_LONGEST_DECODED = 65_536


def key_block_findings(text: str) -> Iterator[Finding]:
    """Yield the private key blocks in `text`, each as one finding from header to footer."""
    if "PRIVATE" in text:
        yield from _armoured(text)
    if "PuTTY-User-Key" in text:
        yield from (Finding(*m.span(1), "secret", "private-key") for m in _PUTTY.finditer(text))
    if "kty" in text:
        yield from _web_keys(text)


def _armoured(text: str) -> Iterator[Finding]:
    ends = [match.span() for match in _END.finditer(text)]
    starts = [start for start, _ in ends]
    used: set[int] = set()
    covered = 0
    for begin in _BEGIN.finditer(text):
        if begin.start() < covered:
            continue
        index = bisect_left(starts, begin.end())
        if (
            index < len(ends)
            and starts[index] - begin.end() <= LONGEST_BLOCK
            and "-----BEGIN" not in text[begin.end() : starts[index]]
        ):
            covered = ends[index][1]
            used.add(index)
        else:
            body = _BODY.match(text, begin.end())
            covered = len(text[: body.end()].rstrip(" \t\r\n\"'`+,;.\\|>#*")) if body else begin.end()
        if covered - begin.end() >= _SHORTEST_KEY:  # a header alone (a pattern in source code) is no key
            yield Finding(begin.start(), covered, "secret", "private-key")
    for index, (start, end) in enumerate(ends):
        if index not in used and start >= covered:
            yield from _lost_beginning(text, start, end)


def _lost_beginning(text: str, start: int, end: int) -> Iterator[Finding]:
    backwards = text[max(0, start - _LONGEST_TAIL) : start][::-1]
    body = _TAIL_BODY.match(backwards)
    lines = body.group().rstrip(" \t\r\n\"'+,\\") if body else ""
    if len(lines.strip()) >= _SHORTEST_TAIL:
        yield Finding(start - len(lines), end, "secret", "private-key")


def _web_keys(text: str) -> Iterator[Finding]:
    done = 0
    for key in _WEB_KEY_TYPE.finditer(text):
        low, high = max(done, key.start() - _WEB_KEY_REACH), key.end() + _WEB_KEY_REACH
        for part in _WEB_KEY_PART.finditer(text, low, high):
            yield Finding(*part.span(1), "secret", "private-key")
        done = max(done, high)


def encoded_findings(reading: Reading, find: Callable[[str], list[Finding]]) -> Iterator[Finding]:
    """Yield base64 runs whose decoded text holds a secret by the judgement of `find`; images decode to no text."""
    at = 0
    for stretch in reading.long_runs:
        start = reading.text.index(stretch, at)
        at = start + len(stretch)
        for run in _BASE64_RUN.finditer(reading.text, start, at):
            decoded = _decoded_text(run.group())
            secret = next((f for f in find(decoded) if f.category == "secret"), None) if decoded else None
            if secret:
                yield Finding(run.start(), run.end(), "secret", secret.kind)


def _decoded_text(run: str) -> str:
    """Return the text that a base64 run encodes, or an empty string when it encodes no text."""
    if not _is_text(_decode(run[:64])):
        return ""
    decoded = _decode(run[:_LONGEST_DECODED])
    return decoded.decode("utf-8", "replace") if _is_text(decoded) else ""


def _decode(run: str) -> bytes:
    body = run.rstrip("=").translate({45: 43, 95: 47})
    body = body[: len(body) - (len(body) % 4 == 1)]
    try:
        return base64.b64decode(body + "=" * (-len(body) % 4))
    except binascii.Error:
        return b""


def _is_text(data: bytes) -> bool:
    if len(data) < _SHORTEST_TEXT:
        return False
    printable = sum(byte in _PRINTABLE for byte in data[:_SAMPLE])
    return printable >= _TEXT_SHARE * min(len(data), _SAMPLE)
