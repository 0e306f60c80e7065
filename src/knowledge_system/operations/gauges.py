"""What is read from the truth and from the machine at each scrape, as families of samples.

Never summed over processes: whoever is scraped says how things stand.
"""

from __future__ import annotations

import os
import shutil
import tracemalloc
from typing import TYPE_CHECKING, Final, NamedTuple

from prometheus_client.core import GaugeMetricFamily

from knowledge_system.domain.inference import NANO
from knowledge_system.domain.money import BreakerPhase, Tier
from knowledge_system.operations import memory
from knowledge_system.operations.series import PREFIX, Row

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from prometheus_client.core import Metric

    from knowledge_system.domain.census import Flow, Stock, Storage
    from knowledge_system.domain.events import CaptureMeasured
    from knowledge_system.domain.money import BreakerStatus, BudgetStatus


class _Spec(NamedTuple):
    help: str
    labels: tuple[str, ...] = ()


GAUGES: Final[Mapping[str, _Spec]] = {
    "cache_hit_rate": _Spec("Share of hits in the cache requests of the last 5 minutes; absent without traffic."),
    "embedding_queue_depth": _Spec("Entries that wait for their vectors."),
    "outbox_depth": _Spec("Entries that the index has still to follow.", ("stage",)),
    "exchanges_waiting": _Spec("Exchanges that are stored and not judged yet."),
    "items_stored": _Spec("Items by type and by the collection that has their vectors.", ("type", "collection")),
    "items_stale": _Spec("Active items learned more than 180 days ago."),
    "items_superseded": _Spec("Items that another one replaced."),
    "items_deprecated": _Spec("Items that are not true any more."),
    "capture_exchanges": _Spec("Exchanges in the followed transcripts, and those captured of them.", ("state",)),
    "capture_files_behind": _Spec("Transcripts that hold more than was captured."),
    "capture_spooled": _Spec("Notices of hooks that wait."),
    "capture_alarms": _Spec("Alarms of the last measurement of capture."),
    "index_drift": _Spec("Points the index should hold minus those it holds, absolute."),
    "monthly_budget_usd": _Spec("Limit of this month in US dollars."),
    "monthly_spend_usd": _Spec("Spent this month in US dollars, from the ledger."),
    "spend_usd": _Spec("Spent in US dollars within the last hour or day.", ("window",)),
    "budget_reserved_usd": _Spec("Set aside for calls under way, in US dollars."),
    "budget_frozen": _Spec("1: every call that costs money is refused."),
    "budget_offline": _Spec("1: nothing remote is asked."),
    "budget_tier": _Spec("1 for the tier in force.", ("tier",)),
    "circuit_breaker_state": _Spec("0 closed, 1 half-open, 2 open.", ("provider",)),
    "sqlite_size_bytes": _Spec("Database and write-ahead log; absent on PostgreSQL."),
    "sqlite_longest_transaction_seconds": _Spec("Age of the oldest open transaction of this process."),
    "vector_store_memory_bytes": _Spec("Resident memory of what holds the vectors.", ("component",)),
    "memory_bytes": _Spec(
        "Memory of this process; embedding: that of the process of its model; traced_* only while tracemalloc runs.",
        ("kind",),
    ),
    "gc_objects": _Spec("Objects that the garbage collector tracks."),
    "disk_free_bytes": _Spec("Free bytes of the file system of the data directory."),
    "disk_size_bytes": _Spec("Size of the file system of the data directory."),
    "health_status": _Spec("1 healthy, 0.5 degraded, 0 unhealthy."),
    "migration_pending": _Spec("Schema revisions that the database lacks."),
    "build_info": _Spec("1, with the version.", ("version",)),
}
HEALTH: Final = {"healthy": 1.0, "degraded": 0.5, "unhealthy": 0.0}
WINDOWS: Final = {"1h": 3600, "24h": 86_400}
"""Label of `spend_usd` → seconds."""
STAGES: Final = ("words", "vectors", "remote", "remote-vectors")
FIRST_SPACE: Final = "knowledge_384"
LARGER_SPACE: Final = "knowledge_1536"
STALE_DAYS: Final = 180
"""Age at which the freshness of a hit becomes `old`."""

_PHASES: Final = {phase: float(value) for value, phase in enumerate(BreakerPhase)}


def rows() -> list[Row]:
    """Return every gauge as it is documented."""
    return [Row(PREFIX + name, "gauge", spec.labels, spec.help) for name, spec in GAUGES.items()]


def family(name: str, value: float) -> Metric:
    """Return a gauge without labels."""
    return GaugeMetricFamily(PREFIX + name, GAUGES[name].help, value=value)


def labelled(name: str, samples: Iterable[tuple[Sequence[str], float]]) -> Metric:
    """Return a gauge with a sample for each set of label values."""
    made = GaugeMetricFamily(PREFIX + name, GAUGES[name].help, labels=GAUGES[name].labels)
    for values, value in samples:
        made.add_metric(list(values), value)
    return made


