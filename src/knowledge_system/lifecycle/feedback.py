"""What a verdict does to an item's confidence."""

from __future__ import annotations

from typing import Final

from knowledge_system.domain.feedback import FeedbackVerdict

CEILING: Final = 0.97
"""No number of friendly verdicts makes an item certain."""
DOUBT_KEPT: Final = 0.8
"""Share of the doubt that survives one `helpful`."""
BELIEF_KEPT: Final = 0.6
"""Share of the confidence that survives one `harmful`."""


def judged(confidence: float, verdict: FeedbackVerdict) -> float:
    """Return the confidence of an item after a verdict; one that is `wrong` keeps none."""
    if verdict is FeedbackVerdict.HELPFUL:
        return max(confidence, min(CEILING, 1 - (1 - confidence) * DOUBT_KEPT))
    return confidence * BELIEF_KEPT if verdict is FeedbackVerdict.HARMFUL else 0.0
