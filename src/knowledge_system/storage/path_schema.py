"""The tables of what happens around knowledge: trajectories, injections, feedback; of the schema of `schema.py`."""

from __future__ import annotations

from sqlalchemy import Column, Float, ForeignKey, Index, Integer, PrimaryKeyConstraint, Table

from knowledge_system.storage.columns import StoredJson, StoredText, StoredTime, sequence_type
from knowledge_system.storage.schema import metadata

trajectory = Table(
    "trajectory",
    metadata,
    Column("exchange_id", StoredText, ForeignKey("exchanges.id", name="fk_trajectory_exchange"), nullable=False),
    Column("session_id", StoredText, nullable=False),
    Column("exchange_index", Integer, nullable=False),
    Column("project", StoredText, nullable=False),
    Column("at", StoredTime, nullable=False),
    Column("intent", StoredText),
    Column("intent_confidence", Float, nullable=False),
    Column("goal", StoredText, nullable=False),
    Column("state", StoredText, nullable=False),
    Column("state_confidence", Float, nullable=False),
    Column("concepts", StoredJson, nullable=False),
    Column("changed", StoredJson, nullable=False),
    Column("cause", StoredText, nullable=False),
    Column("method", StoredText, nullable=False),
    PrimaryKeyConstraint("exchange_id", name="pk_trajectory"),
    Index("idx_trajectory_session", "session_id", "at", "exchange_index", "exchange_id"),
    Index("idx_trajectory_project", "project", "at"),
    Index("idx_trajectory_at", "at"),
)

injections = Table(
    "injections",
    metadata,
    Column("id", sequence_type(), nullable=False),
    Column("session_id", StoredText, nullable=False),
    Column("at", StoredTime, nullable=False),
    Column("occasion", StoredText, nullable=False),
    Column("prompt_hash", StoredText, nullable=False),
    Column("item_id", StoredText, nullable=False),  # empty: about the occasion as a whole
    Column("injected", Integer, nullable=False),
    Column("reason", StoredText, nullable=False),
    Column("detail", StoredText, nullable=False),
    Column("score", Float),
    Column("tokens", Integer, nullable=False),
    PrimaryKeyConstraint("id", name="pk_injections"),
    Index("idx_injections_session", "session_id", "id"),
    Index("idx_injections_at", "at"),
)

feedback = Table(
    "feedback",
    metadata,
    Column("id", sequence_type(), nullable=False),
    Column("item_id", StoredText, nullable=False),
    Column("verdict", StoredText, nullable=False),  # helpful, harmful, wrong
    Column("actor", StoredText, nullable=False),
    Column("session_id", StoredText, nullable=False),
    Column("note", StoredText, nullable=False),
    Column("at", StoredTime, nullable=False),
    PrimaryKeyConstraint("id", name="pk_feedback"),
    Index("idx_feedback_item", "item_id", "id"),
)
