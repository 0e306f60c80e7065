"""The shared second cache level in Redis: JSON bytes by key, optional, and never in anybody's way.

Redis that is down, slow or full means no shared cache: the first failure is told once, Redis is left alone for
`RETRY_SECONDS`, then one command tries it, and the first answer is told too. Values are only ever bytes; nothing is
unpickled.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from redis.asyncio import Redis
from redis.exceptions import RedisError

from knowledge_system.domain.errors import DependencyUnavailable, UsageError
from knowledge_system.domain.events import CacheDegraded, Emit, discard

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

_T = TypeVar("_T")

RETRY_SECONDS = 5.0
TIMEOUT_SECONDS = 0.25
"""Of connecting and of each command: a cache slower than this is no cache."""

_PREFIX = "knowledge:response:"
_GENERATION = "knowledge:generation"
_BATCH = 500


_HERE = frozenset({"localhost", "127.0.0.1", "::1"})


def is_local(url: str) -> bool:
    """Tell whether `url` names a Redis on this machine: a Unix socket or a loopback address."""
    parts = urlsplit(url)
    return parts.scheme == "unix" or parts.hostname in _HERE


def connected(url: str) -> Redis:
    """Return a client for `redis://…`, `rediss://…` or `unix://…`; it connects when it is used.

    Raises UsageError for a URL that is none.
    """
    try:
        return Redis.from_url(
            url, socket_timeout=TIMEOUT_SECONDS, socket_connect_timeout=TIMEOUT_SECONDS, decode_responses=False
        )
    except ValueError as error:
        raise UsageError(
            "cache.l2.url is not a Redis URL", hint="for example redis://localhost:6379/0, or null for no L2"
        ) from error


class RedisCache:
    """A ResponseCache that fails open: a Redis that cannot be used is a cache that holds nothing.

    Installations that share a Redis have a `namespace` each: what one clears or reads is its own.
    """

    def __init__(
        self, client: Redis, emit: Emit = discard, monotonic: Callable[[], float] = time.monotonic, namespace: str = ""
    ) -> None:
        self._client = client
        self._prefix = f"{_PREFIX}{namespace}:" if namespace else _PREFIX
        self._emit = emit
        self._monotonic = monotonic
        self._down_until: float | None = None
        self._hits = 0
        self._misses = 0
        self._errors = 0

    async def get(self, key: str) -> tuple[bytes, float] | None:
        """Return the value and the seconds it has left; None also when Redis cannot be asked."""
        async with self._client.pipeline(transaction=False) as pipe:
            pipe.get(self._prefix + key)
            pipe.pttl(self._prefix + key)
            found: Sequence[Any] = await self._tried(pipe.execute, (None, 0))
        value, milliseconds = found
        if value is None or milliseconds <= 0:
            self._misses += 1
            return None
        self._hits += 1
        return bytes(value), milliseconds / 1000

    async def put(self, key: str, value: bytes, ttl: float) -> None:
        """Store for `ttl` seconds, if Redis can be asked."""
        milliseconds = int(ttl * 1000)
        if milliseconds > 0:
            await self._tried(lambda: self._client.set(self._prefix + key, value, px=milliseconds), None)

    async def clear(self) -> int:
        """Remove our entries, and no other keys of the database; return how many."""
        return await self._tried(self._removed, 0)

    async def entries(self) -> int | None:
        """Return how many entries there are, None when Redis cannot be asked."""
        return await self._tried(self._counted, None)

    async def answers(self) -> bool:
        """Tell whether Redis answers; False also for a few seconds after it did not."""
        return bool(await self._tried(self._client.ping, False))  # noqa: FBT003 -- what is returned otherwise

    async def stats(self) -> Mapping[str, float]:
        """Return hits, misses and errors of this process."""
        return {"hits": self._hits, "misses": self._misses, "errors": self._errors}

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _counted(self) -> int | None:
        return sum([1 async for _ in self._client.scan_iter(match=self._prefix + "*", count=_BATCH)])

    async def _removed(self) -> int:
        count = 0
        keys: list[bytes] = []
        async for key in self._client.scan_iter(match=self._prefix + "*", count=_BATCH):
            keys.append(key)
            if len(keys) >= _BATCH:
                count += await self._client.unlink(*keys)
                keys.clear()
        return count + (await self._client.unlink(*keys) if keys else 0)

    async def _tried(self, work: Callable[[], Awaitable[_T]], otherwise: _T) -> _T:
        """Return what Redis says, or `otherwise` when it fails or failed a moment ago."""
        if self._down_until is not None:
            if self._monotonic() < self._down_until:
                return otherwise
            self._down_until = self._monotonic() + RETRY_SECONDS  # one tries; the others do not wait for it
        try:
            answer = await work()
        except (RedisError, OSError, TimeoutError) as error:
            self._errors += 1
            if self._down_until is None:
                self._emit(CacheDegraded("l2", type(error).__name__))
            self._down_until = self._monotonic() + RETRY_SECONDS
            return otherwise
        if self._down_until is not None:
            self._down_until = None
            self._emit(CacheDegraded("l2", ""))
        return answer


class RedisGeneration:
    """The generation of knowledge shared by the processes that share a Redis."""

    def __init__(self, client: Redis) -> None:
        self._client = client

    async def current(self) -> int:
        """Return the number, 0 before the first advance. Raises DependencyUnavailable."""
        try:
            return int(await self._client.get(_GENERATION) or 0)
        except (RedisError, OSError, TimeoutError, ValueError) as error:
            raise _gone(error) from error

    async def advance(self) -> int:
        """Add one for everybody. Raises DependencyUnavailable: the others were not told."""
        try:
            return int(await self._client.incr(_GENERATION))
        except (RedisError, OSError, TimeoutError) as error:
            raise _gone(error) from error


def _gone(error: Exception) -> DependencyUnavailable:
    return DependencyUnavailable(
        f"Redis cannot be used: {type(error).__name__}", hint="check `cache.l2.url`, or set it to null"
    )
