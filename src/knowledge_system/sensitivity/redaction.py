"""Findings become placeholders; JSON stays JSON; what was found once is not left standing elsewhere in the exchange."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from knowledge_system.sensitivity.assignments import value_kind
from knowledge_system.sensitivity.detector import find, find_in_settings
from knowledge_system.sensitivity.shapes import is_own_placeholder

if TYPE_CHECKING:
    from collections.abc import Callable

    from knowledge_system.domain.sensitivity import Finding, PlaceholderMemory

_MOST_ROUNDS = 6
_SHORTEST_SPREAD = 8
_LARGE_NUMBER = 10**11


@dataclass(slots=True)
class Tally:
    """What was found in the texts of one exchange: placements, distinct values by category, and the values themselves.

    `values` maps secrets to their placeholders, `clean` holds texts in which nothing was found: agents repeat commands,
    paths and names many times. Both live only as long as the exchange is being redacted.
    """

    placements: int = 0
    secrets: set[str] = field(default_factory=set)
    personal: set[str] = field(default_factory=set)
    values: dict[str, str] = field(default_factory=dict)
    clean: set[str] = field(default_factory=set)


def redact(text: str, memory: PlaceholderMemory) -> tuple[str, int]:
    """Return `text` with placeholders for what `find` finds, and the number of placements. Idempotent."""
    tally = Tally()
    return redact_text(text, memory, tally), tally.placements


def redact_text(text: str, memory: PlaceholderMemory, tally: Tally, *, settings: bool = False) -> str:
    """Return `text` redacted, noting in `tally`; `settings`: the text is from a file of credentials.

    Repeated until nothing is found: a placeholder may uncover what an overlapping finding hid before.
    """
    detect = find_in_settings if settings else find
    for _ in range(_MOST_ROUNDS):
        findings = detect(text) if settings or text not in tally.clean else ()
        if not findings:
            tally.clean.add(text)
            break
        text = _replaced(text, findings, memory, tally)
    return text


def _replaced(text: str, findings: list[Finding], memory: PlaceholderMemory, tally: Tally) -> str:
    pieces: list[str] = []
    done = 0
    for finding in findings:
        pieces += [
            text[done : finding.start],
            _placeholder(finding.category, finding.kind, text[finding.start : finding.end], memory, tally),
        ]
        done = finding.end
    return "".join((*pieces, text[done:]))


def _placeholder(category: str, kind: str, value: str, memory: PlaceholderMemory, tally: Tally) -> str:
    placeholder = f"[{category}:{kind}#{memory.number(kind, value)}]"
    tally.placements += 1
    (tally.secrets if category == "secret" else tally.personal).add(placeholder)
    if category == "secret" and len(value) >= _SHORTEST_SPREAD and not value.isalpha():
        tally.values[value] = placeholder
    return placeholder


def redact_structured(text: str, memory: PlaceholderMemory, tally: Tally) -> str:
    """Return `text` redacted; JSON objects and arrays are redacted inside their strings and stay valid JSON."""
    if text[:1] not in "{[" or not text:
        return redact_text(text, memory, tally)
    try:
        document = json.loads(text)
        clean = _walk(document, "", memory, tally)
    except (ValueError, RecursionError):
        return redact_text(text, memory, tally)
    if clean != document:
        text = json.dumps(clean, ensure_ascii=False, indent=2 if "\n" in text else None)
    trial = Tally(clean=tally.clean)
    closer = redact_text(text, memory, trial)
    if trial.placements and _is_json(closer):
        tally.placements += trial.placements
        tally.secrets |= trial.secrets
        tally.personal |= trial.personal
        tally.values |= trial.values
        return closer
    return text


def redact_tree(value: Any, memory: PlaceholderMemory, tally: Tally) -> Any:
    """Return a JSON-like value with every string in it redacted."""
    return _walk(value, "", memory, tally)


def _walk(value: Any, name: str, memory: PlaceholderMemory, tally: Tally) -> Any:
    if isinstance(value, str):
        return _named(value, name, memory, tally)
    if isinstance(value, list):
        return [_walk(item, name, memory, tally) for item in value]
    if isinstance(value, dict):
        label = value.get("name") or value.get("key")
        return {
            redact_text(key, memory, tally): _walk(
                item, label if key == "value" and isinstance(label, str) else key, memory, tally
            )
            for key, item in value.items()
        }
    if isinstance(value, int) and value >= _LARGE_NUMBER:
        clean = redact_text(f"{name}: {value}", memory, tally)
        return value if clean.endswith(str(value)) else clean.partition(": ")[2]
    return value


def _named(value: str, name: str, memory: PlaceholderMemory, tally: Tally) -> str:
    clean = redact_text(value, memory, tally)
    kind = value_kind(name, clean) if name and not is_own_placeholder(clean) else None
    return _placeholder("secret", kind, clean, memory, tally) if kind else clean


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def spreader(tally: Tally) -> Callable[[str], str]:
    """Return a function that replaces the secrets of `tally` wherever they stand alone, context or not."""
    if not tally.values:
        return lambda text: text
    known = sorted(tally.values, key=len, reverse=True)
    expression = re.compile("|".join(rf"(?<![\w#:-]){re.escape(value)}(?![\w-])" for value in known))
    return lambda text: expression.sub(lambda match: tally.values[match.group()], text)
