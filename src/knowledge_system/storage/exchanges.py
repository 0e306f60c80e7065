"""Stored sessions and exchanges."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import select, update

from knowledge_system.domain.clock import from_stored, to_stored
from knowledge_system.storage import hot_queries
from knowledge_system.storage.erasing import erase_exchanges
from knowledge_system.storage.port import SqlPort, uninterrupted
from knowledge_system.storage.portions import portion
from knowledge_system.storage.rows import exchange_of, session_of
from knowledge_system.storage.schema import exchanges
from knowledge_system.storage.statements import chunks, read_cursor, write_cursor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

    from knowledge_system.domain.sessions import Exchange, Session
    from knowledge_system.domain.truth import Page


class SqlExchanges(SqlPort):
    """The port `Exchanges` on SQL."""

    @uninterrupted
    async def get(self, ids: Sequence[str], *, tools: bool = True) -> dict[str, Exchange]:
        """Return the exchanges that exist, by id, in the order asked for; without their tool calls when not `tools`."""

        def work(connection: Connection) -> dict[str, Exchange]:
            found: dict[str, Exchange] = {}
            for part in chunks(ids):
                rows = connection.execute(hot_queries.exchanges_by_id(part, tools=tools)).mappings()
                found.update((row["id"], exchange_of(row)) for row in rows)
            return found

        found = await self._connections.look(work)
        return {key: found[key] for key in ids if key in found}

    @uninterrupted
    async def around(self, exchange_id: str, before: int, after: int) -> tuple[list[Exchange], list[Exchange]]:
        """Return up to `before` preceding and `after` following exchanges of the same session, in order."""
        columns = exchanges.c
        anchor = select(columns.session_id, *hot_queries.EXCHANGE_KEY).where(columns.id == exchange_id)

        def work(connection: Connection) -> tuple[list[Exchange], list[Exchange]]:
            row = connection.execute(anchor).first()
            if row is None:
                return [], []
            sides: list[list[Exchange]] = []
            for limit, following in ((before, False), (after, True)):
                statement = hot_queries.neighbours_of(limit, following=following)
                place = hot_queries.place_of(row.session_id, row[1:])
                rows = connection.execute(statement, place).mappings() if limit else ()
                sides.append([exchange_of(one) for one in rows])
            return sides[0][::-1], sides[1]

        return await self._connections.look(work)

    @uninterrupted
    async def page(self, page: Page) -> tuple[list[Exchange], str | None]:
        """Return one page, newest first, and the cursor of the next. Raises UsageError for a foreign cursor."""
        position: Sequence[Any] = hot_queries.LAST_EXCHANGE
        if page.after is not None:
            moment, index, key = read_cursor(page.after, (str, int, str))
            position = (from_stored(moment), index, key)
        async with self._connections.read() as connection:
            rows = (await connection.execute(hot_queries.exchange_page(page, position))).mappings().all()
        shown, more = rows[: page.limit], len(rows) > page.limit
        cursor = None
        if more and shown:
            last = shown[-1]
            cursor = write_cursor(to_stored(last["ordered_at"]), last["exchange_index"], last["id"])
        return [exchange_of(row) for row in shown], cursor

    @uninterrupted
    async def unlearned(self, limit: int) -> list[Exchange]:
        """Return exchanges that have not been judged since they were stored or grew, oldest first.

        Large ones come in smaller numbers than `limit`, but never none while there are any.
        """
        return await self._connections.look(lambda connection: portion(connection, hot_queries.unlearned(limit)))

    @uninterrupted
    async def reconsider(self, ids: Sequence[str]) -> None:
        """Make exchanges unlearned again."""
        async with self._connections.write() as connection:
            for part in chunks(ids):
                again = update(exchanges).where(exchanges.c.id.in_(part)).values(learned_at=None, learn_outcome=None)
                await connection.execute(again)

    @uninterrupted
    async def sessions(self, page: Page) -> tuple[list[Session], str | None]:
        """Return one page of sessions, newest first, and the cursor of the next."""
        position: Sequence[Any] = hot_queries.LAST_PAIR
        if page.after is not None:
            moment, key = read_cursor(page.after, (str, str))
            position = (from_stored(moment), key)
        async with self._connections.read() as connection:
            rows = (await connection.execute(hot_queries.session_page(page, position))).mappings().all()
        shown, more = rows[: page.limit], len(rows) > page.limit
        cursor = write_cursor(to_stored(shown[-1]["ordered_at"]), shown[-1]["id"]) if more and shown else None
        return [session_of(row) for row in shown], cursor

    @uninterrupted
    async def forget(self, ids: Sequence[str]) -> int:
        """Erase exchanges and what rests on them alone, overwrite the place, leave tombstones; return how many."""
        async with self._connections.write() as connection:
            count = await erase_exchanges(connection, ids, self._clock.now())
        await self._connections.checkpoint()
        return count
