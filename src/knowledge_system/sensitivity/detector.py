"""The pattern layer: text in, findings out. Pure, linear in the length of the text, no state."""

from __future__ import annotations

import re
from bisect import bisect_left, insort
from typing import TYPE_CHECKING

from knowledge_system.domain.sensitivity import Finding
from knowledge_system.sensitivity.assignments import assignment_findings
from knowledge_system.sensitivity.identity import identity_findings
from knowledge_system.sensitivity.keyblocks import encoded_findings, key_block_findings
from knowledge_system.sensitivity.network import network_findings
from knowledge_system.sensitivity.personal import address_findings, email_findings, phone_findings
from knowledge_system.sensitivity.reading import Reading, read
from knowledge_system.sensitivity.shapes import is_example, looks_random
from knowledge_system.sensitivity.urls import command_findings, header_findings, url_findings
from knowledge_system.sensitivity.vendors import vendor_findings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_SHORTEST = 6
_DIGIT = re.compile(r"[0-9]")
_SETTING = re.compile(
    r"^[ \t]*(?:\d+[\t\u2192 ]+)?(?:export[ ]+)?[A-Za-z_][A-Za-z0-9_]{1,80}[ \t]?=[ \t]?[\"']?([^\s\"'#]{8,512})",
    re.MULTILINE,
)
PLACEHOLDER = re.compile(r"\[(?:secret|personal):[a-z0-9-]{1,40}#\d{1,9}\]")


def find(text: str) -> list[Finding]:
    """Return the secrets and personal data in `text`: sorted, not overlapping, never touching a placeholder."""
    if len(text) < _SHORTEST:
        return []
    reading = read(text)
    findings = [*_secrets(reading), *encoded_findings(reading, _plain), *_personal(reading)]
    return resolve(findings, [match.span() for match in PLACEHOLDER.finditer(text)]) if findings else []


def find_in_settings(text: str) -> list[Finding]:
    """As `find`, for the text of a credentials file: every random-looking value of a setting is a secret."""
    extra = [
        Finding(*match.span(1), "secret", "setting")
        for match in _SETTING.finditer(text)
        if looks_random(match.group(1), 8) and not is_example(match.group(1))
    ]
    found = find(text)
    return resolve([*found, *extra], [match.span() for match in PLACEHOLDER.finditer(text)]) if extra else found


def _plain(text: str) -> list[Finding]:
    """Find secrets without looking into base64 again: one level is enough, and bounds the work."""
    return list(_secrets(read(text)))


def _secrets(reading: Reading) -> Iterator[Finding]:
    yield from key_block_findings(reading.text)
    yield from vendor_findings(reading)
    yield from url_findings(reading.text)
    yield from header_findings(reading)
    yield from command_findings(reading)
    yield from assignment_findings(reading)


def _personal(reading: Reading) -> Iterator[Finding]:
    yield from email_findings(reading.text)
    yield from network_findings(reading.text)
    if _DIGIT.search(reading.text):
        yield from address_findings(reading)
        yield from identity_findings(reading)
        yield from phone_findings(reading)


def resolve(findings: Iterable[Finding], taken: list[tuple[int, int]]) -> list[Finding]:
    """Return findings without overlaps, none in `taken`: secrets before personal data, longer before shorter."""
    ranked = sorted(findings, key=lambda f: (f.category != "secret", f.start - f.end, f.start))
    kept: list[Finding] = []
    spans = sorted(taken)
    for finding in ranked:
        if _is_free(finding, spans):
            kept.append(finding)
            _insert(spans, (finding.start, finding.end))
    return sorted(kept, key=lambda f: f.start)


def _is_free(finding: Finding, spans: list[tuple[int, int]]) -> bool:
    index = bisect_left(spans, (finding.start, finding.end))
    after = spans[index] if index < len(spans) else None
    before = spans[index - 1] if index else None
    return (after is None or after[0] >= finding.end) and (before is None or before[1] <= finding.start)


def _insert(spans: list[tuple[int, int]], span: tuple[int, int]) -> None:
    insort(spans, span)
