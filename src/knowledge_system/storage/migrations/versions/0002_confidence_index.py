"""Items in order of confidence (operations guide, migration 001)."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_index(
        "idx_knowledge_confidence", "knowledge_items", [sa.text("confidence DESC"), sa.text("created_at DESC")]
    )


def downgrade() -> None:
    op.drop_index("idx_knowledge_confidence", "knowledge_items")
