"""The numbers behind placeholders: equal values of a session get equal numbers, and no value is kept."""

from __future__ import annotations

import hashlib
import hmac

_DIGEST_BYTES = 16


class KeyedMemory:
    """A `PlaceholderMemory` that knows values by HMAC-SHA-256 under the installation's key, cut to 128 bits.

    A plain hash of a short password could be reversed by trying; without the key, which never leaves the installation,
    a digest says nothing. `state()` round-trips through JSON.
    """

    def __init__(self, key: bytes, state: dict[str, dict[str, int]] | None = None) -> None:
        self._key = key
        self._numbers = {kind: dict(numbers) for kind, numbers in (state or {}).items()}

    def number(self, kind: str, value: str) -> int:
        """Return the number of `value` among the values of `kind`, starting at 1."""
        message = f"{kind}\0{value}".encode("utf-8", "surrogatepass")
        digest = hmac.new(self._key, message, hashlib.sha256).digest()[:_DIGEST_BYTES].hex()
        numbers = self._numbers.setdefault(kind, {})
        return numbers.setdefault(digest, len(numbers) + 1)

    def state(self) -> dict[str, dict[str, int]]:
        """Return `{kind: {digest: number}}`, a copy."""
        return {kind: dict(numbers) for kind, numbers in self._numbers.items()}
