"""What a service and the process of its embedding model say to each other; vectors are float32, one after the other."""

from __future__ import annotations

from array import array
from dataclasses import asdict, dataclass
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knowledge_system.processes.wire import Control, Message

if TYPE_CHECKING:
    from collections.abc import Sequence

    from knowledge_system.domain.embedding import Vector
    from knowledge_system.embedding.spaces import Variant


class Kind(IntEnum):
    """What a message asks for."""

    OPEN = 1
    """Load the model; everything else comes after."""
    EMBED = 2


@dataclass(frozen=True, slots=True)
class Opening:
    """Which model: what `open_local_model` is given."""

    models: Path
    variant: Variant
    threads: int | None = None
    batch_size: int = 32

    def head(self) -> dict[str, Any]:
        """Return it as it travels."""
        return {**asdict(self), "models": str(self.models)}

    @classmethod
    def of(cls, head: dict[str, Any]) -> Opening:
        """Invert `head`."""
        return cls(Path(head["models"]), head["variant"], head["threads"], head["batch_size"])


def vectors_message(request: int, vectors: Sequence[Vector]) -> Message:
    """Return the answer to texts."""
    return Message(request, Control.ANSWER, None, b"".join(vectors))


def vectors_of(message: Message, count: int) -> list[Vector]:
    """Invert `vectors_message`."""
    size = len(message.tail) // count
    vectors = []
    for place in range(count):
        vector = array("f")
        vector.frombytes(message.tail[place * size : (place + 1) * size])
        vectors.append(vector)
    return vectors
