"""Spans nest across tasks, cost nothing without a trace, and become lines, durations and requests to a collector."""

from __future__ import annotations

import asyncio
import gzip
import json
import queue
import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from knowledge_system.domain.errors import UsageError
from knowledge_system.domain.events import Event, TracesExported
from knowledge_system.domain.tracing import (
    MOST_SPANS,
    Caller,
    Trace,
    Tracer,
    current_trace,
    detached,
    parse_traceparent,
    span,
    traceparent,
)
from knowledge_system.operations.exporting import WAITING, TraceExporter, full_endpoint
from knowledge_system.operations.tracing import RECENT, SLOWEST, TOLD, SlowRequests, TraceStore, trace_document


class HandClock:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.moment = datetime(2026, 5, 1, tzinfo=UTC)

    def now(self) -> datetime:
        return self.moment


class Traced:
    """A tracer and the traces it handed out."""

    def __init__(self) -> None:
        self.traces: list[Trace] = []
        self.tracer = Tracer(self.traces.append)


@pytest.fixture
def traced() -> Traced:
    return Traced()


async def test_spans_nest_across_tasks(traced: Traced) -> None:
    async def step(name: str) -> None:
        with span(name):
            await asyncio.sleep(0)
            with span(f"{name}-inner"):
                await asyncio.sleep(0)

    with traced.tracer.trace("knowledge-search"):
        await asyncio.gather(step("a"), step("b"))

    (trace,) = traced.traces
    by_name = {one.name: one for one in trace.spans}
    parents = {
        name: next(o.name for o in trace.spans if o.id == one.parent) for name, one in by_name.items() if one.parent
    }
    assert parents == {
        "a": "knowledge-search", "b": "knowledge-search", "a-inner": "a", "b-inner": "b",
    }  # fmt: skip
    assert all(one.began >= 0 and 0 <= one.seconds <= trace.seconds for one in trace.spans)
    assert len(trace.id) == 32
    assert len({one.id for one in trace.spans}) == 5


async def test_without_a_sink_nothing_is_traced() -> None:
    with Tracer().trace("search"), span("step") as step:
        step.set(hits=3)
        assert current_trace() is None
        assert traceparent() is None


async def test_an_error_is_told_by_its_class_and_never_by_its_words(traced: Traced) -> None:
    with pytest.raises(ValueError, match="secret words"), traced.tracer.trace("search"), span("step"):
        raise ValueError("secret words")

    (trace,) = traced.traces
    assert [(one.status, one.error) for one in trace.spans] == [("error", "ValueError")] * 2
    assert "secret words" not in json.dumps(trace_document(trace))


async def test_giving_up_is_no_error(traced: Traced) -> None:
    async def work() -> None:
        with traced.tracer.trace("search"), span("step"):
            await asyncio.sleep(60)

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert {one.status for one in traced.traces[0].spans} == {"cancelled"}


async def test_what_goes_on_after_its_trace_belongs_to_none(traced: Traced) -> None:
    goes_on, ended = asyncio.Event(), asyncio.Event()

    async def later() -> None:
        await goes_on.wait()
        with span("late"), traced.tracer.trace("own"):
            pass
        ended.set()

    with traced.tracer.trace("request"):
        task = asyncio.create_task(later())
    goes_on.set()
    await ended.wait()
    await task
    assert [[one.name for one in trace.spans] for trace in traced.traces] == [["request"], ["own"]]


async def test_a_trace_below_another_is_a_span_of_it(traced: Traced) -> None:
    with traced.tracer.trace("POST /v1/search"), traced.tracer.trace("knowledge-search"), span("rank-results"):
        pass
    assert [one.name for one in traced.traces[0].spans] == ["POST /v1/search", "knowledge-search", "rank-results"]


async def test_a_generator_has_a_span_that_is_nobodys_surroundings(traced: Traced) -> None:
    with traced.tracer.trace("stream"):
        step = detached("chat")
        with span("elsewhere"):
            pass
        step.end()
    assert {one.parent for one in traced.traces[0].spans[1:]} == {traced.traces[0].root.id}


async def test_spans_are_bounded(traced: Traced) -> None:
    with traced.tracer.trace("learn"):
        for _ in range(MOST_SPANS + 10):
            with span("step"):
                pass
    assert len(traced.traces[0].spans) == MOST_SPANS
    assert traced.traces[0].dropped == 11


async def test_a_trace_of_a_caller_is_continued(traced: Traced) -> None:
    caller = parse_traceparent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    with traced.tracer.trace("request", caller):
        mine = traceparent()
    assert caller == Caller("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")
    assert (traced.traces[0].id, traced.traces[0].root.parent) == caller
    assert mine == f"00-{caller.trace_id}-{traced.traces[0].root.id}-01"


@pytest.mark.parametrize(
    "header",
    [
        "", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331", "00-" + "0" * 32 + "-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-" + "0" * 16 + "-01",
        "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
    ],
)  # fmt: skip
def test_what_is_no_traceparent_begins_a_trace_of_its_own(header: str) -> None:
    assert parse_traceparent(header) is None


def finished(tracer: Tracer, operation: str = "search", seconds: float = 0.0, *, interactive: bool = True) -> None:
    with tracer.trace(operation, interactive=interactive):
        with span("vector-search", dimension=384):
            pass
        trace = current_trace()
        assert trace is not None
        trace.root.seconds = seconds  # as if it had taken so long