def of_stock(stock: Stock, larger: Mapping[str, int]) -> Iterator[Metric]:
    """Yield what is known of the items; `larger`: those in the larger space, by type."""
    first = {kind: count - stock.bare.get(kind, 0) for kind, count in stock.types.items()}
    spaces = {FIRST_SPACE: first, LARGER_SPACE: larger}
    counts = [((kind, name), float(count)) for name, space in spaces.items() for kind, count in space.items()]
    yield labelled("items_stored", counts)
    yield family("items_superseded", stock.statuses.get("superseded", 0))
    yield family("items_deprecated", stock.statuses.get("deprecated", 0))


def of_age(stale: int) -> Iterator[Metric]:
    """Yield how many items are old."""
    yield family("items_stale", stale)


def of_flow(flow: Flow) -> Iterator[Metric]:
    """Yield what waits."""
    depth = {**dict.fromkeys(STAGES, 0), **flow.outbox}
    yield labelled("outbox_depth", (((stage,), float(depth[stage])) for stage in STAGES))
    yield family("embedding_queue_depth", depth["vectors"])
    yield family("exchanges_waiting", flow.unlearned)


def of_drift(flow: Flow, held: int) -> Iterator[Metric]:
    """Yield how far the index, which holds so many points, is from the truth."""
    yield family("index_drift", abs(flow.points - held))


def of_budget(status: BudgetStatus) -> Iterator[Metric]:
    """Yield the state of the ledger; money in dollars."""
    yield family("monthly_budget_usd", status.limit_nano / NANO)
    yield family("monthly_spend_usd", status.settled_nano / NANO)
    yield family("budget_reserved_usd", status.reserved_nano / NANO)
    yield family("budget_frozen", status.frozen)
    yield family("budget_offline", status.offline)
    yield labelled("budget_tier", (((tier.value,), float(tier is status.tier)) for tier in Tier))


def of_spend(spent_nano: Sequence[int]) -> Iterator[Metric]:
    """Yield what was spent in each of `WINDOWS`."""
    yield labelled("spend_usd", (((window,), nano / NANO) for window, nano in zip(WINDOWS, spent_nano, strict=True)))


def of_breakers(names: Iterable[str], statuses: Iterable[BreakerStatus]) -> Iterator[Metric]:
    """Yield the breaker of each configured provider; one that was never used is closed."""
    phases = dict.fromkeys(names, BreakerPhase.CLOSED)
    phases |= {one.provider: one.phase for one in statuses if one.provider in phases}
    yield labelled("circuit_breaker_state", (((name,), _PHASES[phase]) for name, phase in phases.items()))


def of_storage(storage: Storage, longest: float) -> Iterator[Metric]:
    """Yield what is known of the database; `longest` is the age in seconds of its oldest transaction here."""
    if storage.bytes is not None:
        yield family("sqlite_size_bytes", storage.bytes)
    yield family("sqlite_longest_transaction_seconds", longest)
    yield family("migration_pending", storage.behind)


def of_capture(event: CaptureMeasured) -> Iterator[Metric]:
    """Yield the last measurement of capture."""
    counts = (("expected",), float(event.expected)), (("captured",), float(event.captured))
    yield labelled("capture_exchanges", counts)
    yield family("capture_files_behind", event.behind)
    yield family("capture_spooled", event.spooled)
    yield family("capture_alarms", event.alarms)


def of_memory(resident: int, embedding: int | None, vectors: Mapping[str, int]) -> Iterator[Metric]:
    """Yield the memory of this process and of the one that computes embeddings, None where there is none.

    `vectors`: bytes of each component that holds them.
    """
    kinds = {"rss": resident} if embedding is None else {"rss": resident, "embedding": embedding}
    if tracemalloc.is_tracing():
        kinds["traced_current"], kinds["traced_peak"] = tracemalloc.get_traced_memory()
    yield labelled("memory_bytes", (((kind,), float(size)) for kind, size in kinds.items()))
    yield labelled("vector_store_memory_bytes", (((name,), float(size)) for name, size in vectors.items()))


def of_objects() -> Iterator[Metric]:
    """Yield how many objects there are; counting them stops everything else for some milliseconds."""
    yield family("gc_objects", memory.objects())


def of_disk(home: Path) -> Iterator[Metric]:
    """Yield the file system of the data directory. Blocks, for ever on a file system that hangs."""
    usage = shutil.disk_usage(home)
    yield family("disk_free_bytes", usage.free)
    yield family("disk_size_bytes", usage.total)


def resident_bytes(process: int | None = None) -> int:
    """Return the resident memory of a process, this one by default; 0 for one that is gone."""
    import psutil  # noqa: PLC0415 -- read at a scrape only

    try:
        return int(psutil.Process(process or os.getpid()).memory_info().rss)
    except psutil.NoSuchProcess:
        return 0
