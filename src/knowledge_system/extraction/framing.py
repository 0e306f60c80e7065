"""Foreign texts inside a prompt: bounded in size, and between boundaries that they cannot contain."""

from __future__ import annotations

import hashlib
import json
import re
from functools import lru_cache
from importlib import resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

HEAD_SHARE = 2 / 3
"""Of a text that is too long, the share shown from its beginning; the rest is its end, where the result stands."""

_OMITTED = "\n[...]\n"
_SURROGATE = re.compile("[\ud800-\udfff]")
_MARKER_DIGITS = 24


@lru_cache(maxsize=8)
def prompt(version: str) -> str:
    """Return the instructions in the file of `version`; they are never mixed with a foreign text."""
    folder = resources.files("knowledge_system.extraction").joinpath("prompts")
    return folder.joinpath(f"{version}.md").read_text(encoding="utf-8")


def clipped(text: str, most: int) -> str:
    """Return beginning and end of `text` in at most `most` bytes of UTF-8; half a character is no character."""
    sent = _SURROGATE.sub("\ufffd", text).encode()
    if len(sent) <= most:
        return sent.decode()
    room = max(0, most - len(_OMITTED))
    head = int(room * HEAD_SHARE)
    start, end = sent[:head], sent[len(sent) - (room - head) :]
    return start.decode(errors="ignore") + _OMITTED + end.decode(errors="ignore")


def marker_of(version: str, texts: Sequence[str]) -> str:
    """Return a word that depends on every character of the texts: who writes a text cannot write its marker in it."""
    marker = digest([version, *texts])[:_MARKER_DIGITS]
    while any(marker in text for text in texts):
        marker = digest([marker, *texts])[:_MARKER_DIGITS]
    return marker


def digest(parts: Sequence[str]) -> str:
    """Return SHA-256 over the parts, each told apart from the next, in hexadecimal digits."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