def test_the_store_keeps_the_newest_the_slowest_and_durations(traced: Traced) -> None:
    store = TraceStore()
    tracer = Tracer(store)
    for number in range(RECENT + 50):
        finished(tracer, seconds=(number * 37) % 211)

    assert len(store.recent()) == RECENT
    assert store.recent()[0].seconds == ((RECENT + 49) * 37) % 211
    slowest = [trace.seconds for trace in store.slowest()]
    assert len(slowest) == SLOWEST
    assert slowest == sorted(slowest, reverse=True)
    assert len(store.durations("vector-search")) == RECENT + 50
    assert store.durations("nothing") == []
    assert store.names() == ["search", "vector-search"]
    assert traced.traces == []


def test_a_slow_request_is_told_as_a_whole_and_background_work_is_not() -> None:
    counted: list[str] = []
    lines: list[Any] = []
    tracer = Tracer(SlowRequests(lambda: 2.0, counted.append, lines.append))
    finished(tracer, "POST /v1/search", 2.5)
    finished(tracer, "POST /v1/search", 1.9)
    finished(tracer, "learn", 60, interactive=False)

    assert counted == ["POST /v1/search"]
    (line,) = lines
    assert line["seconds"] == 2.5
    assert [one["name"] for one in line["spans"]] == ["POST /v1/search", "vector-search"]
    assert line["spans"][1]["attributes"] == {"dimension": 384}


def test_many_slow_requests_a_minute_are_counted_and_no_longer_told() -> None:
    counted: list[str] = []
    lines: list[Any] = []
    clock = HandClock()
    tracer = Tracer(SlowRequests(lambda: 2.0, counted.append, lines.append), clock)
    for _ in range(TOLD + 5):
        finished(tracer, seconds=2.5)
    assert (len(counted), len(lines)) == (TOLD + 5, TOLD)
    clock.moment += timedelta(minutes=1)
    finished(tracer, seconds=2.5)
    finished(tracer, seconds=2.5)
    assert len(counted) == TOLD + 7
    assert [line.get("left_out") for line in lines[TOLD:]] == [5, None]


class Collector(HTTPServer):
    """A collector on a free port, that answers with `status`."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Received)
        self.bodies: queue.Queue[tuple[str, bytes]] = queue.Queue()
        self.status = 200
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Received(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        self.server.bodies.put((self.path, body))
        self.send_response(self.server.status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 -- the name it has
        pass


@pytest.fixture
def collector() -> Iterator[Collector]:
    server = Collector()
    yield server
    server.shutdown()
    server.server_close()


def test_a_collector_receives_traces_over_otlp(collector: Collector) -> None:
    told: list[Event] = []
    exporter = TraceExporter(collector.url, {"service.name": "knowledge-system"}, told.append)
    finished(Tracer(exporter), "POST /v1/search", 0.25)
    path, body = collector.bodies.get(timeout=60)
    exporter.close()

    sent = ExportTraceServiceRequest.FromString(body)
    (resource,) = sent.resource_spans
    root, step = sorted(resource.scope_spans[0].spans, key=lambda one: len(one.parent_span_id))
    assert path == "/v1/traces"
    assert resource.resource.attributes[0].value.string_value == "knowledge-system"
    assert (root.name, step.name) == ("POST /v1/search", "vector-search")
    assert step.parent_span_id == root.span_id
    assert root.end_time_unix_nano - root.start_time_unix_nano == 250_000_000
    assert told == [TracesExported("sent", 1)]


def test_a_collector_that_refuses_loses_traces_and_nothing_else(collector: Collector) -> None:
    told: list[Event] = []
    collector.status = 400
    exporter = TraceExporter(collector.url, {}, told.append)
    finished(Tracer(exporter))
    exporter.close()
    assert told == [TracesExported("failed", 1, "the collector did not take them")]


def test_traces_that_cannot_be_sent_say_why_and_do_not_end_the_thread(collector: Collector) -> None:
    told: queue.Queue[TracesExported] = queue.Queue()
    exporter = TraceExporter(collector.url, {}, told.put)
    exporter("no trace")  # type: ignore[arg-type]
    first = told.get(timeout=60)
    finished(Tracer(exporter))
    second = told.get(timeout=60)
    exporter.close()
    assert (first.outcome, first.reason.partition(":")[0]) == ("failed", "AttributeError")
    assert second == TracesExported("sent", 1)


def test_nobody_waits_for_a_collector_that_does_not_answer() -> None:
    told: queue.Queue[TracesExported] = queue.Queue()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        exporter = TraceExporter(f"http://127.0.0.1:{silent.getsockname()[1]}", {}, told.put, seconds=3.0)
        tracer = Tracer(exporter)
        for _ in range(3 * WAITING):
            finished(tracer)
        assert told.get(timeout=60).outcome in {"dropped", "failed"}, "what waits is bounded, and so is the wait"


@pytest.mark.parametrize(
    ("given", "used"),
    [("http://c:4318", "http://c:4318/v1/traces"), ("http://c:4318/", "http://c:4318/v1/traces"), ("https://c/x", "https://c/x")],
)  # fmt: skip
def test_a_base_address_gets_the_path_of_otlp(given: str, used: str) -> None:
    assert full_endpoint(given) == used


@pytest.mark.parametrize("given", ["", "c:4318", "ftp://c", "http://", "http://[broken"])
def test_what_is_no_address_is_refused(given: str) -> None:
    with pytest.raises(UsageError):
        full_endpoint(given)
