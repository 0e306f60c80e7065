"""How a model is asked while learning: within a time, counted, and left alone for a while after it failed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from knowledge_system.domain.errors import KnowledgeError
from knowledge_system.domain.inference import PrivacyRefused

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from knowledge_system.domain.clock import Clock
    from knowledge_system.domain.inference import Call, LanguageModel, Reply
    from knowledge_system.domain.sensitivity import Sensitivity

PAUSED = "paused"
INVALID = "invalid-reply"
NO_ANSWER = "no-answer"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a question went without an answer: the code of an error, or one of the constants of this module."""

    reason: str


@dataclass(slots=True)
class _Pause:
    left: int = 0
    length: int = 0


@dataclass(slots=True)
class ModelTally:
    """What asking a model came to.

    `why` says why none was asked at all. `calls` is questions put to the engine, `answered` and `cost_nano` what was
    answered and what those answers cost, repairs included. `asked` counts exchanges the answers were about: `kept` and
    `dismissed` by the model, `disbelieved` by reason where its item was not proven. `reused` are exchanges whose item
    has an earlier answer. `pairs` counts comparisons of items, `decided` by outcome. `unasked` counts by reason the
    exchanges and pairs that were left without an answer; `details` says more about a reason, never content.
    """

    why: str = ""
    calls: int = 0
    answered: int = 0
    cost_nano: int = 0
    asked: int = 0
    kept: int = 0
    dismissed: int = 0
    reused: int = 0
    pairs: int = 0
    decided: Counter[str] = field(default_factory=Counter)
    unasked: Counter[str] = field(default_factory=Counter)
    disbelieved: Counter[str] = field(default_factory=Counter)
    details: dict[str, str] = field(default_factory=dict)


class ModelUse:
    """Asks a model on behalf of learning. A refusal or failure, whatever it is, becomes a `Refusal`, never an error.

    `deadline` is the seconds a call may take. After a call that failed or was refused for money, the next `paused`
    questions of the same level and project are not asked, after the next failure twice as many, and so on: a provider
    that is down costs one deadline, not one for every batch. What privacy refuses is refused anew each time, for it
    depends on the content and costs nothing.
    """

    def __init__(self, model: LanguageModel, clock: Clock, deadline: float = 60.0, paused: int = 8) -> None:
        self._model = model
        self._clock = clock
        self._deadline = timedelta(seconds=deadline)
        self._paused = paused
        self._pauses: dict[tuple[Sensitivity, str], _Pause] = {}
        self.tally = ModelTally()
        """What is counted into; whoever begins a run may put an empty one here."""

    async def ask(self, call: Call, weight: int) -> Reply | Refusal:
        """Return the answer to `call`; `weight` is how many exchanges or pairs it is about."""
        pause = self._pauses.setdefault((call.sensitivity, call.project), _Pause())
        if pause.left:
            pause.left -= 1
            return self.refused(PAUSED, weight)
        self.tally.calls += 1
        try:
            reply = await self._model.infer(replace(call, deadline=self._clock.now() + self._deadline))
        except KnowledgeError as error:
            if not isinstance(error, PrivacyRefused):
                self._rest(pause)
            return self.refused(error.code, weight, error.message)
        pause.length = 0
        self.tally.answered += 1
        self.tally.cost_nano += reply.cost_nano
        return reply

    def refused(self, reason: str, weight: int, detail: str = "") -> Refusal:
        """Count questions that went without an answer, and return why."""
        self.tally.unasked[reason] += weight
        if detail:
            self.tally.details.setdefault(reason, detail)
        return Refusal(reason)

    def _rest(self, pause: _Pause) -> None:
        if not pause.left:  # calls that were under way together fail together: that is one failure
            pause.length = pause.length * 2 or self._paused
            pause.left = pause.length


def metadata_of(reply: Reply, prompt: str, cost_nano: int) -> Mapping[str, str | int]:
    """Return what an item says about the call behind it; `cost_nano` is the item's share of what the call cost."""
    return {"prompt": prompt, "provider": reply.provider, "model": reply.model, "cost_nano": cost_nano}


def shares(cost_nano: int, parts: int) -> Sequence[int]:
    """Return `cost_nano` divided into `parts` that add up to it."""
    whole, rest = divmod(cost_nano, parts)
    return [whole + (place < rest) for place in range(parts)]
