"""Signals as numbers: the few features the judge weighs, each with a meaning that can be told to a user."""

from __future__ import annotations

import re
from math import log1p
from typing import TYPE_CHECKING

from knowledge_system.extraction.signals import FINAL_SENTENCES, identifiers, last_statements
from knowledge_system.extraction.statements import insight, ranked

if TYPE_CHECKING:
    from collections.abc import Mapping

    from knowledge_system.extraction.asks import Ask
    from knowledge_system.extraction.prose import Sentence
    from knowledge_system.extraction.signals import Signals

HARD_FLOOR_WORDS = 12
"""An answer with fewer words of prose states nothing that can be reused."""


def features(signals: Signals) -> dict[str, float]:
    """Return the features by name; counts are on a logarithmic scale, shares and flags in [0, 1]."""
    single = {**_answer(signals), **_ending(signals), **_ask(signals.ask), **_work(signals), **_reception(signals)}
    return {**single, **_about(signals), **_stories(single)}


def _answer(signals: Signals) -> dict[str, float]:
    statements = [(s, found) for s, found in signals.statements if "offer" not in found]
    counts = {name: sum(name in found for _, found in statements) for name in _COUNTED}
    substance = [s for s, found in statements if not found & _EMPTY_TALK]
    total = max(1, len(statements))
    firm = sum(1 for s, found in statements if _firm(s, found))
    return {
        "substance": log1p(sum(len(sentence.text.split()) for sentence in substance)),
        "identifiers": log1p(len(signals.identifiers)),
        "causes": log1p(counts["cause"]),
        "reasons": log1p(counts["reason"]),
        "choices": log1p(counts["choice"]),
        "facts": log1p(counts["fact"]),
        "done": log1p(counts["done"]),
        "advice": log1p(counts["advice"]),
        "results": log1p(counts["result"]),
        "firm_share": firm / total,
        "hedge_share": counts["hedge"] / total,
        "narration_share": counts["narration"] / total,
        "status_share": counts["status"] / total,
        "plan_share": counts["plan"] / total,
        "refusal": float(counts["refusal"] > 0),
        "code": log1p(len(signals.prose.code) + signals.exchange.assistant.count("<<<<<<< SEARCH")),
        "insight": insight(ranked(signals)),
    }


def _firm(sentence: Sentence, found: frozenset[str]) -> bool:
    """Tell whether the sentence states something definite: a mark of knowledge, or a plain statement about a name."""
    if found & _EMPTY_TALK or "hedge" in found:
        return False
    return bool(found & _FIRM) or (not found and bool(identifiers(sentence.text)))


_COUNTED = (
    "cause",
    "reason",
    "choice",
    "fact",
    "done",
    "advice",
    "result",
    "hedge",
    "narration",
    "status",
    "plan",
    "refusal",
)
_EMPTY_TALK = frozenset({"narration", "question", "assent", "refusal", "offer"})
_FIRM = frozenset({"cause", "reason", "choice", "fact", "done", "result"})


def _ending(signals: Signals) -> dict[str, float]:
    """Return how the answer ends: with a question, in the middle of work, or with its result."""
    final = list(last_statements(signals, FINAL_SENTENCES))
    said = [found for _, found in final if "offer" not in found]
    last = said[-1] if said else frozenset[str]()
    end = signals.exchange.assistant.rstrip()[-1:]
    return {
        "ends_asking": float(end in "?\uff1f" and bool(end)),
        "ends_midway": float(end == ":" or ("narration" in last and not last & {"result", "question"})),
        "ends_with_result": float(any("result" in found for _, found in final[-3:])),
        "asks_back": float(sum("question" in found for _, found in final) > 1),
    }


def _ask(ask: Ask) -> dict[str, float]:
    return {
        "ask_chore": float(ask.chore),
        "ask_question": float(ask.question),
        "ask_trouble": float(ask.trouble),
        "ask_error": float(bool(ask.errors)),
        "ask_plan": float(ask.plan),
        "ask_words": log1p(min(ask.words, 200)),
    }


def _work(signals: Signals) -> dict[str, float]:
    work = signals.work
    return {
        "edited": float(work.edits > 0 or "<<<<<<< SEARCH" in signals.exchange.assistant),
        "recovered": float(work.recovered),
        "checked": float(bool(work.checked)),
        "failed_last": float(work.failed_last),
        "tool_calls": log1p(work.calls),
    }


