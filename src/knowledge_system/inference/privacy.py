"""The privacy gate: the level of what would leave decides which stack may answer, before any strategy sees the call.

`secret` has no stack at all. The stack of `confidential` was built without remote candidates, so nothing below the
gate can reach one, whatever fails. What cannot be judged counts as confidential.

Every call is judged by patterns; by its meaning only where a remote candidate might see it, for that costs a model's
time and a local candidate may see everything that is not secret anyway.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from knowledge_system.domain.errors import KnowledgeError
from knowledge_system.domain.inference import Call, PrivacyRefused
from knowledge_system.domain.sensitivity import Layer, Sensitivity, Verdict
from knowledge_system.inference.candidates import check_known, local_first, narrowed
from knowledge_system.inference.streams import Closing

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator, Sequence

    from knowledge_system.domain.inference import Delta, EmbedCall, EmbedReply, LanguageModel, Reply
    from knowledge_system.domain.sensitivity import Classifier
    from knowledge_system.inference.candidates import Candidate
    from knowledge_system.inference.options import EngineOptions

_CallT = TypeVar("_CallT", "Call", "EmbedCall")

_TEXT = frozenset({"type", "text"})
"""Names in a part that is text and nothing else."""

_SHORT = 2_000
_DEEPEST = 3
"""JSON within JSON that is opened."""

_HINTS: Mapping[str, str] = {
    Layer.FAILED: "what cannot be judged counts as confidential: run `knowledge models verify`, or start a local model",
    Layer.SIMILARITY_DOUBT: "start a local model: it may clear the doubt, and may see the content in any case",
    Layer.UNREADABLE: "start a local model that sees images, or declare the content public",
}

_UNREADABLE = frozenset({"image", "image_url", "input_image", "input_audio", "audio", "file", "input_file", "document"})
"""Types of parts whose content no layer reads."""


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
            raise _refusal(verdict, call.operation)
        return stack.model, dataclasses.replace(call, sensitivity=verdict.level, layer=str(verdict.layer))

    async def _judge(self, call: Call | EmbedCall) -> Verdict:
        """Return the strictest of what the caller says and what the layers find."""
        declared = _declared(call.sensitivity)
        if call.operation in self._options.unclassified:
            return _stricter(declared, Verdict(Sensitivity.CONFIDENTIAL, Layer.CALLER))
        if self._classifier is None or declared.level is Sensitivity.SECRET:
            return declared
        try:
            async with asyncio.timeout(self._options.classify_within):
                return await self._classified(self._classifier, call, declared)
        except (KnowledgeError, TimeoutError, OSError, ValueError, RecursionError):
            return _stricter(declared, Verdict(Sensitivity.CONFIDENTIAL, Layer.FAILED))

    async def _classified(self, classifier: Classifier, call: Call | EmbedCall, declared: Verdict) -> Verdict:
        seen = visible(call)
        verdict = _stricter(declared, await classifier.classify(seen, call.operation))
        if declared.level is not Sensitivity.PUBLIC and holds_unreadable(call):
            verdict = _stricter(verdict, Verdict(Sensitivity.CONFIDENTIAL, Layer.UNREADABLE))
        if self._may_leave(verdict.level, call):
            verdict = _stricter(verdict, await classifier.examine(seen, call.operation))
        return dataclasses.replace(verdict, level=_declared(verdict.level).level)

    def _may_leave(self, level: Sensitivity, call: Call | EmbedCall) -> bool:
        """Tell whether a candidate that is not local might be asked at `level`."""
        stack = self._stacks.get(_declared(level).level)
        if stack is None or self._options.offline:
            return False
        named = call.provider is not None or call.model is not None
        listed = self._options.style(call).priority
        return any(
            not one.local and not one.unavailable and (named or one.provider in listed)
            for one in narrowed(stack.candidates, call)
        )


def _refusal(verdict: Verdict, operation: str) -> PrivacyRefused:
    """Return the error that says who decided and what helps; never what was found."""
    layer = f"{verdict.layer}: {verdict.about}" if verdict.about else str(verdict.layer)
    return PrivacyRefused(
        f"no model may see {verdict.level.value} content (decided by: {layer}) for {operation}",
        hint="secrets go to no model"
        if verdict.level is Sensitivity.SECRET
        else _HINTS.get(verdict.layer, "start a local model, or remove what is sensitive"),
    )


def visible(call: Call | EmbedCall) -> list[str]:
    """Return every text of `call` that a provider would see, and each structured part as JSON besides.

    In the JSON a value still stands behind its name: `{"password": "…"}` is found where two words would not be. Of
    parts that no layer reads (images, files) only what is short is returned: names, captions, addresses.
    """
    if not isinstance(call, Call):
        return _opened(call.texts)
    parts = [part for one in call.messages for part in ([one.content] if isinstance(one.content, str) else one.content)]
    structured: list[Any] = [part for part in parts if not isinstance(part, str) and not _is_unreadable(part)]
    structured += [value for value in (*(one.extra for one in call.messages), call.parameters, call.schema) if value]
    seen = [part for part in parts if isinstance(part, str)]
    for part in parts:
        if not isinstance(part, str) and _is_unreadable(part):
            seen += [text for text in _strings(part) if len(text) <= _SHORT]
    for value in structured:
        seen += _strings(value)
    return _opened(seen) + [
        json.dumps(value, ensure_ascii=False, default=_jsonable) for value in structured if not value.keys() <= _TEXT
    ]


def _opened(seen: Sequence[str]) -> list[str]:
    """Return texts, and what stands in those that are JSON themselves: the arguments of a tool call are."""
    found = list(seen)
    inner = list(seen)
    for _ in range(_DEEPEST):
        inner = [text for one in inner if one[:1] in {"{", "["} for text in _strings(_loaded(one))]
        found += inner
    return found


def _loaded(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return ()


def holds_unreadable(call: Call | EmbedCall) -> bool:
    """Tell whether a message of `call` carries an image, a sound or a file."""
    if not isinstance(call, Call):
        return False
    return any(
        _is_unreadable(part) for one in call.messages if not isinstance(one.content, str) for part in one.content
    )


def _is_unreadable(part: Mapping[str, Any]) -> bool:
    return part.get("type") in _UNREADABLE


def _strings(value: object) -> Iterator[str]:
    """Yield every string in a JSON-like value, names included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield str(key)
            yield from _strings(inner)
    elif isinstance(value, Iterable) and not isinstance(value, bytes):
        for inner in value:
            yield from _strings(inner)


def _jsonable(value: object) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    return list(value) if isinstance(value, Iterable) else str(value)


def _declared(level: object) -> Verdict:
    """Return a level as the caller gives it; one that does not exist counts as confidential."""
    try:
        return Verdict(Sensitivity(str(level)), Layer.CALLER)
    except ValueError:
        return Verdict(Sensitivity.CONFIDENTIAL, Layer.UNKNOWN_LEVEL)


def _stricter(first: Verdict, second: Verdict) -> Verdict:
    """Return the stricter verdict. Of equals the first, unless the second is a doubt that was cleared."""
    cleared = second.layer == Layer.LOCAL_MODEL and first.level.rank >= second.level.rank
    if cleared:
        return Verdict(first.level, second.layer)
    return second if _declared(second.level).level.rank > first.level.rank else first
