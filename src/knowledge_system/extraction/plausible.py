"""The extractor without a model, which also says how plausible it finds what it rejects."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from knowledge_system.extraction.classify import judgement, observations
from knowledge_system.extraction.extractor import EvidenceExtractor
from knowledge_system.extraction.features import ruled_out
from knowledge_system.extraction.judge import shipped_parameters
from knowledge_system.extraction.signals import read_signals

if TYPE_CHECKING:
    from collections.abc import Sequence

    from knowledge_system.domain.knowledge import Episode, Verdict
    from knowledge_system.extraction.judge import Parameters

CHORE = "ask_chore"
"""The feature of a prompt that asks for a chore: an exchange rejected mostly for it is rejected for good."""


class PlausibleExtractor:
    """`EvidenceExtractor` with `Verdict.plausibility` filled in: what a model would be worth asking about.

    A rejected exchange is judged a second time for it (about 2 ms), which only those pay who ask a model.
    """

    def __init__(self, parameters: Parameters | None = None) -> None:
        self._parameters = parameters or shipped_parameters()
        self._extractor = EvidenceExtractor(self._parameters)

    @property
    def version(self) -> str:
        """The version of the extractor: its verdicts are the same."""
        return self._extractor.version

    async def judge(self, episodes: Sequence[Episode]) -> list[Verdict]:
        """Return one verdict per episode, in order."""
        return [self._completed(episode, self._extractor.verdict(episode)) for episode in episodes]

    def _completed(self, episode: Episode, verdict: Verdict) -> Verdict:
        if verdict.candidates or verdict.plausibility is not None:
            return verdict
        return replace(verdict, plausibility=self._plausibility(episode))

    def _plausibility(self, episode: Episode) -> float | None:
        signals = read_signals(episode)
        if ruled_out(signals):
            return None
        found = judgement(observations(signals, episode, self._parameters), self._parameters)
        objection = min(found.contributions, key=lambda name: found.contributions[name], default="")
        return None if objection == CHORE and not found.worth else found.confidence
