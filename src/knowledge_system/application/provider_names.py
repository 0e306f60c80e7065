"""Names in the configuration that must mean something: of providers, and of strategies.

A strategy that lists a provider nobody knows, or a breaker for one, would be silently ignored; here it is an error.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from knowledge_system.domain.errors import UsageError
from knowledge_system.inference.styles import chosen, styles
from knowledge_system.inference.vendors import vendors

if TYPE_CHECKING:
    from collections.abc import Iterator

    from knowledge_system.settings import Configuration


def check_names(tree: Configuration) -> None:
    """Raise UsageError that says where each name stands that is no provider, or the first that is no strategy."""
    inference = tree.inference
    wrong = [f"{place}: {name!r}{_near(name)}" for place, name in _providers(tree) if name not in vendors()]
    if wrong:
        raise UsageError(
            f"configuration names unknown providers: {'; '.join(wrong)}",
            hint=f"known providers: {', '.join(vendors())}",
        )
    known = styles(inference.strategies)
    for name in (inference.active_strategy, *inference.operations.values()):
        chosen(known, name)


def _providers(tree: Configuration) -> Iterator[tuple[str, str]]:
    """Yield the place and name of every provider that is named."""
    inference = tree.inference
    yield from (("inference.providerPriority", name) for name in inference.provider_priority)
    yield from (("inference.providers", name) for name in inference.providers)
    yield from (("circuitBreaker", name) for name in tree.circuit_breaker)
    for style, changes in inference.strategies.items():
        listed = changes.get("priority", ())
        names = listed if isinstance(listed, (list, tuple)) else ()
        yield from ((f"inference.strategies.{style}.priority", str(name)) for name in names)
    yield "embeddings.remote.provider", tree.embeddings.remote.provider


def _near(name: str) -> str:
    near = difflib.get_close_matches(name, vendors(), n=1)
    return f" (did you mean {near[0]}?)" if near else ""
