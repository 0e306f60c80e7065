"""The cache around the strategy: L1, L2, equal calls in flight. A hit never spends.

Keys. SHA-256 of the canonical request (unknown parameters included), the level's scope, the strategy, the generation of
the cache as it was when the call came, the settings' fingerprint, and one candidate: an answer lies under the model
that gave it, and a call looks under every model that it may be answered by. Content above `public` stays in this
process unless the shared cache is marked private.

What is stored. Complete, valid answers only: no errors, truncations or refusals. A call is cacheable when it says so,
carries an idempotency key, or gives a temperature of 0 (any temperature under a strategy with `cacheAggressive`); an
omitted temperature is the provider's own, not 0. Embeddings are cacheable as they are.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from knowledge_system.domain.caching import HITS
from knowledge_system.domain.errors import KnowledgeError
from knowledge_system.domain.events import CacheConsulted
from knowledge_system.domain.inference import BudgetExhausted, Call, Delta, EmbedReply, NoProvider, Reply
from knowledge_system.domain.sensitivity import Sensitivity
from knowledge_system.inference.candidates import narrowed
from knowledge_system.inference.canonical import canonical, request
from knowledge_system.inference.envelopes import packed, unpacked
from knowledge_system.inference.single_flight import SingleFlight
from knowledge_system.inference.streams import Closing

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence

    from knowledge_system.domain.events import Emit
    from knowledge_system.domain.inference import EmbedCall, LanguageModel
    from knowledge_system.domain.money import ResponseCache
    from knowledge_system.inference.candidates import Candidate
    from knowledge_system.inference.generation import RememberedGeneration
    from knowledge_system.inference.memory_cache import MemoryCache
    from knowledge_system.inference.options import EngineOptions

_ReplyT = TypeVar("_ReplyT", Reply, EmbedReply)

_COMPLETE = frozenset({"stop", "tool"})
_MOST_EMBEDDED = 16
"""Texts of an embedding call that is cached: questions are, backfills have a store of their own."""


@dataclass(frozen=True, slots=True)
class _Found(Generic[_ReplyT]):
    """An answer of the cache, the level that had it, and what it cost when it was made."""

    reply: _ReplyT
    level: str
    cost_nano: int


class Shelves:
    """Both levels of the cache of an engine, its counters, and the flights under way."""

    def __init__(
        self,
        l1: MemoryCache,
        l2: ResponseCache | None,
        generation: RememberedGeneration,
        options: EngineOptions,
        emit: Emit,
    ) -> None:
        self.l1 = l1
        self.l2 = l2
        self.generation = generation
        self.options = options
        self.replies: SingleFlight[Reply] = SingleFlight()
        self.vectors: SingleFlight[EmbedReply] = SingleFlight()
        self._emit = emit
        self._counts: Counter[str] = Counter()
        self._held_for = ""

    def count(self, operation: str, result: str, saved_nano: int = 0) -> None:
        """Count how one request went: once, whichever levels it asked; `saved_nano` is what the answer once cost."""
        self._counts[result] += 1
        self._counts["saved_nano"] += saved_nano
        self._emit(CacheConsulted(operation, result, saved_nano))

    async def now(self) -> str:
        """Return the generation; once it has moved on, what this process holds of older ones is dropped."""
        generation = await self.generation.current()
        if generation != self._held_for:
            self._held_for = generation
            await self.l1.clear()
        return generation

    async def find(self, keys: Sequence[str], *, shared: bool) -> tuple[bytes, str] | None:
        """Return the first value under `keys` and its level; one of L2 moves up for the time it has left."""
        for key in keys:
            found = await self.l1.get(key)
            if found is not None:
                return found[0], "l1"
        if self.l2 is None or not shared:
            return None
        for key in keys:
            found = await self._far(key)
            if found is not None:
                await self.l1.put(key, found[0], min(found[1], self.options.l1_ttl))
                return found[0], "l2"
        return None

    def stale(self, keys: Sequence[str]) -> bytes | None:
        """Return a value of this process whatever its age."""
        return next((value for key in keys if (value := self.l1.stale(key)) is not None), None)

    async def store(self, key: str, value: bytes, *, shared: bool) -> None:
        """Store in both levels. A shared cache that fails is its own affair."""
        await self.l1.put(key, value, self.options.l1_ttl)
        if self.l2 is not None and shared:
            try:
                await self.l2.put(key, value, self.options.l2_ttl)
            except KnowledgeError:
                return

    async def clear(self) -> int:
        """Empty both levels; return how many entries this process had."""
        count = await self.l1.clear()
        if self.l2 is not None:
            count = max(count, await self.l2.clear())
        return count

    async def stats(self) -> Mapping[str, float]:
        """Return requests by result, what hits saved (nano-dollars), and size and bytes of L1."""
        memory = await self.l1.stats()
        results = {name: float(self._counts[name]) for name in (*HITS, "miss", "bypass", "saved_nano")}
        return {**results, "size": memory["size"], "bytes": memory["bytes"]}

    async def _far(self, key: str) -> tuple[bytes, float] | None:
        if self.l2 is None:
            return None
        try:
            return await self.l2.get(key)
        except KnowledgeError:
            return None


class Cached:
    """Answers from the cache of one level's scope, or from `inner`, whose answers it keeps."""

    def __init__(
        self, inner: LanguageModel, candidates: Sequence[Candidate], scope: Sensitivity, shelves: Shelves
    ) -> None:
        self._inner = inner
        self._candidates = candidates
        self._scope = scope
        self._shelves = shelves
        self._shared = scope is Sensitivity.PUBLIC or shelves.options.l2_private

    async def infer(self, call: Call) -> Reply:
        """Answer from the cache, from a flight under way, or anew; over budget also from what is stale."""
        if not self._cacheable(call):
            self._shelves.count(call.operation, "bypass")
            return await self._inner.infer(call)
        return await self._through(call, Reply, self._inner.infer, self._shelves.replies)

    async def stream(self, call: Call) -> AsyncGenerator[Delta, None]:
        """Stream; a cached answer comes in one piece. Streams in flight are not shared: each has its own reader."""
        async with Closing(await self._source(call)) as deltas:
            async for delta in deltas:
                yield delta

    async def _source(self, call: Call) -> AsyncIterator[Delta]:
        """Return where the pieces of an answer come from."""
        if not self._cacheable(call):
            self._shelves.count(call.operation, "bypass")
            return self._inner.stream(call)
        generation = await self._shelves.now()
        keys = self._keys(call, generation)
        found = await self._lookup(keys, Reply)
        if found is None:
            return self._streamed(call, keys, generation)
        self._shelves.count(call.operation, found.level, found.cost_nano)
        return _whole(found.reply)

    async def _streamed(self, call: Call, keys: list[str], generation: str) -> AsyncGenerator[Delta, None]:
        """Stream anew and keep the answer; where the budget forbids it, what is stale is better than nothing."""
        result, begun = "miss", False
        try:
            async with Closing(self._inner.stream(call)) as deltas:
                async for delta in deltas:
                    if delta.reply is not None:
                        await self._keep(call, delta.reply, generation)
                    begun = True
                    yield delta
        except BudgetExhausted:
            stale = None if begun else self._stale(keys, Reply)
            if stale is None:
                raise
            result = "stale"
            yield Delta(text=stale.reply.text, reply=stale.reply)
        finally:
            self._shelves.count(call.operation, result)

    async def embed(self, call: EmbedCall) -> EmbedReply:
        """Embed from the cache, a flight, or anew."""
        if len(call.texts) > _MOST_EMBEDDED:
            self._shelves.count(call.operation, "bypass")
            return await self._inner.embed(call)
        return await self._through(call, EmbedReply, self._inner.embed, self._shelves.vectors)

    async def _through(
        self,
        call: Call | EmbedCall,
        kind: type[_ReplyT],
        ask: Callable[..., Awaitable[_ReplyT]],
        flights: SingleFlight[_ReplyT],
    ) -> _ReplyT:
        generation = await self._shelves.now()
        keys: list[str] = self._keys(call, generation)
        found = await self._lookup(keys, kind)
        if found is not None:
            self._shelves.count(call.operation, found.level, found.cost_nano)
            return found.reply

        async def work() -> _ReplyT:
            reply = await ask(call)
            await self._keep(call, reply, generation)
            return reply

        flight = canonical([*keys, call.idempotency_key])
        result, saved = "miss", 0
        try:
            reply, led = await self._flown(flight, work, flights)
            if led:
                return reply
            result, saved = "shared", reply.cost_nano
            return dataclasses.replace(reply, cached=True, cost_nano=0, attempts=())
        except BudgetExhausted:
            stale = self._stale(keys, kind)
            if stale is None:
                raise
            result = "stale"
            return stale.reply
        finally:
            self._shelves.count(call.operation, result, saved)

    async def _flown(
        self,
        key: str,
        work: Callable[[], Awaitable[_ReplyT]],
        flights: SingleFlight[_ReplyT],
    ) -> tuple[_ReplyT, bool]:
        """Join or lead. A leader's shorter deadline is not a follower's: such a follower tries once for itself."""
        led = False

        async def leading() -> _ReplyT:
            nonlocal led
            led = True
            return await work()

        try:
            return await flights.do(key, leading)
        except NoProvider:
            if led:
                raise
            return await flights.do(key, leading)

    def _cacheable(self, call: Call) -> bool:
        if call.cacheable is not None:
            return call.cacheable
        if call.idempotency_key is not None:
            return True
        if call.temperature is None:
            return False
        return call.temperature == 0 or self._shelves.options.style(call).cache_aggressive

    def _keys(self, call: Call | EmbedCall, generation: str) -> list[str]:
        """Return a key for each candidate that may answer; the call's identity is hashed once."""
        base = hashlib.sha256(request(call).encode())
        style = self._shelves.options.style(call).name
        idempotency = call.idempotency_key if self._only_by_key(call) else None
        setting = [self._scope, style, idempotency, generation, self._shelves.options.fingerprint]
        base.update(canonical(setting).encode())
        return [self._key(base, candidate) for candidate in narrowed(self._candidates, call)]

    def _only_by_key(self, call: Call | EmbedCall) -> bool:
        """Tell whether the idempotency key alone makes this call cacheable: then no other call may find it."""
        plain = dataclasses.replace(call, idempotency_key=None)
        return isinstance(plain, Call) and not self._cacheable(plain)

    @staticmethod
    def _key(base: hashlib._Hash, candidate: Candidate) -> str:
        own = base.copy()
        own.update(canonical(candidate.key).encode())
        return own.hexdigest()

    async def _lookup(self, keys: list[str], kind: type[_ReplyT]) -> _Found[_ReplyT] | None:
        found = await self._shelves.find(keys, shared=self._shared)
        return None if found is None else _opened(found[0], kind, found[1], f"cache {found[1]}")

    def _stale(self, keys: list[str], kind: type[_ReplyT]) -> _Found[_ReplyT] | None:
        value = self._shelves.stale(keys)
        route = "stale cache: the budget allows no new answer"
        return None if value is None else _opened(value, kind, "stale", route)

    async def _keep(self, call: Call | EmbedCall, reply: Reply | EmbedReply, generation: str) -> None:
        """Store a complete answer under the candidate that gave it, in the generation in which it was asked for."""
        if isinstance(reply, Reply) and not _complete(call, reply):
            return
        given = [attempt.model for attempt in reply.attempts if attempt.provider == reply.provider]
        model = given[-1] if given else reply.model
        keys = self._keys(dataclasses.replace(call, provider=reply.provider, model=model), generation)
        for key in keys[:1]:
            await self._shelves.store(key, packed(reply), shared=self._shared)


def _opened(value: bytes, kind: type[_ReplyT], level: str, route: str) -> _Found[_ReplyT] | None:
    content = unpacked(value, kind, route)
    if content is None or not isinstance(content[0], kind):
        return None
    return _Found(content[0], level, content[1])


async def _whole(reply: Reply) -> AsyncGenerator[Delta, None]:
    yield Delta(text=reply.text, reply=reply)


def _complete(call: Call | EmbedCall, reply: Reply) -> bool:
    if reply.finish not in _COMPLETE:
        return False
    return not (isinstance(call, Call) and call.schema is not None and reply.data is None)
