"""Layer 4: a local model reads what is doubtful. It can clear a doubt, never raise one and never overrule layer 3.

The call's operation is `classify-sensitivity`, which the engine sends to local models only. No local model, no answer
in time, no clear answer: the doubt stays, and what is doubtful counts as sensitive. None of these is an error.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections import OrderedDict
from functools import lru_cache
from importlib import resources
from typing import TYPE_CHECKING

from knowledge_system.domain.errors import KnowledgeError
from knowledge_system.domain.inference import Call, Message
from knowledge_system.domain.sensitivity import Sensitivity

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from knowledge_system.domain.inference import LanguageModel
    from knowledge_system.sensitivity.meaning import Near

OPERATION = "classify-sensitivity"
PROMPT_VERSION = "classify-sensitivity-1"
WITHIN = 8.0
"""Seconds: less than the engine gives the whole classification, so that a slow model leaves a doubt, not a failure."""
SILENT_FOR = 30.0
"""Seconds for which a local model that gave no answer is not asked again: most machines have none."""
MOST_PASSAGES = 8
"""More doubts than these in one content are not worth a model's time: it counts as sensitive."""
_SCHEMA = {
    "type": "object",
    "properties": {"sensitive": {"type": "boolean"}},
    "required": ["sensitive"],
    "additionalProperties": False,
}
_STEERS = re.compile(
    r"ignor|disregard|instruct|classif|sensitiv|confidential|marker|<<<|\banswer (?:with|false|true)|\bjson\b|\bfalse\b"
    r"|\bsystem prompt\b|\byou (?:are|must|should|will) (?:now|answer|say|return)",
    re.IGNORECASE,
)
"""A passage that speaks of the verdict is not shown to a model that could be talked into one."""
_MOST_REMEMBERED = 4096


class LocalJudge:
    """Asks `model`, the engine itself, about doubtful passages; an answer is remembered by the passages' hash."""

    def __init__(
        self, model: LanguageModel, within: float = WITHIN, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._model = model
        self._within = within
        self._monotonic = monotonic
        self._silent_until = monotonic()
        self._known: OrderedDict[str, bool] = OrderedDict()

    async def clears(self, doubtful: Sequence[tuple[str, Near]]) -> bool:
        """Return True only when a local model says that none of the passages is sensitive."""
        passages = sorted({passage for passage, _ in doubtful})
        if len(passages) > MOST_PASSAGES or any(_STEERS.search(passage) for passage in passages):
            return False
        if any(near.level is Sensitivity.SECRET for _, near in doubtful):  # what may be secret is shown to no model
            return False
        topics = sorted({near.topic for _, near in doubtful})
        key = _digest([PROMPT_VERSION, *topics, *passages])
        if key not in self._known:
            answer = await self._asked(_call(topics, passages, key))
            if answer is None:
                return False
            self._known[key] = answer
            if len(self._known) > _MOST_REMEMBERED:
                self._known.popitem(last=False)
        return self._known[key]

    async def _asked(self, call: Call) -> bool | None:
        """Return whether the passages are harmless, None when nobody said so clearly and in time."""
        if self._monotonic() < self._silent_until:
            return None
        try:
            async with asyncio.timeout(self._within):
                reply = await self._model.infer(call)
        except (KnowledgeError, TimeoutError):
            self._silent_until = self._monotonic() + SILENT_FOR
            return None
        verdict = reply.data.get("sensitive") if isinstance(reply.data, dict) else None
        return not verdict if isinstance(verdict, bool) else None


@lru_cache(maxsize=1)
def prompt() -> str:
    """Return the instructions: the file of `PROMPT_VERSION`."""
    folder = resources.files(__package__).joinpath("prompts")
    return folder.joinpath(f"{PROMPT_VERSION}.md").read_text(encoding="utf-8")


def _call(topics: Sequence[str], passages: Sequence[str], key: str) -> Call:
    marker = key[:16]
    lines = [f"The marker is {marker}. Topics: {', '.join(topics)}.", ""]
    for number, passage in enumerate(passages, start=1):
        lines += [f"<<<{marker} {number}>>>", passage]
    lines += [f"<<<{marker} end>>>", "", "Is any of these passages sensitive? Answer with the JSON object."]
    return Call(
        operation=OPERATION,
        messages=(Message("system", prompt()), Message("user", "\n".join(lines))),
        sensitivity=Sensitivity.CONFIDENTIAL,
        prompt_version=PROMPT_VERSION,
        max_output=64,
        temperature=0,
        schema=_SCHEMA,
    )


def _digest(parts: Sequence[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()
