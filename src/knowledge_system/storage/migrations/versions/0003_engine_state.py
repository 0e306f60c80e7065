"""Money, circuit breakers and audit of the inference engine."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")  # byte order on both engines
_SEQUENCE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_TABLES = (
    "audit_log",
    "breaker_permits",
    "breaker_state",
    "budget_reservations",
    "budget_settings",
    "budget_tiers",
)


def upgrade() -> None:
    _create_reservations()
    _create_settings()
    _create_tiers()
    _create_breakers()
    _create_audit()


def downgrade() -> None:
    for table in _TABLES:
        op.drop_table(table)


def _text(name: str, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, _TEXT, nullable=nullable)


def _number(name: str, *, nullable: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), nullable=nullable)


def _sequence() -> sa.Column[int]:
    return sa.Column("id", _SEQUENCE, nullable=False, autoincrement=True)


def _create_reservations() -> None:
    op.create_table(
        "budget_reservations",
        _text("id"),
        _text("month"),
        _text("provider"),
        _text("model"),
        _text("operation"),
        _text("project"),
        _number("amount_nano"),
        _number("cost_nano"),
        sa.Column("measured", sa.Integer(), nullable=False),
        _number("tokens"),
        _text("outcome", nullable=True),
        _text("reserved_at"),
        _text("expires_at"),
        _text("swept_at", nullable=True),
        _text("settled_at", nullable=True),
        _number("settled_sequence", nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_budget_reservations"),
    )
    op.create_index(
        "idx_reservations_sums",
        "budget_reservations",
        ["month", "settled_sequence", "project", "operation", "cost_nano", "measured", "swept_at"],
    )
    undecided = sa.text("settled_sequence IS NULL AND swept_at IS NULL")
    op.create_index(
        "idx_reservations_due",
        "budget_reservations",
        ["expires_at"],
        sqlite_where=undecided,
        postgresql_where=undecided,
    )


def _create_settings() -> None:
    op.create_table(
        "budget_settings",
        _sequence(),
        _text("name"),
        _number("amount", nullable=True),
        _text("actor"),
        _text("created_at"),
        _text("replaced_at", nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_budget_settings"),
        sqlite_autoincrement=True,
    )
    current = sa.text("replaced_at IS NULL")
    op.create_index(
        "uq_budget_settings_current",
        "budget_settings",
        ["name"],
        unique=True,
        sqlite_where=current,
        postgresql_where=current,
    )


def _create_tiers() -> None:
    op.create_table(
        "budget_tiers",
        _sequence(),
        _text("month"),
        _text("tier"),
        _text("told"),
        _text("created_at"),
        sa.PrimaryKeyConstraint("id", name="pk_budget_tiers"),
        sqlite_autoincrement=True,
    )


def _create_breakers() -> None:
    op.create_table(
        "breaker_state",
        _text("provider"),
        _text("phase"),
        sa.Column("failures", sa.Integer(), nullable=False),
        _number("generation"),
        _text("last_failure", nullable=True),
        _text("next_attempt", nullable=True),
        _text("detail"),
        _text("updated_at"),
        sa.PrimaryKeyConstraint("provider", name="pk_breaker_state"),
    )
    op.create_table(
        "breaker_permits",
        _text("provider"),
        _text("id"),
        _text("expires_at"),
        sa.PrimaryKeyConstraint("provider", "id", name="pk_breaker_permits"),
        sqlite_with_rowid=False,
    )


def _create_audit() -> None:
    names = ("at", "kind", "operation", "provider", "model", "content_hash", "sensitivity", "layer", "project")
    op.create_table(
        "audit_log",
        _sequence(),
        *(_text(name) for name in names),
        _number("cost_nano"),
        _text("outcome"),
        _text("actor"),
        sa.PrimaryKeyConstraint("id", name="pk_audit_log"),
        sqlite_autoincrement=True,
    )
