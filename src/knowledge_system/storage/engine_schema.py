"""The tables of the engine's shared state: money, circuit breakers, audit. Part of the same schema as `schema.py`."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, PrimaryKeyConstraint, Table, text

from knowledge_system.storage.columns import StoredText, StoredTime, sequence_type
from knowledge_system.storage.schema import metadata

_UNDECIDED = text("settled_sequence IS NULL AND swept_at IS NULL")
_CURRENT = text("replaced_at IS NULL")

budget_reservations = Table(
    "budget_reservations",
    metadata,
    Column("id", StoredText, nullable=False),
    Column("month", StoredText, nullable=False),  # 2026-05, UTC, of the reservation; never changes
    Column("provider", StoredText, nullable=False),
    Column("model", StoredText, nullable=False),
    Column("operation", StoredText, nullable=False),
    Column("project", StoredText, nullable=False),
    Column("amount_nano", BigInteger, nullable=False),  # the worst case
    Column("cost_nano", BigInteger, nullable=False),  # what counts: the worst case until settled
    Column("measured", Integer, nullable=False),
    Column("tokens", BigInteger, nullable=False),
    Column("outcome", StoredText),
    Column("reserved_at", StoredTime, nullable=False),
    Column("expires_at", StoredTime, nullable=False),
    Column("swept_at", StoredTime),  # charged at its worst case since then
    Column("settled_at", StoredTime),
    Column("settled_sequence", BigInteger),  # grows within a month; a settled row never changes again
    PrimaryKeyConstraint("id", name="pk_budget_reservations"),
    Index(
        "idx_reservations_sums",
        "month",
        "settled_sequence",
        "project",
        "operation",
        "cost_nano",
        "measured",
        "swept_at",
    ),
    Index("idx_reservations_due", "expires_at", sqlite_where=_UNDECIDED, postgresql_where=_UNDECIDED),
)

budget_settings = Table(
    "budget_settings",
    metadata,
    Column("id", sequence_type(), nullable=False, autoincrement=True),
    Column("name", StoredText, nullable=False),  # limit:, limit:project:NAME, limit:operation:NAME, frozen, …
    Column("amount", BigInteger),  # nano-dollars of a limit, none when it was removed; 0 or 1 of a switch
    Column("actor", StoredText, nullable=False),
    Column("created_at", StoredTime, nullable=False),
    Column("replaced_at", StoredTime),  # the row in force has none; the others are the history
    PrimaryKeyConstraint("id", name="pk_budget_settings"),
    Index("uq_budget_settings_current", "name", unique=True, sqlite_where=_CURRENT, postgresql_where=_CURRENT),
    sqlite_autoincrement=True,
)

budget_tiers = Table(
    "budget_tiers",
    metadata,
    Column("id", sequence_type(), nullable=False, autoincrement=True),
    Column("month", StoredText, nullable=False),
    Column("tier", StoredText, nullable=False),
    Column("told", StoredText, nullable=False),  # the tier somebody was told last
    Column("created_at", StoredTime, nullable=False),
    PrimaryKeyConstraint("id", name="pk_budget_tiers"),
    sqlite_autoincrement=True,  # every change is a row, the last one is in force
)

breaker_state = Table(
    "breaker_state",
    metadata,
    Column("provider", StoredText, nullable=False),
    Column("phase", StoredText, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("generation", BigInteger, nullable=False),  # one more with every change of phase
    Column("last_failure", StoredTime),
    Column("next_attempt", StoredTime),
    Column("detail", StoredText, nullable=False),
    Column("updated_at", StoredTime, nullable=False),
    PrimaryKeyConstraint("provider", name="pk_breaker_state"),
)

breaker_permits = Table(
    "breaker_permits",
    metadata,
    Column("provider", StoredText, nullable=False),
    Column("id", StoredText, nullable=False),
    Column("expires_at", StoredTime, nullable=False),
    PrimaryKeyConstraint("provider", "id", name="pk_breaker_permits"),
    sqlite_with_rowid=False,  # a handful of trials at most
)

audit_log = Table(
    "audit_log",
    metadata,
    Column("id", sequence_type(), nullable=False, autoincrement=True),
    Column("at", StoredTime, nullable=False),
    Column("kind", StoredText, nullable=False),
    Column("operation", StoredText, nullable=False),
    Column("provider", StoredText, nullable=False),
    Column("model", StoredText, nullable=False),
    Column("content_hash", StoredText, nullable=False),
    Column("sensitivity", StoredText, nullable=False),
    Column("layer", StoredText, nullable=False),
    Column("project", StoredText, nullable=False),
    Column("cost_nano", BigInteger, nullable=False),
    Column("outcome", StoredText, nullable=False),
    Column("actor", StoredText, nullable=False),
    PrimaryKeyConstraint("id", name="pk_audit_log"),
    sqlite_autoincrement=True,  # a number is never used twice: pages go by it
)

cache_generation = Table(
    "cache_generation",
    metadata,
    Column("id", Integer, nullable=False, autoincrement=False),  # one row: 1, from the first advance on
    Column("number", BigInteger, nullable=False),
    Column("advanced_at", StoredTime, nullable=False),
    PrimaryKeyConstraint("id", name="pk_cache_generation"),
)

cache_requests = Table(
    "cache_requests",
    metadata,
    Column("day", StoredText, nullable=False),  # 2026-05-31, UTC
    Column("operation", StoredText, nullable=False),
    Column("result", StoredText, nullable=False),
    Column("requests", BigInteger, nullable=False),
    Column("saved_nano", BigInteger, nullable=False),
    PrimaryKeyConstraint("day", "operation", "result", name="pk_cache_requests"),
    sqlite_with_rowid=False,
)

cache_holdings = Table(
    "cache_holdings",
    metadata,
    Column("process", StoredText, nullable=False),
    Column("entries", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("seen_at", StoredTime, nullable=False),
    PrimaryKeyConstraint("process", name="pk_cache_holdings"),
    sqlite_with_rowid=False,
)

kept_questions = Table(
    "kept_questions",
    metadata,
    Column("space", StoredText, nullable=False),
    Column("content_hash", StoredText, nullable=False),  # the vector is in knowledge_vectors, as all are
    Column("kept_at", StoredTime, nullable=False),
    PrimaryKeyConstraint("space", "content_hash", name="pk_kept_questions"),
    Index("idx_kept_questions_newest", "space", "kept_at", "content_hash"),
    sqlite_with_rowid=False,
)

setting_changes = Table(
    "setting_changes",
    metadata,
    Column("id", sequence_type(), nullable=False, autoincrement=True),
    Column("change_id", StoredText, nullable=False),  # the same for all keys of one request
    Column("at", StoredTime, nullable=False),
    Column("actor", StoredText, nullable=False),
    Column("key", StoredText, nullable=False),  # dotted: inference.offlineMode
    Column("old", StoredText),  # JSON; none: what the file says
    Column("new", StoredText),  # as `old`
    Column("undoes", StoredText),  # the change that this one takes back
    Column("replaced_at", StoredTime),  # the row in force has none; the others are the history
    PrimaryKeyConstraint("id", name="pk_setting_changes"),
    Index("uq_setting_changes_current", "key", unique=True, sqlite_where=_CURRENT, postgresql_where=_CURRENT),
    Index("idx_setting_changes_change", "change_id", "id"),
    sqlite_autoincrement=True,
)
