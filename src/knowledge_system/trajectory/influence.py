"""What the path of a session says about what was learned on it."""

from __future__ import annotations

from typing import Final

from knowledge_system.domain.trajectory import SessionState

BLOCKED_KEPT: Final = 0.75
"""Share of the confidence that an item keeps whose exchange ended in the same trouble again."""
CHECKED_DOUBT: Final = 0.8
"""Share of the doubt that is left when changes were made and checked, or the user accepted them.

From 115 labelled exchanges that taught something (`docs/decisions/0009-trajectory.md`): of those on track 93 % were
worth keeping, of the four that were blocked one, of the others 68 %.
"""


def confidence_in(confidence: float, state: SessionState | None) -> float:
    """Return the confidence of an item, in [0, 1], learned from an exchange after which the session stood so."""
    if state is SessionState.BLOCKED:
        return confidence * BLOCKED_KEPT
    return 1 - (1 - confidence) * CHECKED_DOUBT if state is SessionState.ON_TRACK else confidence
