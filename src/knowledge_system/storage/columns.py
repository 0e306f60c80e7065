"""Column types that keep one representation on SQLite and PostgreSQL: text, time and JSON, all in binary order."""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, Integer, Text, TypeDecorator

from knowledge_system.domain.clock import from_stored, to_stored
from knowledge_system.domain.truth import storable

if TYPE_CHECKING:
    from sqlalchemy import Dialect
    from sqlalchemy.types import TypeEngine

_ESCAPED_NUL = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")


def dump_json(value: Any) -> str:
    """Return `value` as compact JSON with the same replacements as `storable`, inside strings too."""
    text = storable(json.dumps(value, ensure_ascii=False, separators=(",", ":")))
    return _ESCAPED_NUL.sub("\\1\ufffd", text) if "\\u0000" in text else text


def _plain_text(dialect: Dialect) -> TypeEngine[Any]:
    """Return the engine's text in byte order; not adapted to the driver, which would make it VARCHAR."""
    return Text(collation="C") if dialect.name == "postgresql" else Text()


class StoredText(TypeDecorator[str]):
    """Text in byte order on both engines (`COLLATE "C"` on PostgreSQL, where the locale would decide otherwise)."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Return the engine's text type."""
        return _plain_text(dialect)

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002 -- fixed signature
        """Replace what PostgreSQL cannot keep, so that both engines keep the same."""
        return None if value is None else storable(value)


class StoredTime(TypeDecorator[datetime]):
    """A moment in the fixed-width UTC form: string order is time order."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Return the engine's text type."""
        return _plain_text(dialect)

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> str | None:  # noqa: ARG002 -- as above
        """Return the stored form."""
        return None if value is None else to_stored(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 -- as above
        """Return the moment, in UTC."""
        return None if value is None else from_stored(value)


class StoredJson(TypeDecorator[Any]):
    """A JSON value as compact text."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Return the engine's text type."""
        return _plain_text(dialect)

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:  # noqa: ARG002 -- as above
        """Return the text."""
        return None if value is None else dump_json(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:  # noqa: ARG002 -- as above
        """Return the value."""
        return None if value is None else json.loads(value)


def sequence_type() -> TypeEngine[int]:
    """Return the type of a growing 64-bit key: SQLite numbers rows only when it is called INTEGER."""
    return BigInteger().with_variant(Integer(), "sqlite")
