"""The one read of a search: rows by id, with statements that are built once and rows that are decoded by hand.

Building a statement and its rows the usual way takes three times as long as running it, all of it under the
interpreter lock: 1.4 ms for 20 items, 0.4 ms this way. The driver of SQLite gives that lock away at every statement and
every row and waits for it again, most of the time of a read while other threads are at work; so the few rows of a
search are read by one statement and returned as one row, in JSON.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Double

from knowledge_system.domain.clock import from_stored
from knowledge_system.domain.search import SourceRef
from knowledge_system.domain.truth import Found
from knowledge_system.storage import hot_queries
from knowledge_system.storage.columns import StoredJson, StoredTime
from knowledge_system.storage.rows import evidence_of, exchange_of, item_of
from knowledge_system.storage.statements import CHUNK, chunks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import TypeAlias

    from sqlalchemy import ColumnElement, Connection, Dialect, Select

    from knowledge_system.domain.knowledge import Evidence, KnowledgeItem
    from knowledge_system.domain.sessions import Exchange
    from knowledge_system.storage.rows import Row

    Decoder: TypeAlias = Callable[[str], Any]
    Build: TypeAlias = Callable[[Sequence[str]], Select[Any]]
    Asked: TypeAlias = tuple[Build, Sequence[str]]

SIZES: Final = (8, 32, 128, CHUNK)
"""Ids a statement takes; fewer ids are filled up with the last one, so that few statements are built and prepared."""
AS_ONE: Final = 32
"""The most ids whose rows SQLite returns as one: what a search reads; more rows may be too long for one text."""

_moment = lru_cache(maxsize=4096)(from_stored)


def _value(text: str) -> Any:
    return {} if text == "{}" else json.loads(text)  # what most items have


_DECODERS: Final[dict[type, Decoder]] = {StoredTime: _moment, StoredJson: _value}
_DECODERS_AS_ONE: Final[dict[type, Decoder]] = {**_DECODERS, Double: float}


def found(connection: Connection, owners: Iterable[str]) -> Found:
    """Return the rows of `owners` that exist, and the places of the exchanges that the items rest on."""
    rows: dict[str, KnowledgeItem | Exchange] = {}
    places: dict[str, SourceRef] = {}
    reader = _Reader(connection)
    for ids in chunks(owners):
        exchanges, items = ([one for one in ids if one.startswith(sign)] for sign in "xk")
        asked = (_exchanges, exchanges), (hot_queries.evidence_with_places, items), (_items, items)
        found_exchanges, found_evidence, found_items = reader.together(asked)
        rows.update((row["id"], exchange_of(row)) for row in found_exchanges)
        evidence = _evidence(found_evidence, places)
        rows.update((row["id"], item_of(row, evidence.get(row["id"], ()))) for row in found_items)
    return Found({key: rows[key] for key in owners if key in rows}, places)


def _evidence(rows: Iterable[Row], places: dict[str, SourceRef]) -> dict[str, tuple[Evidence, ...]]:
    """Return the evidence of items in order, and note where the exchanges stand."""
    numbered: defaultdict[str, dict[int, Evidence]] = defaultdict(dict)
    for row in rows:
        numbered[row["item_id"]][row["position"]] = evidence_of(row)
        if row["path"] is not None:
            places[row["exchange_id"]] = SourceRef(row["path"], row["session_id"], row["exchange_index"])
    return {item: tuple(one[place] for place in sorted(one)) for item, one in numbered.items()}


def _exchanges(ids: Sequence[str]) -> Select[Any]:
    return hot_queries.exchanges_by_id(ids, tools=False)


def _items(ids: Sequence[str]) -> Select[Any]:
    return hot_queries.items_by_id(ids)


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A statement as the driver takes it: its text, the names of its parameters where it wants names, its columns."""

    text: str
    parameters: tuple[str, ...]
    columns: tuple[str, ...]
    decoded: tuple[tuple[int, Decoder], ...]

    def rows(self, cells: Iterable[Sequence[Any]]) -> Iterator[Row]:
        """Yield rows as the driver returned them with names and decoded."""
        for one in cells:
            row = list(one)
            for place, decode in self.decoded:
                if row[place] is not None:
                    row[place] = decode(row[place])
            yield dict(zip(self.columns, row, strict=True))


