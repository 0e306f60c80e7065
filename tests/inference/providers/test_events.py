"""Streams are cut the same way wherever the network cuts them."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowledge_system.inference import events
from knowledge_system.inference.events import EventCutter, EventTooLong
from knowledge_system.inference.wire import Event

SSE = (
    ": comment\r\n\r\nevent: greeting\ndata: käse\u2028one line\n\n"
    "data: two\r\ndata: lines\r\n\r\nid: 7\nretry: 10\n\ndata:tight\n\ndata\n\nevent: empty\n\ndata: last"
)
EXPECTED = [
    Event("käse\u2028one line", "greeting"),
    Event("two\nlines"),
    Event("tight"),
    Event(""),
    Event("last"),
]


def cut(raw: bytes, positions: list[int], style: str = "sse") -> list[Event]:
    cutter = EventCutter(style)
    edges = sorted({0, len(raw), *(position % (len(raw) + 1) for position in positions)})
    found = [event for start, end in pairwise(edges) for event in cutter.feed(raw[start:end])]
    return [*found, *cutter.end()]


@given(st.lists(st.integers(0, 1000), max_size=30))
def test_events_do_not_depend_on_the_chunks(positions: list[int]) -> None:
    assert cut(SSE.encode(), positions) == EXPECTED


def test_every_byte_may_come_alone() -> None:
    assert cut(SSE.encode(), list(range(len(SSE.encode())))) == EXPECTED


def test_all_line_ends_are_the_same() -> None:
    for end in ("\n", "\r\n", "\r"):
        assert cut(f"data: a{end}{end}data: b{end}{end}".encode(), []) == [Event("a"), Event("b")]


@given(st.lists(st.integers(0, 1000), max_size=10))
def test_json_lines(positions: list[int]) -> None:
    raw = '{"a": "ä"}\n\n{"b": 2}\r\n{"c": 3}'.encode()
    assert [event.data for event in cut(raw, positions, "ndjson")] == ['{"a": "ä"}', '{"b": 2}', '{"c": 3}']


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=5), st.sampled_from(["sse", "ndjson"]))
def test_no_bytes_break_it(raw: bytes, positions: list[int], style: str) -> None:
    assert all(isinstance(event.data, str) for event in cut(raw, positions, style))


@pytest.mark.parametrize("endless", [b"x" * 100, b"data: abcdefgh\n" * 20])
def test_endless_lines_and_events_end(endless: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "MOST_BYTES", 64)
    with pytest.raises(EventTooLong):
        list(EventCutter("sse").feed(endless))
