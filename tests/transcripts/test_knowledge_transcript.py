"""Our own documented format, in both forms."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from tests.transcripts.samples import Result, jsonl

if TYPE_CHECKING:
    from collections.abc import Callable

HEAD = {
    "format": "knowledge-transcript/1",
    "session": {"id": "s1", "project": "api", "agent": "any", "started_at": "2026-01-01T00:00:00Z"},
}
FULL = {
    "timestamp": "2026-01-01T00:01:00+01:00", "user": "why?", "assistant": "Because.", "files": ["src/a.py", 5],
    "tools": [{"name": "bash", "input": {"command": "ls"}, "output": {"rows": 2}, "is_error": True}],
}  # fmt: skip


def _document(*exchanges: Any, **more: Any) -> str:
    return json.dumps({**HEAD, "exchanges": list(exchanges), **more}, indent=2)


@pytest.mark.parametrize("text", [_document(FULL), jsonl([HEAD, FULL]), json.dumps({**HEAD, "exchanges": [FULL]})])
def test_the_three_ways_to_write_it(read: Callable[..., Result], text: str) -> None:
    result = read(text)
    (exchange,) = result.exchanges
    assert (exchange.user, exchange.assistant) == ("why?", "Because.")
    assert exchange.timestamp == datetime(2025, 12, 31, 23, 1, tzinfo=UTC)
    assert [(tool.name, tool.input, tool.output, tool.is_error) for tool in exchange.tools] == [
        ("bash", "ls", '{"rows": 2}', True)
    ]
    assert exchange.facts.files == ("src/a.py",)
    session = exchange.session
    assert (session.id, session.project, session.agent) == ("s1", "api", "any")
    assert (session.format, session.started_at) == ("knowledge-transcript/1", datetime(2025, 12, 31, 23, 1, tzinfo=UTC))
    assert not result.warnings


@pytest.mark.parametrize("exchange", [{"user": "u"}, {"assistant": "a"}])
def test_one_text_is_enough(read: Callable[..., Result], exchange: dict[str, str]) -> None:
    result = read(_document(exchange))
    assert (result.prompts, result.answers) == ([exchange.get("user", "")], [exchange.get("assistant", "")])


def test_keys_in_any_order(read: Callable[..., Result]) -> None:
    text = json.dumps({"exchanges": [{"user": "u"}], "session": HEAD["session"], "format": HEAD["format"]})
    assert read(text).exchanges[0].session.id == "s1"


def test_without_a_session(read: Callable[..., Result]) -> None:
    text = json.dumps({"format": "knowledge-transcript/1", "exchanges": [{"user": "u"}]})
    one, two = read(text, "p/x.json"), read(text, "q/y.json")
    assert one.exchanges[0].session.id == two.exchanges[0].session.id
    assert one.exchanges[0].session.agent == "unknown"
    assert one.exchanges[0].session.project == "p"


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (json.dumps(HEAD, indent=1).replace('"session"', '"exchange": [], "session"'), '"exchanges" is missing'),
        (json.dumps({**HEAD, "exchanges": {"user": "u"}}), '"exchanges" is not a list'),
        (json.dumps({**HEAD, "exchanges": None}), '"exchanges" is not a list'),
        (json.dumps({**HEAD, "format": "knowledge-transcript/2", "exchanges": []}), "this version reads"),
        (jsonl([{**HEAD, "format": "knowledge-transcript/2"}, {"user": "u"}]), "this version reads"),
        (json.dumps({"exchanges": [{"user": "u"}]}), 'add "format"'),
    ],
)
def test_what_breaks_the_contract_is_skipped_with_the_reason(
    read: Callable[..., Result], document: str, reason: str
) -> None:
    result = read(document)
    assert not result.exchanges
    assert reason in result.skipped[0].reason
    assert "\n" not in result.skipped[0].reason


def test_wrong_values_are_told_with_their_place(read: Callable[..., Result]) -> None:
    bad = {"user": "ok", "assistant": 5, "timestamp": "yesterday", "tools": [{"input": 1}, "x"], "files": "a.py"}
    result = read(_document({"user": "first"}, bad, 7, {}, {"user": "last", "tools": {}}))
    assert result.prompts == ["first", "ok", "last"]
    for expected in (
        'exchanges[1].assistant: "assistant" must be a text',
        'exchanges[1].timestamp: "timestamp" must be a time',
        'exchanges[1].tools[0]: a tool call must be an object with a "name": skipped (2 times)',
        "exchanges[2]: an exchange must be a JSON object",
        'exchanges[3]: an exchange needs a text "user" or "assistant"',
        'exchanges[4].tools: "tools" must be a list',
    ):
        assert expected in result.reasons


def test_lines_that_are_wrong_are_told_with_their_line(read: Callable[..., Result]) -> None:
    result = read(jsonl([HEAD, {"user": "a"}, {"user": 5}, {"nothing": 1}, {"user": "b"}]))
    assert result.prompts == ["a", "b"]
    assert 'line 3.user: "user" must be a text' in result.reasons
    assert 'line 3: an exchange needs a text "user" or "assistant": skipped (2 times)' in result.reasons


def test_a_session_of_wrong_types(read: Callable[..., Result]) -> None:
    text = json.dumps(
        {"format": "knowledge-transcript/1", "session": {"id": 5, "project": []}, "exchanges": [{"user": "u"}]}
    )
    result = read(text)
    assert result.exchanges[0].session.id.startswith("knowledge-transcript-")
    assert 'session.id: "id" must be a text' in result.reasons
    assert 'session.project: "project" must be a text' in result.reasons


def test_lines_without_an_exchange_say_so(read: Callable[..., Result]) -> None:
    result = read(jsonl([HEAD]))
    assert not result.exchanges
    assert "no exchange follows" in result.reasons


def test_a_document_that_breaks_off(read: Callable[..., Result]) -> None:
    text = _document({"user": "a"}, {"user": "b", "assistant": "c"})
    result = read(text[: text.index('"c"')])
    assert result.prompts == ["a", "b"]
    assert "exchanges[1]: the JSON breaks off here" in result.reasons
