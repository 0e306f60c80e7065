"""How far an exchange got, and how general it is: proven or only proposed, about this code base or about any."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from knowledge_system.extraction.signals import last_statements

if TYPE_CHECKING:
    from knowledge_system.extraction.signals import Signals

ASKED_CHARACTERS = 400
"""What is wanted stands in the first lines of a prompt."""

_SURVEY = re.compile(
    r"(?i)\b(?:is there (?:a|any|code)|do we (?:ever|already|have)|does (?:it|the code|our|this) (?:already|ever)"
    r"|where (?:is|are|do|does|in)"
    r"|(?:can|could) you (?:check|look|find|tell|explain|show|list|summari[sz]e|review|give me)"
    r"|look (?:at|into|through|over)|check (?:if|whether)|explain @|summari[sz]e"
    r"|go (?:over|through) (?:all|the|your)|what (?:did|have) you|which files?|show me|list (?:all|the)"
    r"|detailed (?:summary|explanation))\b"
)
_HERE = re.compile(
    r"(?i)@\w|\b(?:our|my|we|the (?:code|repo|project|app|file|function|class|script)"
    r"|this (?:code|repo|project|file|function|class))\b"
    r"|\b[\w/-]+\.(?:py|ts|tsx|js|go|rs|java|rb|md|json|ya?ml)\b"
)


def course(signals: Signals) -> dict[str, float]:
    """Return the course by name, each in [0, 1].

    `unproven`: code is proposed, but no tool ran and the user did not accept it; `survey`: the prompt asks what this
    code base holds; `general_question`: it asks about no code base in particular; `final_hedge`: how much of the end
    is guessing.
    """
    exchange, work = signals.exchange, signals.work
    asked = exchange.user[:ASKED_CHARACTERS]
    proposed = bool(signals.prose.code) or "<<<<<<< SEARCH" in exchange.assistant
    final = list(last_statements(signals))
    return {
        "unproven": float(proposed and not work.calls and not signals.reception.accepted),
        "survey": float(_SURVEY.search(asked) is not None),
        "general_question": float(signals.ask.question and _HERE.search(asked) is None),
        "final_hedge": sum("hedge" in found for _, found in final) / max(1, len(final)),
    }
