"""Text to token ids, as the published tokenizer does it, with a bound on the work a huge text can cause."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from tokenizers import Tokenizer

from knowledge_system.embedding.spaces import MAX_TOKENS, PREFIXES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

ENOUGH = MAX_TOKENS + 128
"""A cut word has at most 100 tokens, so a prefix with this many tokens has the first `MAX_TOKENS` right."""

SEPARATOR = 102
"""Id of `[SEP]`, which ends every sequence, a truncated one too."""


class TextTokenizer:
    """Gives the ids of the first `MAX_TOKENS` tokens of texts. Safe for use from several threads."""

    def __init__(self, path: Path) -> None:
        self._tokenizer = Tokenizer.from_file(str(path))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()

    def ids(self, texts: Sequence[str]) -> list[NDArray[np.int32]]:
        """Return one array of 2 to `MAX_TOKENS` ids per text, `[CLS]` first and `[SEP]` last."""
        found: list[list[int]] = [[] for _ in texts]
        waiting: list[int] = list(range(len(texts)))
        for prefix in PREFIXES:
            for index, ids in zip(waiting, self._encode([texts[index][:prefix] for index in waiting]), strict=True):
                found[index] = ids
            waiting = [index for index in waiting if len(texts[index]) > prefix and len(found[index]) < ENOUGH]
            if not waiting:
                break
        return [_truncated(ids) for ids in found]

    def count(self, texts: Sequence[str]) -> list[int]:
        """Return the number of tokens of each whole text, the two special ones included; time grows with length."""
        return [len(ids) for ids in self._encode(list(texts))]

    def _encode(self, texts: list[str]) -> list[list[int]]:
        clean = [text if text.isascii() else _without_lone_surrogates(text) for text in texts]
        return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(clean)]


def _truncated(ids: list[int]) -> NDArray[np.int32]:
    kept = ids if len(ids) <= MAX_TOKENS else [*ids[: MAX_TOKENS - 1], SEPARATOR]
    return np.array(kept, np.int32)


def _without_lone_surrogates(text: str) -> str:
    """Join surrogate pairs and replace lone halves by U+FFFD, which the tokenizer drops; it refuses them otherwise."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
