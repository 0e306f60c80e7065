"""The tables as they are after the newest migration; a test proves that both descriptions are one."""

from __future__ import annotations

from sqlalchemy import (
    DDL,
    BigInteger,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    UniqueConstraint,
    event,
    text,
)

from knowledge_system.storage.columns import StoredJson, StoredText, StoredTime, sequence_type

REVISIONS = ("0001", "0002", "0003", "0004", "0005", "0006")
"""Every schema revision this version can work on, oldest first; the last one is the head."""

metadata = MetaData()

sessions = Table(
    "sessions",
    metadata,
    Column("id", StoredText, nullable=False),
    Column("project", StoredText, nullable=False),
    Column("agent", StoredText, nullable=False),
    Column("format", StoredText, nullable=False),
    Column("path", StoredText, nullable=False),
    Column("title", StoredText, nullable=False),
    Column("cwd", StoredText, nullable=False),
    Column("git_branch", StoredText, nullable=False),
    Column("parent_id", StoredText),
    Column("started_at", StoredTime),
    Column("ended_at", StoredTime),
    Column("metadata", StoredJson, nullable=False),
    Column("placeholders", StoredJson, nullable=False),
    Column("ordered_at", StoredTime, nullable=False),  # started_at, or when it was stored
    Column("created_at", StoredTime, nullable=False),
    PrimaryKeyConstraint("id", name="pk_sessions"),
    Index("idx_sessions_newest", "ordered_at", "id"),
    Index("idx_sessions_project", "project", "ordered_at", "id"),
)

