"""Migrations describe the same schema as the tables, go up and down without a trace, and all or nothing."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, text

from knowledge_system.storage.connections import parse_url
from knowledge_system.storage.schema import REVISIONS, metadata
from knowledge_system.storage.upgrade import HEAD, MIGRATIONS, bring_to_head, migrate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy import URL, Connection
    from tests.storage.postgres_server import Server

_POSTGRES_CATALOG = (
    """SELECT table_name, column_name, data_type, is_nullable, column_default, collation_name
    FROM information_schema.columns WHERE table_schema = 'public'""",
    "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'",
    """SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
    WHERE connamespace = 'public'::regnamespace""",
    "SELECT viewname, definition FROM pg_views WHERE schemaname = 'public'",
    "SELECT sequencename FROM pg_sequences WHERE schemaname = 'public'",
)


def catalog(connection: Connection) -> list[tuple[str, ...]]:
    """Return everything the engine knows about the schema, without Alembic's own table."""
    if connection.dialect.name == "sqlite":
        rows = connection.execute(text("SELECT type, name, tbl_name, sql FROM sqlite_master")).all()
    else:
        rows = [row for query in _POSTGRES_CATALOG for row in connection.execute(text(query))]
    folded = [tuple(re.sub(r"\s+", " ", str(value)) for value in row) for row in rows]
    return sorted(row for row in folded if not any("alembic" in value for value in row))


def read_catalog(url: URL) -> list[tuple[str, ...]]:
    engine = create_engine(url.set(drivername=url.drivername.replace("+aiosqlite", "")))
    with engine.connect() as connection:
        found = catalog(connection)
    engine.dispose()
    return found


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[URL]:
    """A database without any table."""
    if request.param == "sqlite":
        yield parse_url(f"sqlite:///{tmp_path / 'empty.db'}")
        return
    server: Server = request.getfixturevalue("postgres")
    name = server.create()
    yield parse_url(server.url(name))
    server.drop(name)


def test_the_known_revisions_are_the_scripts() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    scripts = ScriptDirectory.from_config(config)
    assert [script.revision for script in scripts.walk_revisions()][::-1] == list(REVISIONS)
    assert scripts.get_heads() == [HEAD]


def test_the_tables_are_what_the_migrations_make(empty: URL) -> None:
    bring_to_head(empty, "db")
    migrated = read_catalog(empty)
    migrate(empty, "base")
    engine = create_engine(empty.set(drivername=empty.drivername.replace("+aiosqlite", "")))
    with engine.begin() as connection:
        metadata.create_all(connection)
    described = read_catalog(empty)
    engine.dispose()
    assert described == migrated


def test_up_down_up_leaves_the_same_schema(empty: URL) -> None:
    migrate(empty, HEAD)
    first = read_catalog(empty)
    migrate(empty, "base")
    assert [row for row in read_catalog(empty) if "sqlite_sequence" not in row] == []
    migrate(empty, HEAD)
    assert read_catalog(empty) == first


def test_every_single_step_can_be_undone(empty: URL) -> None:
    before = {}
    for revision in REVISIONS:
        migrate(empty, revision)
        before[revision] = read_catalog(empty)
    for revision in REVISIONS[-2::-1]:
        migrate(empty, revision)
        assert read_catalog(empty) == before[revision]


def test_the_confidence_index_comes_and_goes(empty: URL) -> None:
    migrate(empty, "0002")
    assert any("idx_knowledge_confidence" in row for row in read_catalog(empty))
    migrate(empty, "0001")
    assert not any("idx_knowledge_confidence" in row for row in read_catalog(empty))


def test_data_survives_a_step_down_and_up(empty: URL) -> None:
    migrate(empty, HEAD)
    engine = create_engine(empty.set(drivername=empty.drivername.replace("+aiosqlite", "")))
    query = text("SELECT value FROM instance WHERE key = 'instance_id'")
    with engine.connect() as connection:
        before = connection.execute(query).scalar()
    migrate(empty, "0001")
    migrate(empty, HEAD)
    with engine.connect() as connection:
        assert connection.execute(query).scalar() == before
    engine.dispose()


def test_a_migration_that_fails_leaves_nothing_behind(empty: URL, tmp_path: Path) -> None:
    broken = tmp_path / "migrations"
    (broken / "versions").mkdir(parents=True)
    for source in (*MIGRATIONS.glob("env.py"), *MIGRATIONS.glob("versions/*.py")):
        (broken / source.relative_to(MIGRATIONS)).write_text(source.read_text())
    (broken / "versions" / "9999_broken.py").write_text(
        f'from alembic import op\nrevision, down_revision = "9999", "{HEAD}"\n'
        'def upgrade():\n    op.execute("CREATE TABLE half (id INTEGER)")\n    raise ZeroDivisionError\n'
    )
    migrate(empty, HEAD)
    before = read_catalog(empty)
    with pytest.raises(ZeroDivisionError):
        migrate(empty, "9999", broken)
    assert read_catalog(empty) == before
    bring_to_head(empty, "db")


def test_the_objects_that_the_operations_guide_names_exist(empty: URL) -> None:
    bring_to_head(empty, "db")
    definitions = {row[1]: row[-1] for row in read_catalog(empty) if row[0] in {"index", "table", "view"}}
    if empty.get_backend_name() == "postgresql":
        definitions |= {row[1]: row[2] for row in read_catalog(empty) if len(row) == 3 and "INDEX" in row[2]}
        definitions |= {row[0]: "" for row in read_catalog(empty)}
    for name in (
        "knowledge_items",
        "knowledge_items_embedded",
        "knowledge_vectors",
        "cost_tracking",
        "cost_archive",
        "search_logs",
        "idx_knowledge_confidence",
        "idx_type_confidence",
        "idx_created_at",
        "idx_cost_provider_date",
        "idx_cost_analytics",
    ):
        assert name in definitions
    covering = definitions["idx_cost_analytics"]
    assert ("INCLUDE" in covering) == (empty.get_backend_name() == "postgresql")
    assert "cost_nano" in covering
    assert "tokens" in covering