def _about(signals: Signals) -> dict[str, float]:
    """Return how much the exchange is about documents, tickets and plans rather than about how something works."""
    names = [name.lower() for name in (*signals.exchange.facts.files, *signals.identifiers) if "." in name]
    documents = sum(1 for name in names if _DOCUMENT.search(name))
    sources = sum(1 for name in names if _SOURCE.search(name))
    papers = sum(number for word, number in signals.vocabulary.items() if word in _PAPERWORK)
    return {
        "document_share": documents / (documents + sources) if documents else 0.0,
        "paperwork": min(1.0, papers / max(3, len(signals.prose.body))),
    }


_DOCUMENT = re.compile(r"\.(?:mdc?|txt|rst|adoc|docx?)$|changelog|readme|todo|backlog")
_SOURCE = re.compile(r"\.(?!mdc?$|txt$|rst$|adoc$|docx?$)[a-z]{1,5}$")
_PAPERWORK = frozenset(
    [
        "spec",
        "specs",
        "specification",
        "plan",
        "roadmap",
        "ticket",
        "tickets",
        "backlog",
        "task",
        "tasks",
        "changelog",
        "readme",
        "todo",
        "todos",
        "checklist",
        "milestone",
        "milestones",
        "document",
        "documents",
        "documentation",
        "docs",
        "proposal",
        "summary",
        "summarize",
        "summarise",
        "notes",
        "wording",
        "phrasing",
        "sentence",
    ]
)


def _stories(single: dict[str, float]) -> dict[str, float]:
    """Return the courses of an exchange that usually leave knowledge: repaired, explained, decided, delivered."""
    firm = single["firm_share"] * (1 - single["hedge_share"])
    done = min(1.0, single["done"])
    return {
        "repaired": float(single["ask_trouble"] and single["causes"] > 0) * firm * (1 - single["trouble_after"]),
        "explained": single["ask_question"] * min(1.0, (single["facts"] + single["reasons"]) / 2) * firm,
        "answered": single["ask_question"] * firm * (1 - single["ends_midway"]) * float(single["tool_calls"] < 1),
        "decided": min(1.0, single["choices"]) * min(1.0, single["reasons"]) * firm,
        "delivered": done * max(single["ends_with_result"], single["edited"], single["checked"]),
        "open_diagnosis": float(single["ask_trouble"]) * max(single["ends_asking"], single["corrected"]) * (1 - done),
        "only_proposed": single["ends_asking"] * (1 - single["ask_question"]) * (1 - done),
    }


def _reception(signals: Signals) -> dict[str, float]:
    seen = signals.reception
    return {
        "accepted": float(seen.accepted),
        "corrected": float(seen.corrected),
        "undone": float(seen.undone),
        "repeated": float(seen.repeated),
        "trouble_goes_on": float(seen.trouble and signals.ask.trouble),
        "trouble_after": float(seen.trouble),
    }


def ruled_out(signals: Signals) -> str:
    """Return why the exchange cannot be knowledge whatever the judge says, or an empty text."""
    exchange = signals.exchange
    if not exchange.assistant.strip():
        return "no answer"
    if exchange.facts.interrupted:
        return "interrupted"
    if exchange.assistant.rstrip().endswith(("Cancelled", "Canceled", "[Request interrupted by user]")):
        return "cancelled"
    statements = [s for s, found in signals.statements if not found & _EMPTY_TALK]
    if sum(len(sentence.text.split()) for sentence in statements) < HARD_FLOOR_WORDS and not _short_but_exact(signals):
        return "states nothing"
    if signals.reception.undone:
        return "undone by the next prompt"
    return ""


def _short_but_exact(signals: Signals) -> bool:
    """Tell whether a short answer to a question gives the very command or code that was asked for."""
    return signals.ask.question and bool(signals.prose.code) and bool(signals.prose.body)


def by_contribution(values: Mapping[str, float], most: int = 5) -> dict[str, float]:
    """Return the `most` largest contributions by magnitude, rounded for storage."""
    ranked = sorted(values.items(), key=lambda pair: (-abs(pair[1]), pair[0]))
    return {name: round(value, 3) for name, value in ranked[:most]}