sources = Table(
    "sources",
    metadata,
    Column("path", StoredText, nullable=False),
    Column("format", StoredText, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("modified_ns", BigInteger, nullable=False),
    Column("head", StoredText, nullable=False),
    Column("exchanges", Integer, nullable=False),
    Column("resume", StoredJson, nullable=False),
    Column("read_at", StoredTime, nullable=False),
    PrimaryKeyConstraint("path", name="pk_sources"),
)

_UNLEARNED = text("learned_at IS NULL")
_UNTRACKED = text("tracked_at IS NULL")

exchanges = Table(
    "exchanges",
    metadata,
    Column("id", StoredText, nullable=False),
    Column("session_id", StoredText, ForeignKey("sessions.id", name="fk_exchanges_session"), nullable=False),
    Column("exchange_index", Integer, nullable=False),
    Column("path", StoredText, nullable=False),
    Column("project", StoredText, nullable=False),
    Column("agent", StoredText, nullable=False),
    Column("timestamp", StoredTime),
    Column("ordered_at", StoredTime, nullable=False),  # timestamp, or the closest moment known
    Column("content_hash", StoredText, nullable=False),
    Column("text_length", Integer, nullable=False),  # characters of user, assistant and tool outputs
    Column("sensitivity", StoredText, nullable=False),
    Column("redactions", Integer, nullable=False),
    Column("intent", StoredText),
    Column("created_at", StoredTime, nullable=False),
    Column("updated_at", StoredTime, nullable=False),
    Column("learned_at", StoredTime),
    Column("learn_outcome", StoredText),
    Column("user_text", StoredText, nullable=False),
    Column("assistant_text", StoredText, nullable=False),
    Column("tools", StoredJson, nullable=False),
    Column("facts", StoredJson, nullable=False),
    Column("tracked_at", StoredTime),  # has a point of the trajectory for its present content
    PrimaryKeyConstraint("id", name="pk_exchanges"),
    Index("idx_exchanges_newest", "ordered_at", "exchange_index", "id"),
    Index("idx_exchanges_session", "session_id", "ordered_at", "exchange_index", "id"),
    Index("idx_exchanges_project", "project", "ordered_at", "exchange_index", "id"),
    Index("idx_exchanges_sensitivity", "sensitivity"),
    Index(
        "idx_exchanges_unlearned",
        "ordered_at",
        "exchange_index",
        "id",
        sqlite_where=_UNLEARNED,
        postgresql_where=_UNLEARNED,
    ),
    Index(
        "idx_exchanges_untracked",
        "ordered_at",
        "exchange_index",
        "id",
        sqlite_where=_UNTRACKED,
        postgresql_where=_UNTRACKED,
    ),
)

knowledge_items = Table(
    "knowledge_items",
    metadata,
    Column("id", StoredText, nullable=False),
    Column("type", StoredText, nullable=False),
    Column("title", StoredText, nullable=False),
    Column("content", StoredText, nullable=False),
    Column("confidence", Double, nullable=False),
    Column("project", StoredText, nullable=False),
    Column("session_id", StoredText, nullable=False),
    Column("sensitivity", StoredText, nullable=False),
    Column("status", StoredText, nullable=False),
    Column("superseded_by", StoredText),
    Column("intent", StoredText),
    Column("support", Integer, nullable=False),
    Column("created_at", StoredTime, nullable=False),
    Column("updated_at", StoredTime, nullable=False),
    Column("valid_from", StoredTime, nullable=False),
    Column("valid_to", StoredTime),
    Column("metadata", StoredJson, nullable=False),
    PrimaryKeyConstraint("id", name="pk_knowledge_items"),
    # R277; `id` makes the order total, so that pages neither repeat nor lose a row
    Index("idx_created_at", text("created_at DESC"), text("id DESC")),
    Index("idx_type_confidence", "type", text("confidence DESC"), text("created_at DESC")),
    # "newest of a type above a confidence" would sort with the index before: a range ends its order
    Index("idx_type_created", "type", text("created_at DESC"), text("id DESC"), "confidence"),
    Index("idx_knowledge_confidence", text("confidence DESC"), text("created_at DESC")),
    Index("idx_items_status", "status", text("created_at DESC"), text("id DESC")),
    Index("idx_items_project", "project", text("created_at DESC"), text("id DESC")),
    Index("idx_items_session", "session_id", text("created_at DESC"), text("id DESC")),
    Index("idx_items_superseded_by", "superseded_by"),
)

evidence = Table(
    "evidence",
    metadata,
    Column("item_id", StoredText, ForeignKey("knowledge_items.id", name="fk_evidence_item"), nullable=False),
    Column("exchange_id", StoredText, nullable=False),
    Column("field", StoredText, nullable=False),
    Column("span_start", Integer, nullable=False),
    Column("span_end", Integer, nullable=False),
    Column("position", Integer, nullable=False),  # order within the item
    Column("imported", Integer, nullable=False),  # 1: came with an import, the exchange may be elsewhere
    PrimaryKeyConstraint("item_id", "exchange_id", "field", "span_start", "span_end", name="pk_evidence"),
    Index("idx_evidence_exchange", "exchange_id", "item_id"),
    sqlite_with_rowid=False,
)

links = Table(
    "links",
    metadata,
    Column("source_id", StoredText, nullable=False),
    Column("target_id", StoredText, nullable=False),
    Column("relation", StoredText, nullable=False),
    Column("created_at", StoredTime, nullable=False),
    PrimaryKeyConstraint("source_id", "target_id", "relation", name="pk_links"),
    Index("idx_links_target", "target_id"),
    sqlite_with_rowid=False,
)

events = Table(
    "events",
    metadata,
    Column("sequence", sequence_type(), nullable=False, autoincrement=True),
    Column("kind", StoredText, nullable=False),
    Column("payload", StoredJson, nullable=False),
    Column("created_at", StoredTime, nullable=False),
    PrimaryKeyConstraint("sequence", name="pk_events"),
    Index("idx_events_kind", "kind", "created_at"),
    sqlite_autoincrement=True,
)

outbox = Table(
    "outbox",
    metadata,
    Column("sequence", sequence_type(), nullable=False, autoincrement=True),
    Column("owner_id", StoredText, nullable=False),
    Column("stage", StoredText, nullable=False),
    PrimaryKeyConstraint("sequence", name="pk_outbox"),
    UniqueConstraint("owner_id", name="uq_outbox_owner"),
    Index("idx_outbox_stage", "stage", "sequence"),
    sqlite_autoincrement=True,  # a number is never used twice: `advance` recognises changes by it
)

search_logs = Table(
    "search_logs",
    metadata,
    Column("id", sequence_type(), nullable=False, autoincrement=True),
    Column("created_at", StoredTime, nullable=False),
    Column("query", StoredText),
    Column("query_hash", StoredText, nullable=False),
    Column("scope", StoredText, nullable=False),
    Column("filters", StoredJson, nullable=False),
    Column("results", Integer, nullable=False),
    Column("top_score", Double),
    Column("took_ms", Double, nullable=False),
    Column("dropped", Integer, nullable=False),
    PrimaryKeyConstraint("id", name="pk_search_logs"),
    Index("idx_search_logs_created", "created_at", "query_hash"),
    sqlite_autoincrement=True,
)

cost_tracking = Table(
    "cost_tracking",
    metadata,
    Column("id", sequence_type(), nullable=False, autoincrement=True),
    Column("created_at", StoredTime, nullable=False),
    Column("provider", StoredText, nullable=False),
    Column("operation", StoredText, nullable=False),
    Column("project", StoredText, nullable=False),
    Column("tokens", BigInteger, nullable=False),
    Column("cost_nano", BigInteger, nullable=False),  # 10⁻⁹ US dollars
    PrimaryKeyConstraint("id", name="pk_cost_tracking"),
    Index("idx_cost_provider_date", "provider", text("created_at DESC")),
    Index("idx_cost_created", "created_at", "cost_nano"),
    sqlite_autoincrement=True,
)
# SQLite has no INCLUDE; there the covered columns are the last of the key
Index(
    "idx_cost_analytics",
    cost_tracking.c.provider,
    cost_tracking.c.operation,
    cost_tracking.c.created_at,
    cost_tracking.c.cost_nano,
    cost_tracking.c.tokens,
).ddl_if(dialect="sqlite")
Index(
    "idx_cost_analytics",
    cost_tracking.c.provider,
    cost_tracking.c.operation,
    cost_tracking.c.created_at,
    postgresql_include=["cost_nano", "tokens"],
).ddl_if(dialect="postgresql")

cost_archive = Table(
    "cost_archive",
    metadata,
    Column("month", StoredText, nullable=False),
    Column("id", BigInteger, nullable=False),
    Column("created_at", StoredTime, nullable=False),
    Column("provider", StoredText, nullable=False),
    Column("operation", StoredText, nullable=False),
    Column("project", StoredText, nullable=False),
    Column("tokens", BigInteger, nullable=False),
    Column("cost_nano", BigInteger, nullable=False),
    Column("archived_at", StoredTime, nullable=False),
    PrimaryKeyConstraint("month", "id", name="pk_cost_archive"),
)

knowledge_vectors = Table(
    "knowledge_vectors",
    metadata,
    Column("content_hash", StoredText, nullable=False),
    Column("space", StoredText, nullable=False),
    Column("model", StoredText, nullable=False),
    Column("dimension", Integer, nullable=False),
    Column("revision", StoredText, nullable=False),
    Column("created_at", StoredTime, nullable=False),
    Column("last_used_at", StoredTime, nullable=False),
    Column("embedding", LargeBinary, nullable=False),  # float32, little endian
    PrimaryKeyConstraint("content_hash", "space", name="pk_knowledge_vectors"),
    Index("idx_vectors_space", "space", "last_used_at"),
)

passages = Table(
    "passages",
    metadata,
    Column("owner_id", StoredText, nullable=False),
    Column("ordinal", Integer, nullable=False),  # 0: the whole text
    Column("content_hash", StoredText, nullable=False),
    PrimaryKeyConstraint("owner_id", "ordinal", name="pk_passages"),
    Index("idx_passages_hash", "content_hash"),
    sqlite_with_rowid=False,
)

tombstones = Table(
    "tombstones",
    metadata,
    Column("id", StoredText, nullable=False),
    Column("kind", StoredText, nullable=False),  # exchange, item, session
    Column("forgotten_at", StoredTime, nullable=False),
    PrimaryKeyConstraint("id", "kind", name="pk_tombstones"),
    sqlite_with_rowid=False,
)

instance = Table(
    "instance",
    metadata,
    Column("key", StoredText, nullable=False),
    Column("value", StoredText, nullable=False),
    PrimaryKeyConstraint("key", name="pk_instance"),
)


def _embedding(dimension: int) -> str:
    return f"""(SELECT v.embedding
    FROM passages p JOIN knowledge_vectors v ON v.content_hash = p.content_hash
    WHERE p.owner_id = i.id AND p.ordinal = 0 AND v.dimension = {dimension}
    ORDER BY v.created_at DESC LIMIT 1) AS embedding_{dimension}"""


EMBEDDED_VIEW = f"""CREATE VIEW knowledge_items_embedded AS
SELECT i.id, i.type, i.content,
  {_embedding(384)},
  {_embedding(1536)},
  i.metadata, i.confidence, i.created_at
FROM knowledge_items i"""
"""Items with the vectors of their whole text, as columns; the vectors themselves live in `knowledge_vectors` only."""

event.listen(metadata, "after_create", DDL(EMBEDDED_VIEW))  # type: ignore[no-untyped-call]
event.listen(metadata, "before_drop", DDL("DROP VIEW IF EXISTS knowledge_items_embedded"))  # type: ignore[no-untyped-call]
