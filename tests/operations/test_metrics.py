"""Events in, series out: what is counted, and that no label can grow without bound."""

from __future__ import annotations

import pytest

from knowledge_system.domain.clock import SystemClock
from knowledge_system.domain.events import (
    AttemptCharged,
    BreakerOpened,
    CacheConsulted,
    Event,
    ExchangesIngested,
    ItemLearned,
    ItemRejected,
    ModelCalled,
    SearchAnswered,
    TextsEmbedded,
    UpkeepRan,
    VectorsSearched,
)
from knowledge_system.operations.exposition import Exposition
from knowledge_system.operations.metrics import MOST_VALUES, HitRate, Metrics
from knowledge_system.operations.series import EMBEDDING, INFERENCE, SEARCH, VECTOR_SEARCH

SENT = {"model": "m", "seconds": 1.5, "cached": False, "sensitivity": "public", "cost_nano": 0}


class Counted:
    """Metrics over an exposition, and what it says."""

    def __init__(self) -> None:
        self.exposition = Exposition()
        self.metrics = Metrics(self.exposition.series, SystemClock(), lambda: ["groq", "local"])

    def observe(self, *events: Event) -> Counted:
        for event in events:
            self.metrics.observe(event)
        return self

    def value(self, sample: str) -> float | None:
        lines = self.exposition.expose()[0].decode().splitlines()
        found = [line.rpartition(" ")[2] for line in lines if line.rpartition(" ")[0] == sample]
        return float(found[0]) if found else None

    def labels(self, name: str) -> int:
        lines = self.exposition.expose()[0].decode().splitlines()
        return sum(line.startswith(name + "{") for line in lines)


def called(
    operation: str = "extract", provider: str = "groq", outcome: str = "answered", requests: int = 1
) -> ModelCalled:
    return ModelCalled(operation=operation, provider=provider, outcome=outcome, requests=requests, **SENT)  # type: ignore[arg-type]


def test_a_model_call_counts_by_provider_and_operation_and_costs_dollars() -> None:
    charged = AttemptCharged("groq", "extract", 250_000_000)
    counted = Counted().observe(called(), charged, called(), charged)

    assert counted.value('knowledge_inference_cost_usd_total{operation="extract",provider="groq"}') == 0.5
    assert counted.value('knowledge_inference_latency_seconds_count{operation="extract",provider="groq"}') == 2


@pytest.mark.parametrize("outcome", ["budget-exhausted", "no-provider", "breaker-open"])
def test_what_nobody_was_asked_says_nothing_about_latency(outcome: str) -> None:
    counted = Counted().observe(called(outcome=outcome, provider="", requests=0))

    refused = f'knowledge_inference_requests_total{{operation="extract",outcome="{outcome}",provider="none"}}'
    assert counted.value(refused) == 1
    assert counted.labels("knowledge_inference_latency_seconds_count") == 0


def test_a_call_that_nobody_answered_took_as_long_as_those_who_were_asked() -> None:
    counted = Counted().observe(called(outcome="no-provider", provider="", requests=2))

    assert counted.value('knowledge_inference_latency_seconds_sum{operation="extract",provider="none"}') == 1.5


def test_a_hit_in_the_second_level_is_one_hit_of_the_request_and_a_miss_of_the_first() -> None:
    counted = Counted().observe(*(CacheConsulted("gateway", one) for one in ("l1", "l2", "miss", "bypass")))

    assert counted.value('knowledge_cache_hits_total{cache_type="l1"}') == 1
    assert counted.value('knowledge_cache_hits_total{cache_type="l2"}') == 1
    assert counted.value('knowledge_cache_misses_total{cache_type="l1"}') == 2
    assert counted.value('knowledge_cache_misses_total{cache_type="l2"}') == 1
    assert counted.metrics.hit_rate.share() == pytest.approx(2 / 3), "bypass is no request to the cache"


