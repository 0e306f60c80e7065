"""The one owner of attempts: who is asked, in which order, again or not, and what the caller is told.

Rules. Every target is asked at most once where there is another; only a target that stands alone is asked again, N
retries being N + 1 requests. There is no pause while a fallback is ready. A malformed structured reply is repaired by
its own target once, as an attempt of its own. The deadline ends everything.
"""

from __future__ import annotations

import asyncio
import dataclasses
import random
from typing import TYPE_CHECKING, Any, TypeVar

from knowledge_system.domain.errors import KnowledgeError, UsageError
from knowledge_system.inference.attempting import Stream, once, timed
from knowledge_system.inference.candidates import local_first, narrowed, ordered
from knowledge_system.inference.hedging import hedged
from knowledge_system.inference.streams import Closing
from knowledge_system.inference.trail import Trail, patience
from knowledge_system.inference.voting import best, confidence, polled, vote

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Coroutine, Sequence

    from knowledge_system.domain.inference import Call, Delta, EmbedCall, EmbedReply, Reply
    from knowledge_system.inference.attempting import Ask, Means
    from knowledge_system.inference.candidates import Candidate

_T = TypeVar("_T")
_RESERVE = 0.9
"""Share of the time left that an extra opinion may take: the answer at hand must still arrive in time."""


