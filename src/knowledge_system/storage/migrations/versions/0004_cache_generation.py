"""The generation of the caches, their counts, and the questions whose vectors are kept."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")  # byte order on both engines
_TABLES = ("cache_generation", "cache_holdings", "cache_requests", "kept_questions")


def upgrade() -> None:
    op.create_table(
        "cache_generation",
        sa.Column("id", sa.Integer(), nullable=False, autoincrement=False),
        _number("number"),
        _text("advanced_at"),
        sa.PrimaryKeyConstraint("id", name="pk_cache_generation"),
    )
    op.create_table(
        "cache_requests",
        *(_text(name) for name in ("day", "operation", "result")),
        _number("requests"),
        _number("saved_nano"),
        sa.PrimaryKeyConstraint("day", "operation", "result", name="pk_cache_requests"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "cache_holdings",
        _text("process"),
        _number("entries"),
        _number("bytes"),
        _text("seen_at"),
        sa.PrimaryKeyConstraint("process", name="pk_cache_holdings"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "kept_questions",
        *(_text(name) for name in ("space", "content_hash", "kept_at")),
        sa.PrimaryKeyConstraint("space", "content_hash", name="pk_kept_questions"),
        sqlite_with_rowid=False,
    )
    op.create_index("idx_kept_questions_newest", "kept_questions", ["space", "kept_at", "content_hash"])


def downgrade() -> None:
    for table in _TABLES:
        op.drop_table(table)


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, _TEXT, nullable=False)


def _number(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), nullable=False)
