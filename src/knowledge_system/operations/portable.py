"""Export and import of everything learned and read."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from knowledge_system.domain.knowledge import Evidence, KnowledgeItem
from knowledge_system.domain.search import Scope
from knowledge_system.domain.sensitivity import Sensitivity, highest
from knowledge_system.domain.sessions import Exchange, ExchangeFacts, Session, ToolCall
from knowledge_system.domain.truth import Page
from knowledge_system.operations.records import Record, dump_exchange, dump_item, dump_session, parse

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from knowledge_system.domain.sensitivity import Gatekeeper
    from knowledge_system.domain.truth import Truth

PAGE = 500


@dataclass(slots=True)
class Imported:
    """What an import did."""

    new: int = 0
    known: int = 0
    redactions: int = 0


async def sources_of(truth: Truth, items: Iterable[KnowledgeItem]) -> dict[str, list[dict[str, Any]]]:
    """Return `{item id: [{path, session_id, exchange_index}]}` of the exchanges behind each item."""
    listed = list(items)
    ids = {evidence.exchange_id for item in listed for evidence in item.evidence}
    exchanges = await truth.exchanges.get(sorted(ids))
    return {item.id: _places(item, exchanges) for item in listed}


async def quoted(truth: Truth, item: KnowledgeItem) -> list[dict[str, Any]]:
    """Return the evidence of an item with the words it rests on, as they stand in the stored exchange."""
    exchanges = await truth.exchanges.get([evidence.exchange_id for evidence in item.evidence])
    return [
        {**asdict(one), "quote": getattr(exchanges[one.exchange_id], one.field)[one.start : one.end]}
        for one in item.evidence
        if one.exchange_id in exchanges
    ]


async def export(
    truth: Truth, scope: Scope, freshness: Callable[[KnowledgeItem], str]
) -> AsyncIterator[dict[str, Any]]:
    """Yield every record of `scope`, sessions and exchanges before the items that rest on them."""
    if scope is not Scope.ITEMS:
        async for session in _paged(truth.exchanges.sessions):
            yield dump_session(session)
        async for exchange in _paged(truth.exchanges.page):
            yield dump_exchange(exchange)
    if scope is not Scope.EXCHANGES:
        async for item in _paged(truth.items.page):
            sources = await sources_of(truth, [item])
            yield dump_item(item, sources[item.id], freshness(item))


async def load(truth: Truth, lines: Iterable[str], gatekeeper: Gatekeeper) -> Imported:
    """Store the records on `lines`, redacted once more at the door; known ids stay as they are.

    Raises UsageError at the first line that is no record; what came before it is stored.
    """
    tally = Imported()
    batch: list[Record] = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            batch.append(_scrubbed(parse(line, number), gatekeeper, tally))
        if len(batch) == PAGE:
            await _store(truth, batch, tally)
    await _store(truth, batch, tally)
    return tally


async def _store(truth: Truth, batch: list[Record], tally: Imported) -> None:
    new, known = await truth.items.load(batch)
    tally.new += new
    tally.known += known
    batch.clear()


async def _paged(read: Callable[[Page], Any]) -> AsyncIterator[Any]:
    page = Page(limit=PAGE, include_inactive=True)
    while True:
        rows, after = await read(page)
        for row in rows:
            yield row
        if after is None:
            return
        page = replace(page, after=after)


def _places(item: KnowledgeItem, exchanges: dict[str, Exchange]) -> list[dict[str, Any]]:
    wanted = dict.fromkeys(evidence.exchange_id for evidence in item.evidence)
    found = [exchanges[one] for one in wanted if one in exchanges]
    return [{"path": one.path, "session_id": one.session_id, "exchange_index": one.index} for one in found]


def _scrubbed(record: Record, gatekeeper: Gatekeeper, tally: Imported) -> Record:
    """Return `record` with every text in it redacted, at the level it has or the stricter one of its texts."""
    levels = [] if isinstance(record, Session) else [record.sensitivity]

    def scrub(text: str) -> str:
        clean, level = gatekeeper.scrub(text)
        tally.redactions += clean != text
        if level.rank > Sensitivity.INTERNAL.rank:
            levels.append(level)
        return clean

    if isinstance(record, Session):
        return _scrubbed_session(record, gatekeeper, tally)
    if isinstance(record, Exchange):
        texts: dict[str, Any] = {name: scrub(getattr(record, name)) for name in ("project", "user", "assistant")}
        tools = tuple(ToolCall(t.name, scrub(t.input), scrub(t.output), t.is_error, t.agent) for t in record.tools)
        facts = _scrubbed_facts(record.facts, scrub)
        return replace(record, **texts, tools=tools, facts=facts, sensitivity=highest(levels))
    texts = {name: scrub(getattr(record, name)) for name in ("project", "title", "content")}
    evidence = tuple(Evidence(e.exchange_id, e.field, max(0, e.start), max(0, e.end)) for e in record.evidence)
    metadata = _scrubbed_tree(record.metadata, scrub)
    return replace(record, **texts, metadata=metadata, sensitivity=highest(levels), evidence=evidence)


def _scrubbed_session(session: Session, gatekeeper: Gatekeeper, tally: Imported) -> Session:
    clean = gatekeeper.admit_session(session, gatekeeper.memory())
    tally.redactions += clean != session
    return clean


def _scrubbed_facts(facts: ExchangeFacts, scrub: Callable[[str], str]) -> ExchangeFacts:
    listed: dict[str, Any] = {name: tuple(map(scrub, getattr(facts, name))) for name in ("files", "commands", "notes")}
    return replace(facts, **listed, git_branch=scrub(facts.git_branch))


def _scrubbed_tree(value: Any, scrub: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return scrub(value)
    if isinstance(value, dict):
        return {scrub(key): _scrubbed_tree(inner, scrub) for key, inner in value.items()}
    return [_scrubbed_tree(inner, scrub) for inner in value] if isinstance(value, list) else value
