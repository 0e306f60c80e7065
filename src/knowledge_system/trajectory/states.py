"""How a session stands after an exchange: by what the user says of it and by what the tools show.

The rules are tried in the order in which they stand; the first that fits decides, and says why in words.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from knowledge_system.domain.trajectory import Intent, SessionState

if TYPE_CHECKING:
    from knowledge_system.trajectory.work import Work

SAID_CHARACTERS: Final = 600
OPENING_CHARACTERS: Final = 300
REPEATED_CHECKS: Final = 3
"""So many failing checks in one exchange, the last included, and it does not get on."""

_CORRECTED = re.compile(
    r"(?i)\A\W*(?:no\b(?! problem)|nope\b|wrong\b|stop\b|wait\b|that'?s (?:not|wrong)|that is (?:not|wrong)|not"
    r" what\b|you (?:broke"
    r"|forgot|missed|removed|deleted|misunderst\w+|ignored|did ?n[o']t)|why did you|i (?:didn'?t|did not|never)"
    r" (?:ask|want|mean|say)"
    r"|i mean\b|i said\b|actually,? no|what are you|don'?t (?:do|touch|change|add)|nein\b|falsch|das (?:ist"
    r"|war) (?:nicht|falsch)|eso no"
    r"|no es lo que|ce n'est pas|不对|错了|不是这样)"
    r"|\b(?:revert (?:that|this|it|your|the)|undo (?:that|this|it|your|the)|roll (?:it|that) back|put (?:it"
    r"|that) back|go back to the"
    r"|not what i (?:asked|wanted|meant)|start over|off track|wrong (?:file|approach|direction|track))\b"
)
_PERSISTS = re.compile(
    r"(?i)\b(?:still|again|same (?:error|issue|problem|result)|did ?n[o']t (?:work|help|fix)|does ?n[o']t work"
    r"|not working|no luck"
    r"|keeps? (?:fail|crash|happen|gett)\w*|another error|got worse)\b|immer noch|sigue|toujours|还是|仍然"
)
_ACCEPTED = re.compile(
    r"(?i)\A\W*(?:(?:ok(?:ay)?|yes|great|thanks?|thank you|perfect|nice|awesome|excellent|cool|wonderful|good"
    r" (?:job|work)|lgtm|looks? good"
    r"|works?\b|it works|that works|works now|that fixed|fixed|all good|danke|gracias|merci|谢谢|可以了|完美)\b)"
    r"|\b(?:works? (?:now|great|perfectly|well)|that (?:did it|worked|fixed it)|(?:is|are) (?:fixed|green)"
    r"|tests? (?:pass|are green))\b"
)


@dataclass(frozen=True, slots=True)
class Standing:
    """A state, how sure it is in [0, 1], and what in the transcript says so."""

    state: SessionState
    confidence: float
    reason: str


@dataclass(frozen=True, slots=True)
class Situation:
    """What a state is judged by. `repeated` is an error that was there before this exchange already."""

    prompt: str
    intent: Intent | None
    work: Work
    answered: bool
    interrupted: bool
    repeated: str
    before: SessionState | None


def standing(situation: Situation) -> Standing:
    """Return how the session stands after the exchange."""
    return _troubled(situation) or _settled(situation) or _busy(situation)


def _troubled(now: Situation) -> Standing | None:
    work, prompt = now.work, now.prompt[:SAID_CHARACTERS]
    goes_on = now.before in _OPEN and _PERSISTS.search(prompt) is not None
    blocked, off = SessionState.BLOCKED, SessionState.OFF_TRACK
    stuck = work.failed_last and work.failed_checks >= REPEATED_CHECKS
    unable = work.refused and not work.edits
    rules = [
        (now.interrupted, Standing(off, 0.7, "the user interrupted the agent")),
        (stuck, Standing(blocked, 0.8, f"{work.failed_checks} checks failed, the last one too")),
        (bool(now.repeated), Standing(blocked, 0.8, f"the same error again: {now.repeated}")),
        (goes_on, Standing(blocked, 0.65, "the user says the trouble goes on")),
        (_CORRECTED.search(prompt) is not None, Standing(off, 0.75, "the user corrects the agent")),
        (unable, Standing(blocked, 0.6, "the agent cannot go on by itself")),
    ]
    if work.passed_last and not now.interrupted:
        return None
    return next((found for holds, found in rules if holds), None)


_OPEN: Final = frozenset(
    {SessionState.BLOCKED, SessionState.VERIFYING, SessionState.OFF_TRACK, SessionState.IMPLEMENTING}
)


def _settled(now: Situation) -> Standing | None:
    work, opening = now.work, now.prompt[:OPENING_CHARACTERS]
    if work.edits and work.passed_last:
        return Standing(SessionState.ON_TRACK, 0.85, "changes were made and the last check passed")
    pleased = _ACCEPTED.search(opening) and not _PERSISTS.search(opening)
    if pleased and not work.edits and not work.failed_last:
        return Standing(SessionState.ON_TRACK, 0.7, "the user accepts what was done")
    return None


def _busy(now: Situation) -> Standing:
    work = now.work
    if work.checks:
        how = "failed" if work.failed_last else "passed"
        return Standing(SessionState.VERIFYING, 0.75, f"checks ran; the last one {how}")
    if work.edits:
        return Standing(SessionState.IMPLEMENTING, 0.8, "changes were made and not checked")
    if work.looks and now.answered:
        return Standing(SessionState.EXPLORING, 0.75, "the agent only looked")
    return _told(now)


def _told(now: Situation) -> Standing:
    """Return the standing where no tool shows anything."""
    if now.before is not None and (not now.answered or now.intent is None):
        reason = "nothing speaks for a change" if now.answered else "there is no answer yet"
        return Standing(now.before, 0.4 if now.answered else 0.3, reason)
    if now.intent is Intent.TESTING:
        return Standing(SessionState.VERIFYING, 0.45, "the user wants to know whether it works")
    if now.intent in {Intent.LEARNING, Intent.EXPLORATION, None}:
        return Standing(SessionState.EXPLORING, 0.6 if now.intent else 0.3, "the user asks; nothing was changed")
    return Standing(SessionState.IMPLEMENTING, 0.4, "judged by the prompt alone")
