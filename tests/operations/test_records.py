from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowledge_system.domain.errors import UsageError
from knowledge_system.domain.knowledge import Evidence, ItemStatus, KnowledgeItem, KnowledgeType
from knowledge_system.domain.sensitivity import Sensitivity
from knowledge_system.domain.sessions import Exchange, ExchangeFacts, Session, TokenUsage, ToolCall
from knowledge_system.operations.records import dump_exchange, dump_item, dump_session, parse

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
MOMENTS = st.none() | st.datetimes(timezones=st.just(UTC), min_value=datetime(1, 1, 1), max_value=datetime(9999, 1, 1))  # noqa: DTZ001 -- hypothesis adds the zone
LEVELS = st.sampled_from(Sensitivity)

TOOLS = st.builds(ToolCall, TEXT, TEXT, TEXT, st.booleans(), st.none() | TEXT)
FACTS = st.builds(
    ExchangeFacts,
    files=st.lists(TEXT, max_size=2).map(tuple),
    commands=st.lists(TEXT, max_size=2).map(tuple),
    model=TEXT,
    usage=st.builds(TokenUsage, st.integers(0, 9), st.integers(0, 9), st.integers(0, 9), st.integers(0, 9)),
    interrupted=st.booleans(),
    git_branch=TEXT,
    notes=st.lists(TEXT, max_size=2).map(tuple),
)
EXCHANGES = st.builds(
    Exchange,
    id=TEXT,
    session_id=TEXT,
    index=st.integers(0, 10_000),
    path=TEXT,
    project=TEXT,
    agent=TEXT,
    user=TEXT,
    assistant=TEXT,
    content_hash=TEXT,
    timestamp=MOMENTS,
    tools=st.lists(TOOLS, max_size=2).map(tuple),
    facts=FACTS,
    sensitivity=LEVELS,
    redactions=st.integers(0, 5),
    intent=st.none() | TEXT,
)
SESSIONS = st.builds(
    Session,
    TEXT,
    TEXT,
    TEXT,
    TEXT,
    TEXT,
    TEXT,
    TEXT,
    TEXT,
    st.none() | TEXT,
    MOMENTS,
    MOMENTS,
    st.just({"a": [1, "b"]}),
)
SOME_TIME = st.datetimes(timezones=st.just(UTC), min_value=datetime(1970, 1, 1), max_value=datetime(2100, 1, 1))  # noqa: DTZ001 -- as above
ITEMS = st.builds(
    KnowledgeItem,
    id=TEXT,
    type=st.sampled_from(KnowledgeType),
    title=TEXT,
    content=TEXT,
    confidence=st.floats(0, 1),
    project=TEXT,
    session_id=TEXT,
    created_at=SOME_TIME,
    updated_at=SOME_TIME,
    valid_from=SOME_TIME,
    evidence=st.lists(st.builds(Evidence, TEXT, st.sampled_from(["user", "assistant"]), st.just(1), st.just(4))).map(
        tuple
    ),
    sensitivity=LEVELS,
    status=st.sampled_from(ItemStatus),
    valid_to=MOMENTS,
    superseded_by=st.none() | TEXT,
    intent=st.none() | TEXT,
    support=st.integers(1, 9),
    metadata=st.just({"files": ["a.py"], "n": 1}),
)


@given(EXCHANGES)
def test_exchanges_survive_the_round_trip(exchange: Exchange) -> None:
    assert parse(json.dumps(dump_exchange(exchange)), 1) == exchange


@given(SESSIONS)
def test_sessions_survive_the_round_trip(session: Session) -> None:
    assert parse(json.dumps(dump_session(session)), 1) == session


@given(ITEMS)
def test_items_survive_the_round_trip(item: KnowledgeItem) -> None:
    assert parse(json.dumps(dump_item(item, [], "fresh")), 1) == item


def test_an_exchange_has_the_fields_of_the_contract() -> None:
    record = dump_exchange(Exchange("x1", "s1", 3, "p.jsonl", "api", "codex", "u", "a", "h"))

    wanted = {
        "kind",
        "id",
        "session_id",
        "exchange_index",
        "path",
        "project",
        "timestamp",
        "user",
        "assistant",
        "tools",
    }
    assert wanted | {"sensitivity"} <= set(record)
    assert record["kind"] == "exchange"
    assert record["exchange_index"] == 3


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        "1",
        "null",
        '{"kind": "item"}',
        '{"kind": "dream"}',
        '{"kind": "exchange", "id": 5}',
        '{"kind": "session", "id": "s", "started_at": "yesterday"}',
        "[" * 100_000,
    ],
)
def test_a_line_that_is_no_record_is_named_with_its_number(line: str) -> None:
    with pytest.raises(UsageError, match="line 7"):
        parse(line, 7)
