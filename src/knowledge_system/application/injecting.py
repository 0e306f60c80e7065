"""What an agent is shown unasked, and what it is told about why: the verbs around `injection`."""

from __future__ import annotations

import asyncio
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from knowledge_system.domain.clock import to_public
from knowledge_system.domain.errors import KnowledgeError
from knowledge_system.domain.events import FeedbackGiven
from knowledge_system.domain.feedback import Feedback, FeedbackVerdict
from knowledge_system.domain.injection import InjectionRequest, Occasion, Trust
from knowledge_system.domain.search import Scope, SearchRequest
from knowledge_system.domain.truth import Page
from knowledge_system.injection import deciding
from knowledge_system.injection.deciding import Offer, Rules, Situation, bar, decide, nothing, worth_asking
from knowledge_system.injection.rendering import Shown
from knowledge_system.injection.trust import trust_of
from knowledge_system.lifecycle.feedback import judged
from knowledge_system.retrieval.ranking import age
from knowledge_system.trajectory.intents import shipped_model
from knowledge_system.transcripts.projects import Projects

if TYPE_CHECKING:
    from collections.abc import Sequence

    from knowledge_system.application.compose import Parts
    from knowledge_system.application.system import KnowledgeSystem
    from knowledge_system.domain.injection import Injection
    from knowledge_system.domain.knowledge import KnowledgeItem
    from knowledge_system.domain.search import SearchHit
    from knowledge_system.storage.database import PathState

Document = dict[str, Any]
LOOKED_AT = 8
"""Items that are considered for one occasion."""
QUERY_CHARACTERS = 2000


async def inject(system: KnowledgeSystem, raw: Document) -> Document:
    """Decide what an agent is shown now: `text` (empty for nothing), and the decisions. Never raises for a refusal."""
    parts = system.parts
    request = InjectionRequest(
        occasion=Occasion(raw["occasion"]),
        session_id=raw["session_id"],
        agent=raw["agent"],
        cwd=raw["cwd"],
        prompt=raw.get("prompt", ""),
    )
    path = (await parts.database()).path_state()
    allowed = parts.settings.tree.injection.deadline / 1000
    deadline = min(allowed, float(raw.get("deadline", allowed)))
    try:
        async with asyncio.timeout(deadline):
            decided = await _decided(system, request, path)
    except TimeoutError:
        decided = nothing(request, parts.clock.now(), "deadline", f"{deadline * 1000:.0f} ms")
    except KnowledgeError as error:
        decided = nothing(request, parts.clock.now(), "failed", error.message)
    await path.injections.record(decided.decisions)
    return {"text": decided.text, "injected": [one.item_id for one in decided.decisions if one.injected]}


async def why_injected(parts: Parts, session_id: str, limit: int) -> Document:
    """Return each decision of a session, injections and refusals, oldest first, with the titles of the items."""
    path = (await parts.database()).path_state()
    decisions = await path.injections.of_session(session_id, limit)
    items = await (await parts.truth()).items.get([one.item_id for one in decisions if one.item_id])
    rows = [
        {
            **asdict(one),
            "at": to_public(one.at),
            "occasion": one.occasion.value,
            "title": items[one.item_id].title if one.item_id in items else "",
        }
        for one in decisions
    ]
    return {"session_id": session_id, "results": rows}


async def give_feedback(system: KnowledgeSystem, raw: Document) -> Document:
    """Record a verdict on an item and let it act: on the confidence, or, when it is wrong, on whether it is found."""
    parts = system.parts
    parts.own()
    truth, path = await parts.truth(), (await parts.database()).path_state()
    verdict, identity = FeedbackVerdict(raw["verdict"]), str(raw["id"])
    now = parts.clock.now()
    given = Feedback(
        identity, verdict, raw.get("actor", "user"), now, raw.get("session_id", ""), raw.get("note", "")[:2000]
    )
    await path.feedback.record(given)
    parts.emit(FeedbackGiven(identity, verdict.value))
    item = (await truth.items.get([identity]))[identity]
    confidence = judged(item.confidence, verdict)
    if verdict is FeedbackVerdict.WRONG:
        await truth.items.deprecate(identity, now)
    else:
        await truth.items.believe(identity, confidence)
    await (await parts.indexer()).catch_up()
    after = (await truth.items.get([identity]))[identity]
    return {
        "id": identity,
        "verdict": verdict.value,
        "confidence": round(after.confidence, 4),
        "status": after.status.value,
    }


