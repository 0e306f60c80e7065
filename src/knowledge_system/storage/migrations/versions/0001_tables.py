"""Tables, indexes and the view of the first version."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")  # byte order on both engines
_SEQUENCE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_TABLES = (
    "cost_archive",
    "cost_tracking",
    "events",
    "instance",
    "knowledge_items",
    "knowledge_vectors",
    "links",
    "outbox",
    "passages",
    "search_logs",
    "sessions",
    "sources",
    "tombstones",
    "evidence",
    "exchanges",
)


def upgrade() -> None:
    _create_cost_archive()
    _create_cost_tracking()
    _create_events()
    _create_instance()
    _create_knowledge_items()
    _create_knowledge_vectors()
    _create_links()
    _create_outbox()
    _create_passages()
    _create_search_logs()
    _create_sessions()
    _create_sources()
    _create_tombstones()
    _create_evidence()
    _create_exchanges()
    _create_cost_analytics_index()
    op.execute(_VIEW)


def downgrade() -> None:
    op.execute("DROP VIEW knowledge_items_embedded")
    for table in reversed(_TABLES):
        op.drop_table(table)


def _text(name: str, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, _TEXT, nullable=nullable)


def _sequence(name: str) -> sa.Column[int]:
    return sa.Column(name, _SEQUENCE, nullable=False, autoincrement=True)


def _create_cost_archive() -> None:
    op.create_table(
        "cost_archive",
        _text("month"),
        sa.Column("id", sa.BigInteger(), nullable=False),
        _text("created_at"),
        _text("provider"),
        _text("operation"),
        _text("project"),
        sa.Column("tokens", sa.BigInteger(), nullable=False),
        sa.Column("cost_nano", sa.BigInteger(), nullable=False),
        _text("archived_at"),
        sa.PrimaryKeyConstraint("month", "id", name="pk_cost_archive"),
    )


def _create_cost_tracking() -> None:
    op.create_table(
        "cost_tracking",
        _sequence("id"),
        _text("created_at"),
        _text("provider"),
        _text("operation"),
        _text("project"),
        sa.Column("tokens", sa.BigInteger(), nullable=False),
        sa.Column("cost_nano", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_cost_tracking"),
        sqlite_autoincrement=True,
    )
    op.create_index("idx_cost_created", "cost_tracking", ["created_at", "cost_nano"])
    op.create_index("idx_cost_provider_date", "cost_tracking", ["provider", sa.text("created_at DESC")])


def _create_events() -> None:
    op.create_table(
        "events",
        _sequence("sequence"),
        _text("kind"),
        _text("payload"),
        _text("created_at"),
        sa.PrimaryKeyConstraint("sequence", name="pk_events"),
        sqlite_autoincrement=True,
    )
    op.create_index("idx_events_kind", "events", ["kind", "created_at"])


def _create_instance() -> None:
    op.create_table("instance", _text("key"), _text("value"), sa.PrimaryKeyConstraint("key", name="pk_instance"))


def _create_knowledge_items() -> None:
    op.create_table(
        "knowledge_items",
        _text("id"),
        _text("type"),
        _text("title"),
        _text("content"),
        sa.Column("confidence", sa.Double(), nullable=False),
        _text("project"),
        _text("session_id"),
        _text("sensitivity"),
        _text("status"),
        _text("superseded_by", nullable=True),
        _text("intent", nullable=True),
        sa.Column("support", sa.Integer(), nullable=False),
        _text("created_at"),
        _text("updated_at"),
        _text("valid_from"),
        _text("valid_to", nullable=True),
        _text("metadata"),
        sa.PrimaryKeyConstraint("id", name="pk_knowledge_items"),
    )
    op.create_index("idx_created_at", "knowledge_items", [sa.text("created_at DESC"), sa.text("id DESC")])
    op.create_index("idx_items_project", "knowledge_items", ["project", sa.text("created_at DESC"), sa.text("id DESC")])
    op.create_index(
        "idx_items_session", "knowledge_items", ["session_id", sa.text("created_at DESC"), sa.text("id DESC")]
    )
    op.create_index("idx_items_status", "knowledge_items", ["status", sa.text("created_at DESC"), sa.text("id DESC")])
    op.create_index("idx_items_superseded_by", "knowledge_items", ["superseded_by"])
    op.create_index(
        "idx_type_confidence", "knowledge_items", ["type", sa.text("confidence DESC"), sa.text("created_at DESC")]
    )
    op.create_index(
        "idx_type_created", "knowledge_items", ["type", sa.text("created_at DESC"), sa.text("id DESC"), "confidence"]
    )


def _create_knowledge_vectors() -> None:
    op.create_table(
        "knowledge_vectors",
        _text("content_hash"),
        _text("space"),
        _text("model"),
        sa.Column("dimension", sa.Integer(), nullable=False),
        _text("revision"),
        _text("created_at"),
        _text("last_used_at"),
        sa.Column("embedding", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("content_hash", "space", name="pk_knowledge_vectors"),
    )
    op.create_index("idx_vectors_space", "knowledge_vectors", ["space", "last_used_at"])


def _create_links() -> None:
    op.create_table(
        "links",
        _text("source_id"),
        _text("target_id"),
        _text("relation"),
        _text("created_at"),
        sa.PrimaryKeyConstraint("source_id", "target_id", "relation", name="pk_links"),
        sqlite_with_rowid=False,
    )
    op.create_index("idx_links_target", "links", ["target_id"])


def _create_outbox() -> None:
    op.create_table(
        "outbox",
        _sequence("sequence"),
        _text("owner_id"),
        _text("stage"),
        sa.PrimaryKeyConstraint("sequence", name="pk_outbox"),
        sa.UniqueConstraint("owner_id", name="uq_outbox_owner"),
        sqlite_autoincrement=True,
    )
    op.create_index("idx_outbox_stage", "outbox", ["stage", "sequence"])


def _create_passages() -> None:
    op.create_table(
        "passages",
        _text("owner_id"),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        _text("content_hash"),
        sa.PrimaryKeyConstraint("owner_id", "ordinal", name="pk_passages"),
        sqlite_with_rowid=False,
    )
    op.create_index("idx_passages_hash", "passages", ["content_hash"])


def _create_search_logs() -> None:
    op.create_table(
        "search_logs",
        _sequence("id"),
        _text("created_at"),
        _text("query", nullable=True),
        _text("query_hash"),
        _text("scope"),
        _text("filters"),
        sa.Column("results", sa.Integer(), nullable=False),
        sa.Column("top_score", sa.Double(), nullable=True),
        sa.Column("took_ms", sa.Double(), nullable=False),
        sa.Column("dropped", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_search_logs"),
        sqlite_autoincrement=True,
    )
    op.create_index("idx_search_logs_created", "search_logs", ["created_at", "query_hash"])


def _create_sessions() -> None:
    op.create_table(
        "sessions",
        _text("id"),
        _text("project"),
        _text("agent"),
        _text("format"),
        _text("path"),
        _text("title"),
        _text("cwd"),
        _text("git_branch"),
        _text("parent_id", nullable=True),
        _text("started_at", nullable=True),
        _text("ended_at", nullable=True),
        _text("metadata"),
        _text("placeholders"),
        _text("ordered_at"),
        _text("created_at"),
        sa.PrimaryKeyConstraint("id", name="pk_sessions"),
    )
    op.create_index("idx_sessions_newest", "sessions", ["ordered_at", "id"])
    op.create_index("idx_sessions_project", "sessions", ["project", "ordered_at", "id"])


def _create_sources() -> None:
    op.create_table(
        "sources",
        _text("path"),
        _text("format"),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("modified_ns", sa.BigInteger(), nullable=False),
        _text("head"),
        sa.Column("exchanges", sa.Integer(), nullable=False),
        _text("resume"),
        _text("read_at"),
        sa.PrimaryKeyConstraint("path", name="pk_sources"),
    )


def _create_tombstones() -> None:
    op.create_table(
        "tombstones",
        _text("id"),
        _text("kind"),
        _text("forgotten_at"),
        sa.PrimaryKeyConstraint("id", "kind", name="pk_tombstones"),
        sqlite_with_rowid=False,
    )


def _create_evidence() -> None:
    op.create_table(
        "evidence",
        _text("item_id"),
        _text("exchange_id"),
        _text("field"),
        sa.Column("span_start", sa.Integer(), nullable=False),
        sa.Column("span_end", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("imported", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("item_id", "exchange_id", "field", "span_start", "span_end", name="pk_evidence"),
        sa.ForeignKeyConstraint(["item_id"], ["knowledge_items.id"], name="fk_evidence_item"),
        sqlite_with_rowid=False,
    )
    op.create_index("idx_evidence_exchange", "evidence", ["exchange_id", "item_id"])


def _create_exchanges() -> None:
    op.create_table(
        "exchanges",
        _text("id"),
        _text("session_id"),
        sa.Column("exchange_index", sa.Integer(), nullable=False),
        _text("path"),
        _text("project"),
        _text("agent"),
        _text("timestamp", nullable=True),
        _text("ordered_at"),
        _text("content_hash"),
        sa.Column("text_length", sa.Integer(), nullable=False),
        _text("sensitivity"),
        sa.Column("redactions", sa.Integer(), nullable=False),
        _text("intent", nullable=True),
        _text("created_at"),
        _text("updated_at"),
        _text("learned_at", nullable=True),
        _text("learn_outcome", nullable=True),
        _text("user_text"),
        _text("assistant_text"),
        _text("tools"),
        _text("facts"),
        sa.PrimaryKeyConstraint("id", name="pk_exchanges"),
        sa.ForeignKeyConstraint(["session_id"], ["sessions.id"], name="fk_exchanges_session"),
    )
    op.create_index("idx_exchanges_newest", "exchanges", ["ordered_at", "exchange_index", "id"])
    op.create_index("idx_exchanges_project", "exchanges", ["project", "ordered_at", "exchange_index", "id"])
    op.create_index("idx_exchanges_sensitivity", "exchanges", ["sensitivity"])
    op.create_index("idx_exchanges_session", "exchanges", ["session_id", "ordered_at", "exchange_index", "id"])
    op.create_index(
        "idx_exchanges_unlearned",
        "exchanges",
        ["ordered_at", "exchange_index", "id"],
        sqlite_where=sa.text("learned_at IS NULL"),
        postgresql_where=sa.text("learned_at IS NULL"),
    )


def _create_cost_analytics_index() -> None:
    """Cover the costs: SQLite has no INCLUDE, there the covered columns end the key."""
    if op.get_context().dialect.name == "postgresql":
        op.create_index(
            "idx_cost_analytics",
            "cost_tracking",
            ["provider", "operation", "created_at"],
            postgresql_include=["cost_nano", "tokens"],
        )
    else:
        op.create_index(
            "idx_cost_analytics", "cost_tracking", ["provider", "operation", "created_at", "cost_nano", "tokens"]
        )


_VIEW = """CREATE VIEW knowledge_items_embedded AS
SELECT i.id, i.type, i.content,
  (SELECT v.embedding
    FROM passages p JOIN knowledge_vectors v ON v.content_hash = p.content_hash
    WHERE p.owner_id = i.id AND p.ordinal = 0 AND v.dimension = 384
    ORDER BY v.created_at DESC LIMIT 1) AS embedding_384,
  (SELECT v.embedding
    FROM passages p JOIN knowledge_vectors v ON v.content_hash = p.content_hash
    WHERE p.owner_id = i.id AND p.ordinal = 0 AND v.dimension = 1536
    ORDER BY v.created_at DESC LIMIT 1) AS embedding_1536,
  i.metadata, i.confidence, i.created_at
FROM knowledge_items i"""