class _Reader:
    """Runs statements on one state of the database, as near to the driver as the engine lets us."""

    def __init__(self, connection: Connection) -> None:
        self._dialect = connection.dialect
        self._run: Callable[[str, Any], Any] = connection.exec_driver_sql
        self._sqlite: Any = None
        if self._dialect.name == "sqlite":  # its errors are known by themselves: see `failures`
            self._sqlite = connection.connection.cursor()
            self._run = self._sqlite.execute

    def together(self, asked: Sequence[Asked]) -> list[Iterator[Row]]:
        """Return what each of the statements finds; SQLite runs a few short ones as one, which sees one state."""
        if self._sqlite is not None and all(len(ids) <= AS_ONE for _, ids in asked):
            return self._as_one(asked)
        if self._sqlite is not None and not self._sqlite.connection.in_transaction:
            self._sqlite.execute("BEGIN")  # ends when the connection goes back to the pool
        return [self._rows(build, ids) for build, ids in asked]

    def _as_one(self, asked: Sequence[Asked]) -> list[Iterator[Row]]:
        sizes = tuple((build, _size(ids)) for build, ids in asked if ids)
        text, prepared = _prepared_as_one(self._dialect, sizes)
        values = [value for _, ids in asked if ids for value in _filled(ids)]
        cells = self._run(text, values).fetchone() if sizes else ()
        found = iter([one.rows(json.loads(cell)) for one, cell in zip(prepared, cells, strict=True)])
        return [next(found) if ids else iter(()) for _, ids in asked]

    def _rows(self, build: Build, ids: Sequence[str]) -> Iterator[Row]:
        if not ids:
            return iter(())
        prepared = _prepared(self._dialect, build, _size(ids))
        values = _filled(ids)
        given = dict(zip(prepared.parameters, values, strict=True)) if prepared.parameters else tuple(values)
        return prepared.rows(self._run(prepared.text, given).fetchall())


def _size(ids: Sequence[str]) -> int:
    return next(size for size in SIZES if size >= len(ids))


def _filled(ids: Sequence[str]) -> list[str]:
    """Return `ids` as a statement of the next size takes them: every id is one parameter of it."""
    return [*ids, *[ids[-1]] * (_size(ids) - len(ids))]


@lru_cache(maxsize=64)
def _prepared(dialect: Dialect, build: Build, size: int, *, as_one: bool = False) -> _Prepared:
    statement = build([f"{number}" for number in range(size)])
    compiled = statement.compile(dialect=dialect, compile_kwargs={"render_postcompile": True})
    named = {value: name for name, value in compiled.params.items()}
    columns = list(statement.selected_columns)
    decoders = _DECODERS_AS_ONE if as_one else _DECODERS
    return _Prepared(
        text=_array_of(compiled.string, columns) if as_one else compiled.string,
        parameters=() if compiled.positional else tuple(named[f"{number}"] for number in range(size)),
        columns=tuple(column.name for column in columns),
        decoded=tuple(
            (place, decoders[kind]) for place, one in enumerate(columns) if (kind := type(one.type)) in decoders
        ),
    )


@lru_cache(maxsize=64)
def _prepared_as_one(dialect: Dialect, sizes: tuple[tuple[Build, int], ...]) -> tuple[str, list[_Prepared]]:
    """Return one statement with one row, of which each cell has all rows of a statement, and those statements."""
    prepared = [_prepared(dialect, build, size, as_one=True) for build, size in sizes]
    return f"SELECT {', '.join(f'({one.text})' for one in prepared)}", prepared


def _array_of(statement: str, columns: Sequence[ColumnElement[Any]]) -> str:
    """Return a statement whose only row is a JSON array of the rows of `statement`; of numbers every digit."""
    names = [f"c{place}" for place in range(len(columns))]
    cells = [
        f"printf('%!.17g', {name})" if isinstance(column.type, Double) else name
        for name, column in zip(names, columns, strict=True)
    ]
    rows = f"WITH found ({', '.join(names)}) AS ({statement})"
    return f"{rows} SELECT json_group_array(json_array({', '.join(cells)})) FROM found"
