"""Network addresses. They tell who and where: public ones are personal data, private ones show a network's inside.

An address of the machine itself (loopback, unspecified) stays where it is an endpoint in code or configuration
(`http://127.0.0.1:8080`, `--host 0.0.0.0`, `"127.0.0.1"`): it names nobody, and knowledge about servers needs it.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING

from knowledge_system.domain.sensitivity import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

_V4_MIDDLE = re.compile(r"\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}")
_V4_FIRST = re.compile(r"[0-9]{1,3}\Z")
_V4_LEFT = re.compile(r"[\w.]\Z|\d-\Z")
_V4_RIGHT = re.compile(r"\.?\d*[A-Za-z]|\d|-\d|\.\d{2,}")
_V6 = re.compile(r"[0-9A-Fa-f:]*+(?:\.\d{1,3}){0,3}")
_V6_FULL = re.compile(r":(?:[0-9A-Fa-f]{1,4}:){4,6}(?:\d{1,3}(?:\.\d{1,3}){3}|[0-9A-Fa-f]{1,4})")
_HEX_OR_COLON = frozenset("0123456789abcdefABCDEF:")
_LONGEST_LITERAL = 48
_FEWEST_COLONS = 6
_VERSION = re.compile(
    r"(?:\bv(?:ersion|er)?\.?|\brelease|\bbuild|[A-Za-z]/|==?|>=|<=|~=|\^|\bsection|\bchapter|\S@)[ :]{0,2}\Z",
    re.IGNORECASE,
)
_ENDPOINT = re.compile(
    r"(?:://|\[|host\W{0,4}|bind\w{0,3}\W{0,3}|listen\w{0,3}(?:\son)?\W{0,3}|server\w{0,3}(?:\son"
    r"|\sat)?\W{0,3}|[\"'`=]|-H\s|addr\w{0,4}\W{0,3}|port\W{0,3}|on\s|to\s|at\s)\Z",
    re.IGNORECASE,
)
_WORD = re.compile(r"\b(?:ip(?:v6|v4)?|unspecified|src|dst|addr\w*|subnet|route|gateway)\b\W{0,3}\Z", re.IGNORECASE)


def network_findings(text: str) -> Iterator[Finding]:
    """Yield IP addresses as `ip-address` when they are public and as `local-address` when they are not."""
    if text.count(".") >= 3:  # noqa: PLR2004 -- four numbers
        for match in _V4_MIDDLE.finditer(text):
            first = _V4_FIRST.search(text, max(0, match.start() - 3), match.start())
            if first and not (
                _V4_LEFT.search(text, max(0, first.start() - 2), first.start()) or _V4_RIGHT.match(text, match.end())
            ):
                yield from _judge(text, first.start(), match.end(), _parsed(text[first.start() : match.end()]))
    at = text.find("::")
    while at != -1:
        start, end = _literal(text, at)
        yield from _judge_v6(text, start, end)
        at = text.find("::", max(end, at + 2))
    if text.count(":") >= _FEWEST_COLONS:
        for match in _V6_FULL.finditer(text):
            yield from _judge_v6(text, _literal(text, match.start())[0], match.end())


def _literal(text: str, at: int) -> tuple[int, int]:
    """Return the run of hexadecimal digits and colons around `at`, with a dotted quad at its end."""
    start = at
    while start > max(0, at - _LONGEST_LITERAL) and text[start - 1] in _HEX_OR_COLON:
        start -= 1
    match = _V6.match(text, at, at + _LONGEST_LITERAL)
    return start, match.end() if match else at + 2


def _judge_v6(text: str, start: int, end: int) -> Iterator[Finding]:
    around = text[max(0, start - 1) : start] + text[end : end + 1]
    if not any(c.isalnum() or c == "_" for c in around) and _is_plausible(text, start, text[start:end]):
        yield from _judge(text, start, end, _parsed(text[start:end]))


def _parsed(literal: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(literal)
    except ValueError:
        return None


def _is_plausible(text: str, start: int, literal: str) -> bool:
    """Whether a run of colons is meant as an address: `a::b` and `std::` are names, `12:30:45` is a time."""
    if literal == "::":
        return _WORD.search(text[max(0, start - 24) : start]) is not None
    return any(c.isdigit() for c in literal) and ("::" in literal or literal.count(":") >= _FEWEST_COLONS)


def _judge(
    text: str, start: int, end: int, address: ipaddress.IPv4Address | ipaddress.IPv6Address | None
) -> Iterator[Finding]:
    if address is None:
        return
    before = text[max(0, start - 24) : start]
    if address.version == 4 and not before.endswith("://") and _VERSION.search(before):  # noqa: PLR2004 -- IP version
        return
    if (address.is_loopback or address.is_unspecified) and (_ENDPOINT.search(before) or text[end : end + 1] == ":"):
        return
    if address.version == 4 and address.is_global and max(address.packed) < 10 and not _WORD.search(before):  # noqa: PLR2004 -- 1.2.3.4, 8.8.8.8: versions, resolvers
        return
    yield Finding(start, end, "personal", "ip-address" if address.is_global else "local-address")