class Strategic:
    """Answers with the candidates of one sensitivity level; it knows no others."""

    def __init__(self, candidates: Sequence[Candidate], means: Means, *, prefer_local: bool = False) -> None:
        self._candidates = candidates
        self._means = means
        self._prefer_local = prefer_local

    async def infer(self, call: Call) -> Reply:
        """Answer. Raises NoProvider or BudgetExhausted, naming every candidate with its reason."""
        trail, targets = await self._plan(call)
        return await self._in_time(call, trail, self._answer(call, trail, targets))

    async def stream(self, call: Call) -> AsyncGenerator[Delta, None]:
        """Stream from the first target that says something; after its first delta there is no other."""
        trail, targets = await self._plan(call)

        async def ask(target: Candidate) -> Stream:
            return await Stream.opened(target, call, trail, self._means)

        target, stream = await self._in_time(call, trail, self._through(call, trail, targets, ask))
        async with Closing(stream.rest()) as deltas:
            async for delta in deltas:
                yield delta if delta.reply is None else _signed(delta, trail, target)

    async def embed(self, call: EmbedCall) -> EmbedReply:
        """Embed with one model only: a fallback to another would mix spaces that cannot be compared."""
        trail, targets = await self._plan(call)
        targets = [target for target in targets if target.model == targets[0].model]

        async def ask(target: Candidate) -> EmbedReply:
            bill = trail.bill(target)
            own = dataclasses.replace(call, provider=target.provider, model=target.model)
            return await timed(bill, self._means.attempt(bill).embed(own), self._means.monotonic)

        target, reply = await self._in_time(call, trail, self._through(call, trail, targets, ask))
        return trail.signed(reply, target.name)

    async def _in_time(self, call: Call | EmbedCall, trail: Trail, work: Coroutine[Any, Any, _T]) -> _T:
        """Run `work` until the deadline. Raises the trail's error when it passes, before anything if it has."""
        left = trail.left()
        if left <= 0:
            work.close()
            raise trail.error(call)
        try:
            async with asyncio.timeout(left):
                return await work
        except TimeoutError as error:
            raise trail.error(call, late=True) from error

    async def _plan(self, call: Call | EmbedCall) -> tuple[Trail, list[Candidate]]:
        """Return the trail of a call and its targets in order, with the reasons of those that are out."""
        means = self._means
        style = means.options.style(call)
        trail = Trail(style, patience(call, means.clock, means.options.patience), means.clock, means.monotonic)
        asked_for = narrowed(self._candidates, call)
        listed = ordered(asked_for, style.priority)
        others = [candidate for candidate in asked_for if candidate not in listed]
        if call.provider is None and call.model is None:
            for candidate in others:
                trail.rule_out(candidate, f"not in the order of providers of {style.name}")
            others = []
        view = await means.standing.view()
        usable = []
        for target in (*listed, *others):
            reason = target.unavailable or view.out(target)
            if reason:
                trail.rule_out(target, reason, budget=view.budget and not target.unavailable)
            else:
                usable.append(target)
        return trail, local_first(usable) if self._prefer_local or view.local_first else usable

    async def _answer(self, call: Call, trail: Trail, targets: list[Candidate]) -> Reply:
        style = trail.style
        if style.voting and call.schema is not None and len(targets) > 1:
            return await self._voted(call, trail, targets)
        if style.parallel and len(targets) > 1:
            return await self._hedged(call, trail, targets)
        return await self._in_order(call, trail, targets)

    async def _in_order(self, call: Call, trail: Trail, targets: list[Candidate]) -> Reply:
        async def ask(target: Candidate) -> Reply:
            return await once(target, call, trail, self._means)

        target, reply = await self._through(call, trail, targets, ask)
        sure = confidence(reply)
        if trail.style.low_confidence and sure is not None and sure < trail.style.min_confidence:
            return await self._second_opinion(call, trail, targets, (target, reply))
        return trail.signed(reply, target.name)

    async def _second_opinion(
        self, call: Call, trail: Trail, targets: list[Candidate], first: tuple[Candidate, Reply]
    ) -> Reply:
        """Ask one more target, once, and keep the surer answer; whatever goes wrong leaves the first."""
        target, reply = first
        for other in targets:
            if trail.sent(other) or other.key == target.key:
                continue
            try:
                async with asyncio.timeout(trail.left() * _RESERVE):
                    second = await once(other, call, trail, self._means)
            except KnowledgeError as error:
                trail.failed(other, error)
            except TimeoutError:
                break
            else:
                chosen = best([reply, second])
                return trail.signed(chosen, f"{chosen.provider}, the surer of {target.name} and {other.name}")
        return trail.signed(reply, f"{target.name}, unsure and nobody else to ask")

    async def _hedged(self, call: Call, trail: Trail, targets: list[Candidate]) -> Reply:
        async def ask(target: Candidate) -> Reply:
            return await once(target, call, trail, self._means)

        won = await hedged(targets, ask, trail, self._means)
        if won is not None:
            return trail.signed(won[1], f"{won[0].name}, first to answer")
        target, reply = await self._again(call, trail, targets, ask)
        return trail.signed(reply, f"{target.name}, asked again")

    async def _voted(self, call: Call, trail: Trail, targets: list[Candidate]) -> Reply:
        members = targets[: trail.style.members]

        async def ask(target: Candidate) -> Reply:
            return await once(target, call, trail, self._means)

        answers = await polled(members, ask, trail, trail.left() * _RESERVE)
        if not answers:
            return await self._in_order(call, trail, targets[trail.style.members :])
        winner, agreed = vote(answers)
        return trail.signed(winner, f"{winner.provider}, {agreed} of {len(answers)} answers agreed")

    async def _through(
        self, call: Call | EmbedCall, trail: Trail, targets: list[Candidate], ask: Ask[_T]
    ) -> tuple[Candidate, _T]:
        """Ask each target once, at once; then whoever may be asked again."""
        for target in targets:
            try:
                return target, await ask(target)
            except UsageError:
                raise
            except KnowledgeError as error:
                trail.failed(target, error)
        return await self._again(call, trail, targets, ask)

    async def _again(
        self, call: Call | EmbedCall, trail: Trail, targets: list[Candidate], ask: Ask[_T]
    ) -> tuple[Candidate, _T]:
        """Retry as `Trail.next_try` allows, with a growing pause, at most as often as the options say."""
        options = self._means.options
        for retry in range(options.retries):
            pause = options.backoff * 2**retry * random.uniform(0.5, 1.0)  # noqa: S311 -- jitter, not a secret
            following = trail.next_try(targets, pause)
            if following is None:
                break
            target, wait = following
            await self._means.sleep(wait)
            try:
                return target, await ask(target)
            except KnowledgeError as error:
                trail.failed(target, error)
        raise trail.error(call)


def _signed(delta: Delta, trail: Trail, target: Candidate) -> Delta:
    assert delta.reply is not None  # noqa: S101 -- the caller looked; tells the type checker
    return dataclasses.replace(delta, reply=trail.signed(delta.reply, target.name))