async def _decided(system: KnowledgeSystem, request: InjectionRequest, path: PathState) -> Injection:
    parts = system.parts
    chosen = parts.settings.tree.injection
    now = parts.clock.now()
    project = Projects().of_cwd(request.cwd) if request.cwd else ""
    if not chosen.enabled or project in chosen.disabled_projects:
        return nothing(request, now, "switched-off", project if chosen.enabled else "injection.enabled")
    if reason := worth_asking(request):
        return nothing(request, now, reason)
    latest = (await path.trajectories.latest([request.session_id])).get(request.session_id)
    situation = Situation(project, await path.injections.shown(request.session_id), latest, now)
    rules = Rules(
        deciding.DEFAULT_THRESHOLD if chosen.threshold is None else chosen.threshold,
        chosen.max_items,
        chosen.max_tokens,
    )
    if request.occasion is Occasion.SESSION_START:
        offers = await _briefing(parts, project, situation, path)
    else:
        offers = await _recalled(system, request, situation, path)
    return decide(request, await _trusted(parts, offers, situation, rules), situation, rules)


async def _recalled(
    system: KnowledgeSystem, request: InjectionRequest, situation: Situation, path: PathState
) -> list[Offer]:
    """Return what a search for the prompt finds, best first."""
    wanted = shipped_model().classify(request.prompt, situation.point.intent if situation.point else None).intent
    question = SearchRequest(
        request.prompt[:QUERY_CHARACTERS], scope=Scope.ITEMS, limit=LOOKED_AT, threshold=0.0, for_intent=wanted
    )
    hits = (await system.find(question)).results
    verdicts = await path.feedback.about([hit.id for hit in hits])
    return [_offer(hit, _harm(verdicts.get(hit.id, ())), situation) for hit in hits]


async def _briefing(parts: Parts, project: str, situation: Situation, path: PathState) -> list[Offer]:
    """Return the surest items of the project: what a new session should not have to find out again."""
    if not project:
        return []
    items, _ = await (await parts.truth()).items.page(Page(limit=8 * LOOKED_AT, project=project))
    best = sorted(items, key=lambda item: (-item.confidence, -item.support, item.id))[:LOOKED_AT]
    verdicts = await path.feedback.about([item.id for item in best])
    return [_offer_item(item, _harm(verdicts.get(item.id, ())), situation) for item in best]


async def _trusted(parts: Parts, offers: Sequence[Offer], situation: Situation, rules: Rules) -> list[Offer]:
    """Return the offers with the trust of those that could be injected; the rest need no look at their evidence."""
    truth = await parts.truth()
    near = [offer.shown.id for offer in offers if offer.score >= bar(offer, situation, rules)]
    items = await truth.items.get(near)
    exchanges = await truth.exchanges.get([one.exchange_id for item in items.values() for one in item.evidence])
    trust = {key: trust_of(item, exchanges) for key, item in items.items()}
    return [_with_trust(offer, trust.get(offer.shown.id)) for offer in offers]


def _with_trust(offer: Offer, trust: Trust | None) -> Offer:
    return offer if trust is None else replace(offer, trust=trust)


def _harm(verdicts: Sequence[Feedback]) -> int:
    good = sum(one.verdict is FeedbackVerdict.HELPFUL for one in verdicts)
    return max(0, len(verdicts) - 2 * good)


def _offer(hit: SearchHit, harmful: int, situation: Situation) -> Offer:
    source = f"{hit.source[0].path} #{hit.source[0].exchange_index}" if hit.source else hit.session_id
    shown = Shown(
        id=hit.id,
        type=hit.type or hit.kind,
        title=hit.title,
        content=hit.content,
        project=hit.project,
        age=age(hit.created_at, situation.now),
        confidence=hit.confidence or 0.0,
        source=source,
    )
    return Offer(shown, hit.score, Trust.AGENT, hit.sensitivity, bool(hit.superseded_by), harmful)


def _offer_item(item: KnowledgeItem, harmful: int, situation: Situation) -> Offer:
    shown = Shown(
        id=item.id,
        type=item.type.value,
        title=item.title,
        content=item.content,
        project=item.project,
        age=age(item.valid_from, situation.now),
        confidence=item.confidence,
        source=f"session {item.session_id}",
    )
    return Offer(shown, item.confidence, Trust.AGENT, item.sensitivity, item.superseded_by is not None, harmful)
