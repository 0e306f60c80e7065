"""Which model this is: names, sizes, checksums, and the identity of the space of each variant."""

from __future__ import annotations

import hashlib
from functools import cache
from typing import Literal, TypeAlias, get_args

from knowledge_system.domain.embedding import EmbeddingSpace
from knowledge_system.domain.errors import UsageError

Variant: TypeAlias = Literal["fp32", "int8"]
"""`fp32` computes as the published model does; `int8` has 8-bit weights and is another space."""

MODEL = "all-MiniLM-L6-v2"
DIMENSION = 384
MAX_TOKENS = 256
"""`max_seq_length` of the published `sentence_bert_config.json`; the position table would allow 512."""
PREFIXES = (2_048, 16_384, 65_536)
"""Characters that are read, in turn, until they give enough tokens; nothing after the last is ever read.

English has 4 to 5 characters a token and code 3, so the first prefix serves nearly all texts; the others serve texts
that begin with kilobytes of white space or of unbroken characters (a word of more than 100 is one token).
"""

WEIGHTS_FILE = "model.safetensors"
TOKENIZER_FILE = "tokenizer.json"
CHECKSUMS = {
    WEIGHTS_FILE: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    TOKENIZER_FILE: "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}
"""SHA-256 of the files as published under sentence-transformers/all-MiniLM-L6-v2."""

DEFAULT_VARIANT: Variant = "int8"
"""Chosen by the figures in `docs/decisions/0004-local-embedding-model.md`."""

_RECIPES: dict[Variant, str] = {"fp32": "1", "int8": "2"}
"""Raised whenever a change of graph, pooling or truncation moves the vectors of a variant by more than rounding."""


@cache
def space_of(variant: str) -> EmbeddingSpace:
    """Return the space of a variant. Its revision follows from weights, tokenizer, variant, recipe and truncation."""
    known = checked_variant(variant)
    made_of = "/".join([*CHECKSUMS.values(), known, _RECIPES[known], str(MAX_TOKENS)])
    digest = hashlib.sha256(made_of.encode("ascii")).hexdigest()[:12]
    return EmbeddingSpace(MODEL, DIMENSION, f"{known}-{digest}")


def checked_variant(variant: str) -> Variant:
    """Return `variant` as its type. Raises UsageError when there is no such variant."""
    for known in _RECIPES:
        if known == variant:
            return known
    choices = " or ".join(get_args(Variant))
    raise UsageError(f"There is no variant {variant!r} of {MODEL}.", hint=f"Use {choices}.")


def folder_of(space: EmbeddingSpace) -> str:
    """Return the name of the cache folder of a space: 16 hexadecimal digits of SHA-256 of its key."""
    return hashlib.sha256(space.key.encode("utf-8")).hexdigest()[:16]
