"""Trajectories of sessions, what was injected and why, and feedback on items."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

_TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")  # byte order on both engines
_SEQUENCE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_UNTRACKED = sa.text("tracked_at IS NULL")


def upgrade() -> None:
    op.add_column("exchanges", sa.Column("tracked_at", _TEXT))
    op.create_index(
        "idx_exchanges_untracked",
        "exchanges",
        ["ordered_at", "exchange_index", "id"],
        sqlite_where=_UNTRACKED,
        postgresql_where=_UNTRACKED,
    )
    _create_trajectory()
    _create_injections()
    _create_feedback()


def downgrade() -> None:
    for table in ("feedback", "injections", "trajectory"):
        op.drop_table(table)
    op.drop_index("idx_exchanges_untracked", "exchanges")
    op.drop_column("exchanges", "tracked_at")


def _text(name: str, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, _TEXT, nullable=nullable)


def _whole(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.Integer(), nullable=False)


def _share(name: str, *, nullable: bool = False) -> sa.Column[float]:
    return sa.Column(name, sa.Float(), nullable=nullable)


def _create_trajectory() -> None:
    op.create_table(
        "trajectory",
        sa.Column("exchange_id", _TEXT, sa.ForeignKey("exchanges.id", name="fk_trajectory_exchange"), nullable=False),
        _text("session_id"),
        _whole("exchange_index"),
        _text("project"),
        _text("at"),
        _text("intent", nullable=True),
        _share("intent_confidence"),
        _text("goal"),
        _text("state"),
        _share("state_confidence"),
        *(_text(name) for name in ("concepts", "changed", "cause", "method")),
        sa.PrimaryKeyConstraint("exchange_id", name="pk_trajectory"),
    )
    op.create_index("idx_trajectory_session", "trajectory", ["session_id", "at", "exchange_index", "exchange_id"])
    op.create_index("idx_trajectory_project", "trajectory", ["project", "at"])
    op.create_index("idx_trajectory_at", "trajectory", ["at"])


def _create_injections() -> None:
    op.create_table(
        "injections",
        sa.Column("id", _SEQUENCE, nullable=False),
        *(_text(name) for name in ("session_id", "at", "occasion", "prompt_hash", "item_id")),
        _whole("injected"),
        *(_text(name) for name in ("reason", "detail")),
        _share("score", nullable=True),
        _whole("tokens"),
        sa.PrimaryKeyConstraint("id", name="pk_injections"),
    )
    op.create_index("idx_injections_session", "injections", ["session_id", "id"])
    op.create_index("idx_injections_at", "injections", ["at"])


def _create_feedback() -> None:
    op.create_table(
        "feedback",
        sa.Column("id", _SEQUENCE, nullable=False),
        *(_text(name) for name in ("item_id", "verdict", "actor", "session_id", "note", "at")),
        sa.PrimaryKeyConstraint("id", name="pk_feedback"),
    )
    op.create_index("idx_feedback_item", "feedback", ["item_id", "id"])