def test_the_hit_rate_forgets_and_is_absent_without_traffic() -> None:
    now = 1000.0
    rate = HitRate(300, lambda: now)
    assert rate.share() is None
    rate.add(hit=True)
    rate.add(hit=False)
    assert rate.share() == 0.5
    now += 301
    assert rate.share() is None


def test_learning_counts_outcomes_and_tells_the_service_from_what_was_asked_for() -> None:
    counted = Counted().observe(ItemLearned("k1", "bug_solution", "merged"), ItemRejected("x1", "chore"))
    counted.metrics.observe(ItemLearned("k2", "bug_solution", "created"), realtime=True)
    counted.metrics.observe(ExchangesIngested("a", 3, 0, 0, 0), realtime=True)

    assert counted.value('knowledge_items_extracted_total{mode="realtime",type="bug_solution"}') == 1
    assert counted.value('knowledge_items_extracted_total{mode="batch",type="bug_solution"}') == 0
    assert counted.value('knowledge_exchanges_ingested_total{mode="realtime"}') == 3
    outcomes = {one: counted.value(f'knowledge_learning_outcomes_total{{outcome="{one}"}}') for one in ("created",)}
    assert outcomes == {"created": 1}
    assert counted.value('knowledge_learning_outcomes_total{outcome="rejected"}') == 1


def test_a_batch_of_texts_is_observed_once_with_its_mean() -> None:
    counted = Counted().observe(TextsEmbedded("s", 384, 10, 1.0), VectorsSearched(384, 2, 0.003))

    assert counted.value('knowledge_embedding_latency_seconds_bucket{dimension="384",le="0.1"}') == 1
    assert counted.value('knowledge_vector_searches_total{dimension="384"}') == 2


def test_a_search_counts_what_was_dropped_and_whether_it_was_degraded() -> None:
    counted = Counted().observe(SearchAnswered("all", 3, 12.0, 2, ("embedding-unavailable",)))

    assert counted.value('knowledge_searches_total{degraded="yes",scope="all"}') == 1
    assert counted.value("knowledge_search_hits_dropped_total") == 2
    assert counted.value('knowledge_search_latency_seconds_bucket{le="0.015",scope="all"}') == 1


def test_a_subclass_of_an_event_counts_as_its_base() -> None:
    counted = Counted().observe(BreakerOpened("groq", "open", "errors"))
    assert counted.value('knowledge_circuit_breaker_transitions_total{phase="open",provider="groq"}') == 1


def test_labels_are_bounded_whatever_events_say() -> None:
    counted = Counted()
    for number in range(1000):
        name = f"anything-{number}"
        counted.observe(
            called(name, name, name),
            AttemptCharged(name, name, 1),
            UpkeepRan(name, "done", 0.1),
            SearchAnswered(name, 0, 1, 0, ()),
        )
        counted.observe(CacheConsulted(name, name), BreakerOpened(name, name, name), ItemLearned(name, name, name))
        counted.observe(TextsEmbedded(name, number, 1, 0.1), VectorsSearched(number, 1, 0.1))
        counted.metrics.answered(name, name, number, 0.1)

    for row in counted.exposition.series.rows():
        suffix = "_count" if row.kind == "histogram" else ""
        most = 1000 if "http_requests_total" in row.name else 2 * MOST_VALUES + 1  # the status is ours, not a caller's
        assert counted.labels(row.name + suffix) <= most, row.name
    assert counted.labels("knowledge_inference_cost_usd_total") <= 1


@pytest.mark.parametrize(
    ("buckets", "limits"),
    [
        (INFERENCE, (2, 3, 5)),
        (VECTOR_SEARCH, (0.5, 1, 2)),
        (EMBEDDING, (0.1, 0.2, 0.5)),
        (SEARCH, (0.015, 0.02, 0.025)),
    ],
)
def test_buckets_contain_every_limit_and_go_above_it(buckets: tuple[float, ...], limits: tuple[float, ...]) -> None:
    assert set(limits) < set(buckets)
    assert max(buckets) > max(limits)
