"""The privacy gate: the level of what would leave decides which stack may answer, before any strategy sees the call.

`secret` has no stack at all. The stack of `confidential` was built without remote candidates, so nothing below the
gate can reach one, whatever fails. What cannot be judged counts as confidential.
"""

from __future__ import annotations

import asyncio
import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

from knowledge_system.domain.errors import KnowledgeError
from knowledge_system.domain.inference import PrivacyRefused
from knowledge_system.domain.sensitivity import Sensitivity
from knowledge_system.inference.candidates import check_known, local_first, narrowed
from knowledge_system.inference.canonical import texts
from knowledge_system.inference.streams import Closing

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence

    from knowledge_system.domain.inference import Call, Delta, EmbedCall, EmbedReply, LanguageModel, Reply
    from knowledge_system.inference.candidates import Candidate
    from knowledge_system.inference.options import EngineOptions

_CallT = TypeVar("_CallT", "Call", "EmbedCall")

CALLER = "caller"
FAILED = "classifier-failed"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The level of a content and the layer that decided it."""

    level: Sensitivity
    layer: str


class Classifier(Protocol):
    """The sensitivity layers, as `application` puts them together."""

    async def classify(self, texts: Sequence[str], operation: str) -> Verdict:
        """Return the level of all `texts` together."""
        ...


@dataclass(frozen=True, slots=True)
class Stack:
    """What may answer a level: the candidates it was built from, and the wrappers around them."""

    candidates: Sequence[Candidate]
    model: LanguageModel


def allowed(candidates: Sequence[Candidate], level: Sensitivity, internal: str) -> list[Candidate]:
    """Return who may see content of `level`; an `internal` that is not known means `local-only`."""
    local = [candidate for candidate in candidates if candidate.local]
    if level is Sensitivity.PUBLIC:
        return list(candidates)
    if level is Sensitivity.INTERNAL:
        return {"anywhere": list(candidates), "local-first": local_first(candidates)}.get(internal, local)
    return local if level is Sensitivity.CONFIDENTIAL else []


class PrivacyGate:
    """Sends each call to the stack of its level. Raises PrivacyRefused when nobody may see the content."""

    def __init__(
        self,
        stacks: Mapping[Sensitivity, Stack],
        candidates: Sequence[Candidate],
        classifier: Classifier | None,
        options: EngineOptions,
    ) -> None:
        self._stacks = stacks
        self._candidates = candidates
        self._classifier = classifier
        self._options = options

    async def infer(self, call: Call) -> Reply:
        """Answer with a model that may see the content."""
        model, judged = await self._admit(call)
        return await model.infer(judged)

    async def stream(self, call: Call) -> AsyncGenerator[Delta, None]:
        """Stream from a model that may see the content."""
        model, judged = await self._admit(call)
        async with Closing(model.stream(judged)) as deltas:
            async for delta in deltas:
                yield delta

    async def embed(self, call: EmbedCall) -> EmbedReply:
        """Embed with a model that may see the content."""
        model, judged = await self._admit(call)
        return await model.embed(judged)

    async def _admit(self, call: _CallT) -> tuple[LanguageModel, _CallT]:
        check_known(self._candidates, call)
        verdict = await self._judge(call)
        stack = self._stacks.get(verdict.level)
        if stack is None or not narrowed(stack.candidates, call):
            raise PrivacyRefused(
                f"no model may see {verdict.level.value} content (decided by: {verdict.layer}) for {call.operation}",
                hint="start a local model, or remove what is sensitive" if stack else "secrets go to no model",
            )
        return stack.model, dataclasses.replace(call, sensitivity=verdict.level, layer=verdict.layer)

    async def _judge(self, call: Call | EmbedCall) -> Verdict:
        """Return the stricter of what the caller says and what the classifier finds."""
        declared = _declared(call.sensitivity)
        if call.operation in self._options.unclassified:
            return max(declared, Verdict(Sensitivity.CONFIDENTIAL, CALLER), key=_rank)
        if self._classifier is None or declared.level is Sensitivity.SECRET:
            return declared
        return max(declared, await self._classified(self._classifier, call), key=_rank)

    async def _classified(self, classifier: Classifier, call: Call | EmbedCall) -> Verdict:
        try:
            async with asyncio.timeout(self._options.classify_within):
                verdict = await classifier.classify(texts(call), call.operation)
        except (KnowledgeError, TimeoutError, OSError, ValueError):
            return Verdict(Sensitivity.CONFIDENTIAL, FAILED)
        return dataclasses.replace(verdict, level=_declared(verdict.level).level)


def _declared(level: object) -> Verdict:
    """Return a level as the caller gives it; one that does not exist counts as confidential."""
    try:
        return Verdict(Sensitivity(str(level)), CALLER)
    except ValueError:
        return Verdict(Sensitivity.CONFIDENTIAL, "unknown-level")


def _rank(verdict: Verdict) -> int:
    return verdict.level.rank
