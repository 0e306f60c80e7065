"""Whose word an item is: the lowest trust along its evidence.

An agent that has just read a web page may repeat what the page told it to say, and it cannot be seen which of its
sentences came from there; so everything an exchange says after a look at the web counts as the web's word. What the
user typed is the user's.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from knowledge_system.domain.injection import Trust

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from knowledge_system.domain.knowledge import Evidence, KnowledgeItem
    from knowledge_system.domain.sessions import Exchange

REMEMBER_TOOL = "knowledge_remember"
"""Tool call that marks an exchange as something an agent asked to keep."""
_WEB_TOOL = re.compile(r"web|browser|fetch|playwright|puppeteer|navigate|crawl|scrape|search_query", re.IGNORECASE)
_WEB_COMMAND = re.compile(r"(?<![\w./-])(?:curl|wget|lynx|w3m|http|https|xh)\s+(?:-\S+\s+)*\S*(?://|www\.|\w\.\w)")
_LOCAL = re.compile(r"//(?:localhost|127\.|0\.0\.0\.0|\[::1\])")
_PASTED = re.compile(r"^\s*(?:>|<[a-z-]+>|https?://\S+$)", re.MULTILINE | re.IGNORECASE)


def trust_of(item: KnowledgeItem, exchanges: Mapping[str, Exchange]) -> Trust:
    """Return the trust of an item; evidence whose exchange is gone cannot be vouched for and counts as a tool's."""
    return min((_of_evidence(one, exchanges) for one in item.evidence), default=Trust.TOOL)


def _of_evidence(evidence: Evidence, exchanges: Mapping[str, Exchange]) -> Trust:
    exchange = exchanges.get(evidence.exchange_id)
    if exchange is None:
        return Trust.TOOL
    if evidence.field == "user":
        quoted = exchange.user[evidence.start : evidence.end]
        return Trust.TOOL if _PASTED.search(quoted) else Trust.USER
    if evidence.field != "assistant":
        return Trust.TOOL
    if any(name == REMEMBER_TOOL for name, _ in _calls(exchange)):
        return Trust.TOOL  # an agent asked to keep it; what it had read before, nobody knows
    return Trust.WEB if saw_web(exchange) else Trust.AGENT


def saw_web(exchange: Exchange) -> bool:
    """Tell whether the agent looked at the web in this exchange."""
    return any(_is_web(name, text) for name, text in _calls(exchange))


def _calls(exchange: Exchange) -> Iterable[tuple[str, str]]:
    return ((tool.name, tool.input) for tool in exchange.tools)


def _is_web(name: str, text: str) -> bool:
    if _WEB_TOOL.search(name):
        return not _LOCAL.search(text)
    return bool(_WEB_COMMAND.search(text)) and not _LOCAL.search(text)
