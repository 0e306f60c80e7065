"""Strategies as data: who is asked in which order, and how. The three of the guide, and a configuration's changes.

Precedence of the order of providers, highest first:

1. `Call.strategy`, or the strategy set for the operation (`strategies` → `operations`): that strategy's priority;
2. an `activeStrategy` that the configuration chooses explicitly: that strategy's priority;
3. `providerPriority`, with the manners (caching, hedging, voting) of the default strategy, `cost-optimized`.

A priority is also a permission: a provider that is not in it is asked only by a call that names it.
"""

from __future__ import annotations

import dataclasses
import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from knowledge_system.domain.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT = "cost-optimized"


@dataclass(frozen=True, slots=True)
class Style:
    """One strategy.

    `cache_aggressive` caches every call with a temperature, not only temperature 0. `batch` asks callers to put many
    items in one call. `parallel` hedges: another candidate starts every `hedge_after` milliseconds, at most `hedges`
    beside the first. `low_confidence` asks the next candidate when an answer is surer of itself than `min_confidence`
    by less than nothing. `voting` asks `members` candidates at once, for answers that can be compared (a schema).
    """

    name: str
    priority: tuple[str, ...]
    cache_aggressive: bool = False
    batch: bool = False
    parallel: bool = False
    hedge_after: int = 500
    hedges: int = 1
    low_confidence: bool = False
    min_confidence: float = 0.7
    voting: bool = False
    members: int = 3


BUILT_IN: Mapping[str, Style] = {
    style.name: style
    for style in (
        Style("cost-optimized", ("local", "groq", "gemini", "openai", "anthropic"), cache_aggressive=True, batch=True),
        Style("latency-optimized", ("groq", "local", "gemini", "openai", "anthropic"), parallel=True),
        Style("quality-optimized", ("anthropic", "openai", "groq", "local"), low_confidence=True, voting=True),
    )
}

_KEYS = {
    "priority": "priority",
    "cacheAggressive": "cache_aggressive",
    "batchWhenPossible": "batch",
    "parallelRequests": "parallel",
    "hedgeAfter": "hedge_after",
    "hedges": "hedges",
    "retryOnLowConfidence": "low_confidence",
    "minConfidence": "min_confidence",
    "ensembleVoting": "voting",
    "members": "members",
}
_NUMBERS: Mapping[str, tuple[float, float]] = {
    "hedge_after": (0, 600_000),
    "hedges": (1, 8),
    "min_confidence": (0, 1),
    "members": (2, 9),
}


def styles(configured: Mapping[str, Mapping[str, Any]] | None = None) -> dict[str, Style]:
    """Return the built-in strategies changed and extended by `configured` (`inference.strategies`, camelCase keys).

    Raises UsageError for an unknown key or an impossible value.
    """
    known = dict(BUILT_IN)
    for name, changes in (configured or {}).items():
        base = known.get(name, dataclasses.replace(BUILT_IN[DEFAULT], name=name))
        values = {_field(name, key): _value(name, key, value) for key, value in changes.items()}
        known[name] = dataclasses.replace(base, **values)
    return known


def chosen(known: Mapping[str, Style], name: str) -> Style:
    """Return the strategy `name`. Raises UsageError with the nearest known one."""
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
    raise UsageError(f"unknown strategy {name}", hint=hint)


def _field(style: str, key: str) -> str:
    if key in _KEYS:
        return _KEYS[key]
    near = difflib.get_close_matches(key, _KEYS, n=1)
    raise UsageError(
        f"unknown key inference.strategies.{style}.{key}",
        hint=f"did you mean {near[0]}?" if near else f"known: {', '.join(_KEYS)}",
    )


def _value(style: str, key: str, value: object) -> Any:
    field = _KEYS[key]
    if field == "priority":
        if isinstance(value, (list, tuple)) and value and all(isinstance(name, str) for name in value):
            return tuple(value)
    elif field not in _NUMBERS:
        if isinstance(value, bool):
            return value
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        low, high = _NUMBERS[field]
        whole = field == "min_confidence" or isinstance(value, int)
        if low <= value <= high and whole:
            return value
    raise UsageError(
        f"inference.strategies.{style}.{key} cannot be {value!r}", hint="see `docs/reference` for what it takes"
    )
