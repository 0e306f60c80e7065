"""Which collections of a server are an index: an alias, and behind it one generation after the other.

::

    knowledge_384-1a2b3c4d5e6f           alias: what is searched and written
    knowledge_384-1a2b3c4d5e6f-000002    the collection behind it
    knowledge_384-1a2b3c4d5e6f-000003    being built, or left by a rebuild that ended with its process

The hexadecimal digits are of the embedding space: models of the same dimension never meet in one collection.
"""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from qdrant_client.http import models

from knowledge_system.domain.errors import Busy, DependencyUnavailable, KnowledgeError, Overtaken
from knowledge_system.storage.index_generations import place_of
from knowledge_system.storage.qdrant_collection import Collection
from knowledge_system.storage.qdrant_requests import require_fit

if TYPE_CHECKING:
    from knowledge_system.domain.embedding import EmbeddingSpace
    from knowledge_system.storage.qdrant_wire import Link

_DIGITS: Final = 6
_PATIENCE: Final = 60.0
"""Seconds of a write to a collection that is being built: nobody waits for it, and a server may be busy with others."""


class ServerGenerations:
    """The alias of a space and the collections it may point at."""

    def __init__(self, link: Link, space: EmbeddingSpace) -> None:
        self._link = link
        self._space = space
        self.alias = place_of(Path(), space).name
        self._generation = re.compile(rf"{re.escape(self.alias)}-(\d{{{_DIGITS}}})")

    async def opened(self) -> Collection:
        """Return the collection behind the alias, created when there is none, and made whole when it is half created.

        Raises UsageError when what is there is not for this space; it is left as it is.
        """
        live = Collection(self._link, self.alias, self._space.dimension)
        if await self.current() is None:
            # Two processes that come at the same time create the same one.
            first = self._collection(min(await self._existing(), default=1))
            await first.create(self._space.key)
            await self._point_at(first.name, replace=False)
        info = await live.described()
        require_fit(info, self.alias, self._space.dimension)
        live.size = info.points_count or 0
        return live

    async def current(self) -> str | None:
        """Return the collection that the alias points at."""
        answer = await self._link.ask("read the aliases", lambda api: api.aliases_api.get_collections_aliases())
        aliases = answer.result.aliases if answer.result else []
        return next((one.collection_name for one in aliases if one.alias_name == self.alias), None)

    async def served(self) -> Collection:
        """Return the collection behind the alias by its own name. Raises DependencyUnavailable when it vanished."""
        name = await self.current()
        if name is None:
            raise DependencyUnavailable(
                f"{self._link.place} has no collection {self.alias} any more",
                hint="Run `knowledge index rebuild`: the index is derived and loses nothing.",
            )
        return Collection(self._link, name, self._space.dimension)

    async def begun(self) -> Collection:
        """Create the next generation. Raises Busy when another process creates one this moment."""
        fresh = self._collection(max(await self._existing(), default=0) + 1)
        fresh.within = max(self._link.within, _PATIENCE)
        try:
            created = await fresh.create(self._space.key)
        except BaseException:
            await self.discard(fresh)
            raise
        if not created:
            raise Busy("another process is rebuilding the index", hint="Repeat when it has ended.")
        return fresh

    async def switch(self, fresh: Collection) -> None:
        """Point the alias at a generation and remove the older ones; the searches under way end well.

        Raises Overtaken when a newer generation is served by now.
        """
        before = await self.current()
        if before is not None and before > fresh.name:
            raise Overtaken("another process rebuilt the index meanwhile", hint="Nothing is to be done: it is new.")
        await self._point_at(fresh.name, replace=before is not None)
        for number in await self._existing():
            older = self._collection(number)
            if older.name < fresh.name:
                # A collection that stays is removed by the next rebuild.
                with contextlib.suppress(KnowledgeError):
                    await self._remove(older.name)

    async def discard(self, fresh: Collection) -> None:
        """Remove a generation that is not served; when that cannot be told, it stays for the next rebuild."""
        with contextlib.suppress(KnowledgeError):
            if await self.current() != fresh.name:
                await self._remove(fresh.name)

    async def remove_other_spaces(self) -> int:
        """Remove the generations of other spaces of this dimension; return how many there were."""
        ours = re.compile(rf"{re.escape(self._space.collection)}-[0-9a-f]{{12}}-\d{{{_DIGITS}}}")
        names = [name for name in await self.collections() if ours.fullmatch(name)]
        others = [name for name in names if not self._generation.fullmatch(name)]
        for name in others:
            await self._remove(name)
        return len(others)

    async def collections(self) -> list[str]:
        """Return the names of all collections of the server, whosever they are."""
        answer = await self._link.ask("list the collections", lambda api: api.collections_api.get_collections())
        return sorted(one.name for one in (answer.result.collections if answer.result else []))

    def _collection(self, number: int) -> Collection:
        return Collection(self._link, f"{self.alias}-{number:0{_DIGITS}}", self._space.dimension)

    async def _existing(self) -> list[int]:
        return [int(told[1]) for name in await self.collections() if (told := self._generation.fullmatch(name))]

    async def _point_at(self, name: str, *, replace: bool) -> None:
        """Point the alias at a collection, at once for everybody; when that seems to have failed, ask what happened."""
        create = models.CreateAliasOperation(
            create_alias=models.CreateAlias(collection_name=name, alias_name=self.alias)
        )
        delete = models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=self.alias))
        actions = models.ChangeAliasesOperation(actions=[delete, create] if replace else [create])
        try:
            await self._link.ask(
                "switch the alias", lambda api: api.aliases_api.update_aliases(change_aliases_operation=actions)
            )
        except KnowledgeError:
            # The answer was lost, or another process that opens the index was quicker.
            if await self.current() != name:
                raise

    async def _remove(self, name: str) -> None:
        await self._link.ask("remove a collection", lambda api: api.collections_api.delete_collection(name))
