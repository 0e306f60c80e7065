"""Ensemble voting and confidence.

The rule. Two answers are equal when their data are equal as canonical JSON without a `confidence` key, or, where there
are no data, when their texts are equal without regard to case and white space. The largest group of equal answers
wins; between groups of one size the greater sum of confidences (unknown: 0.5) wins, then the group that holds the
answer of the target that comes first in the strategy's order. Of the winning group its surest answer is returned, with
the group's share of all answers as its confidence.
"""

from __future__ import annotations

import asyncio
import dataclasses
from typing import TYPE_CHECKING, Any

from knowledge_system.domain.errors import KnowledgeError
from knowledge_system.inference.canonical import canonical

if TYPE_CHECKING:
    from collections.abc import Sequence

    from knowledge_system.domain.inference import Reply
    from knowledge_system.inference.attempting import Ask
    from knowledge_system.inference.candidates import Candidate
    from knowledge_system.inference.trail import Trail

_UNKNOWN = 0.5


def confidence(reply: Reply) -> float | None:
    """Return how sure an answer is of itself, 0 to 1: the reply's, or its data's `confidence`; None when untold."""
    told: Any = reply.confidence
    if told is None and isinstance(reply.data, dict):
        told = reply.data.get("confidence")
    if isinstance(told, bool) or not isinstance(told, (int, float)) or not 0 <= told <= 1:
        return None
    return float(told)


def best(answers: Sequence[Reply]) -> Reply:
    """Return the surest answer, the first of equals."""
    return max(answers, key=_weight)


def vote(answers: Sequence[Reply]) -> tuple[Reply, int]:
    """Return the winner and how many agreed with it. `answers` are in the strategy's order, at least one."""
    groups: dict[str, list[Reply]] = {}
    for answer in answers:
        groups.setdefault(_ballot(answer), []).append(answer)
    winners = max(groups.values(), key=lambda group: (len(group), sum(map(_weight, group))))
    agreed = len(winners)
    return dataclasses.replace(best(winners), confidence=agreed / len(answers)), agreed


async def polled(members: Sequence[Candidate], ask: Ask[Reply], trail: Trail, within: float) -> list[Reply]:
    """Ask all members at once and return the answers that arrive `within` seconds, in the members' order."""

    async def one(member: Candidate) -> Reply | None:
        try:
            return await ask(member)
        except KnowledgeError as error:
            trail.failed(member, error)
            return None

    tasks = [asyncio.get_running_loop().create_task(one(member)) for member in members]
    try:
        await asyncio.wait(tasks, timeout=within)
    finally:
        late = [task for task in tasks if task.cancel()]
        if late:
            await asyncio.wait(late)
    for member, task in zip(members, tasks, strict=True):
        if task.cancelled():
            trail.rule_out(member, "answered too late to vote")
    return [answer for task in tasks if not task.cancelled() and (answer := task.result()) is not None]


def _weight(reply: Reply) -> float:
    told = confidence(reply)
    return _UNKNOWN if told is None else told


def _ballot(reply: Reply) -> str:
    if reply.data is None:
        return " ".join(reply.text.casefold().split())
    data = reply.data
    if isinstance(data, dict):
        data = {key: value for key, value in data.items() if key != "confidence"}
    return canonical(data)
