"""Settings changed while the service runs, with their history."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

_TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")  # byte order on both engines
_SEQUENCE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_CURRENT = sa.text("replaced_at IS NULL")


def upgrade() -> None:
    op.create_table(
        "setting_changes",
        sa.Column("id", _SEQUENCE, nullable=False),
        *(sa.Column(name, _TEXT, nullable=False) for name in ("change_id", "at", "actor", "key")),
        *(sa.Column(name, _TEXT) for name in ("old", "new", "undoes", "replaced_at")),
        sa.PrimaryKeyConstraint("id", name="pk_setting_changes"),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "uq_setting_changes_current",
        "setting_changes",
        ["key"],
        unique=True,
        sqlite_where=_CURRENT,
        postgresql_where=_CURRENT,
    )
    op.create_index("idx_setting_changes_change", "setting_changes", ["change_id", "id"])


def downgrade() -> None:
    op.drop_table("setting_changes")
