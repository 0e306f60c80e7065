"""Which scope a request needs, whose token it carries, and how many wrong ones an address may try."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from knowledge_system.domain.access import Access

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from knowledge_system.domain.access import Token

_ASKING: Final = frozenset({"/v1/search"})
_LOOKING: Final = frozenset({"GET", "HEAD", "OPTIONS"})
OPEN: Final = frozenset({"/health", "/health/live", "/health/ready"})
"""Paths that need no token: without one they say the status and nothing else."""
WINDOW: Final = 60.0
"""Seconds within which wrong tokens are counted."""
_REMEMBERED: Final = 4096
"""Addresses remembered at most; the one that failed longest ago is forgotten first."""


def needed(method: str, path: str) -> Access:
    """Return the scope that a request needs; a path nobody knows needs the one its method suggests."""
    if path == "/config" or path.startswith(("/config/", "/internal/")):
        return Access.ADMIN
    return Access.READ if method in _LOOKING or path in _ASKING else Access.WRITE


def bearer(authorization: str, tokens: Sequence[Token]) -> Token | None:
    """Return the token that a header carries. Every known one is compared, in constant time."""
    scheme, _, given = authorization.partition(" ")
    digest = hashlib.sha256(given.strip().encode("latin-1", "replace")).digest()
    found = None
    for token in tokens:
        if hmac.compare_digest(digest, token.digest):
            found = token
    return found if scheme.lower() == "bearer" else None


@dataclass(slots=True)
class _Tries:
    since: float
    count: int


class Failures:
    """Counts wrong tokens by address, in windows; bounded in memory."""

    def __init__(self, most: int, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._monotonic = monotonic
        self._tries: OrderedDict[str, _Tries] = OrderedDict()

    def wait(self, address: str) -> int:
        """Return the whole seconds that `address` has to wait, 0 when it may try."""
        tries = self._tries.get(address)
        if tries is None or tries.count < self._most:
            return 0
        left = tries.since + WINDOW - self._monotonic()
        return int(left) + 1 if left > 0 else 0

    def failed(self, address: str) -> None:
        """Note a wrong token."""
        now = self._monotonic()
        tries = self._tries.pop(address, None)
        if tries is None or now - tries.since >= WINDOW:
            tries = _Tries(now, 0)
        tries.count += 1
        self._tries[address] = tries
        while len(self._tries) > _REMEMBERED:
            self._tries.popitem(last=False)
