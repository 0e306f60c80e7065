"""What a client may do."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum


class Access(IntEnum):
    """Each includes those before it: looking, storing and asking models, changing how the system works."""

    READ = 1
    WRITE = 2
    ADMIN = 3


@dataclass(frozen=True, slots=True)
class Token:
    """A secret that opens the door; only its SHA-256 is kept."""

    name: str
    access: Access
    digest: bytes = field(repr=False)
