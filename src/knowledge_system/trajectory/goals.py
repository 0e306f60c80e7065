"""What a session is for: a short sentence in the user's own words, kept until the session turns to something else."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from knowledge_system.domain.trajectory import Intent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from knowledge_system.trajectory.prompts import Spoken

GOAL_CHARACTERS: Final = 160
LEAST_WORDS: Final = 3
LEAST_CONTENT: Final = 2
"""A sentence that says so few things of its own ("implement it that way") points at something said before."""
TURN_WORDS: Final = 6
"""A prompt of fewer words is part of what goes on already."""
NEAR: Final = 0.12
"""Share of the prompt's content words that goal and concepts have too, from which it is about the same thing."""
ACCOMPANYING: Final = frozenset({Intent.TESTING, Intent.DOCUMENTATION})
"""What usually belongs to the work that goes on: it turns a session only when the user says so."""
WORKING: Final = frozenset(Intent) - {Intent.LEARNING, Intent.EXPLORATION}

_PLAN = re.compile(
    r"(?im)\A\W{0,4}implement (?:the following|this|the attached|my) plan\W*|^#{1,3} *(?:plan|feature"
    r"|task)\b\s*[:\u2013-]?\s*"
)
_HEADING = re.compile(r"(?m)^#{1,3} +(?:(?:Plan|Task|Feature|Goal)\s*[:\u2013-]\s*)?(\S.{3,200})$")
_SENTENCE = re.compile(r"[^.!?\n\u3002\uff01\uff1f]+(?:[.](?=\w)[^.!?\n\u3002\uff01\uff1f]+)*[.!?\u3002\uff01\uff1f]?")
_PREFACE = re.compile(
    r"(?i)\A\W*(?:(?:ok(?:ay)?|hi|hey|hello|yes|yeah|great|thanks?|thank you|perfect|nice|cool|good|alright"
    r"|please|pls|so|now|and"
    r"|then|well|hmm+|claude|i think|i guess|next|also|first(?: of all)?|let's|let us)\b[\s,.!:;-]*)+"
)
_TURN = re.compile(
    r"(?i)\b(?:now let'?s|next(?: up| task| thing| step)?\b|new (?:task|topic|feature|issue)|moving on"
    r"|switch(?:ing)? to|different"
    r" (?:topic|thing|question)|something else|another (?:thing|task|topic)|unrelated|phase \d|let'?s (?:move"
    r"|start|turn|work on))"
)
_COMMON_WORDS: Final = """
    a an the and or of to in on for with from by at as is are be was were it its this that these those i we you he
    she they my our your me us do does did can could should would will may might not no yes so if then than when
    where which what who why how all any some more please add make use need want like just also now new get got let
    have has had there here into out up about file files code change update create fix write der die das und ein
    eine ist mit für auf de la el los las un una que en por para le les des
"""
_COMMON: Final = frozenset(_COMMON_WORDS.split())


def content_words(words: Sequence[str]) -> frozenset[str]:
    """Return what a text is about: its words without the common ones, cut to their first six letters."""
    return frozenset(word[:6] for word in words if word not in _COMMON and len(word) > 1)


def goal_of(spoken: Spoken) -> str:
    """Return the sentence of the prompt that says what is wanted, at most `GOAL_CHARACTERS` long; empty without one."""
    if _PLAN.search(spoken.text[:400]) and (title := _HEADING.search(spoken.text[:2_000])):
        return _cut(title.group(1))
    for match in _SENTENCE.finditer(spoken.text[:2_000]):
        sentence = _PREFACE.sub("", match.group(), count=1).strip(" \t\n#*->\"'")
        sentence = sentence.strip("`") if sentence.count("`") % 2 or "`" not in sentence.strip("`") else sentence
        if _says_something(sentence):
            return _cut(_capitalised(sentence))
    return ""


def _capitalised(sentence: str) -> str:
    """Return `sentence` with a capital letter first, unless it begins with a name out of code."""
    first = sentence.split(maxsplit=1)[0]
    plain = first.rstrip(",:;.!?").replace("'", "").isalpha() and first.islower()
    return sentence[:1].upper() + sentence[1:] if plain else sentence


def _says_something(sentence: str) -> bool:
    words = sentence.lower().split()
    if any(sign > "\u3040" for sign in sentence):  # written without spaces
        return len(sentence) > 2 * LEAST_WORDS
    return len(words) >= LEAST_WORDS and len(content_words(words) - _POINTING) >= LEAST_CONTENT


_POINTING_WORDS: Final = """
    it that this option way same thing things do implem go ahead continue again first second one next step plan
    it. that. way. let's now
"""
_POINTING: Final = frozenset(word[:6] for word in _POINTING_WORDS.split())


def turns(spoken: Spoken, intent: Intent | None, goal: str, goal_intent: Intent | None, about: frozenset[str]) -> bool:
    """Tell whether a prompt gives the session another goal than `goal`.

    `about` are content words of what the session is about.
    """
    if intent is None or not goal_of(spoken):
        return False
    if not goal or _PLAN.search(spoken.text[:400]):
        return True
    if intent not in WORKING or len(spoken.words) < TURN_WORDS:
        return False
    if goal_intent not in WORKING:
        return True
    announced = _TURN.search(spoken.text[:300]) is not None
    if intent in ACCOMPANYING and not announced:
        return False
    said = content_words(spoken.words[:200])
    share = len(said & about) / len(said) if said else 1.0
    return share < (2 * NEAR if announced else NEAR)


def _cut(text: str) -> str:
    shown = " ".join(text.split())
    if len(shown) <= GOAL_CHARACTERS:
        return shown
    return shown[: GOAL_CHARACTERS - 1].rsplit(" ", 1)[0].rstrip(" ,;:") + "\u2026"
