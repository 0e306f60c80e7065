"""The door: raw exchanges in, redacted exchanges with a level out.

Levels, the strictest of all rows that apply:

=====================================================================  ============
nothing found                                                          internal
nothing found and a public topic matches                               public
personal data (an address of a private network does not count)         confidential
one to four distinct credentials                                       confidential
five distinct credentials or more, or any private key                  secret
a tool touches a file of credentials (`paths`)                         confidential or secret
a topic matches (`topics`)                                             that of the topic, never below the rows above
a topic rule fails while it runs                                       confidential
=====================================================================  ============
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

from knowledge_system.domain.sensitivity import Sensitivity, highest
from knowledge_system.domain.sessions import Exchange, ExchangeFacts, RawExchange, Session, ToolCall, exchange_id
from knowledge_system.sensitivity.memory import KeyedMemory
from knowledge_system.sensitivity.paths import holds_settings, path_level, paths_in
from knowledge_system.sensitivity.redaction import Tally, redact_structured, redact_text, redact_tree, spreader

if TYPE_CHECKING:
    from collections.abc import Sequence

    from knowledge_system.domain.sensitivity import PlaceholderMemory
    from knowledge_system.sensitivity.topics import TopicRules

MANY_CREDENTIALS = 5
_UNLEVELLED = "[personal:local-address#"


class DoorGatekeeper:
    """The `Gatekeeper` of the running system. `key` is the installation's random key for digests in memories."""

    def __init__(self, topics: TopicRules, key: bytes) -> None:
        self._topics = topics
        self._key = key

    def memory(self, state: dict[str, dict[str, int]] | None = None) -> PlaceholderMemory:
        """Return the placeholder memory of a session, continued from a stored `state`."""
        return KeyedMemory(self._key, state)

    def admit(self, raw: RawExchange, memory: PlaceholderMemory) -> Exchange:
        """Redact every text of `raw`, assign the level and the identity.

        The identity comes from the prompt redacted by itself, so it does not change when later text of the same
        exchange reveals more secrets.
        """
        tally = Tally()
        prompt = redact_text(raw.user, memory, tally)
        assistant = redact_text(raw.assistant, memory, tally)
        touched = [paths_in(tool.input) for tool in raw.tools]
        tools = [_tool(tool, paths, memory, tally) for tool, paths in zip(raw.tools, touched, strict=True)]
        facts = _facts(raw.facts, memory, tally)
        spread = spreader(tally)
        user, assistant = spread(prompt), spread(assistant)
        if tally.values:
            tools = [replace(tool, input=spread(tool.input), output=spread(tool.output)) for tool in tools]
            facts = replace(facts, commands=tuple(map(spread, facts.commands)), notes=tuple(map(spread, facts.notes)))
        paths = [path for found in touched for path in found] + list(raw.facts.files)
        return Exchange(
            id=exchange_id(raw.session.id, prompt, raw.occurrence),
            session_id=raw.session.id,
            index=raw.index,
            path=raw.session.path,
            project=redact_text(raw.session.project, memory, Tally()),
            agent=raw.session.agent,
            user=user,
            assistant=assistant,
            content_hash=content_hash(user, assistant, tools),
            timestamp=raw.timestamp,
            tools=tuple(tools),
            facts=facts,
            sensitivity=self._level(tally, _texts(raw), [*paths, raw.session.cwd]),
            redactions=tally.placements,
        )

    def admit_session(self, session: Session, memory: PlaceholderMemory) -> Session:
        """Redact what a session says about itself: project, title, working directory, branch, texts of its metadata."""
        tally = Tally()
        return replace(
            session,
            project=redact_text(session.project, memory, tally),
            title=redact_text(session.title, memory, tally),
            cwd=redact_text(session.cwd, memory, tally),
            git_branch=redact_text(session.git_branch, memory, tally),
            metadata=redact_tree(session.metadata, memory, tally),
        )

    def scrub(self, text: str) -> tuple[str, Sensitivity]:
        """Redact a free text such as a search query and return it with its level."""
        tally = Tally()
        clean = redact_text(text, self.memory(), tally)
        return clean, self._level(tally, [text], [])

    def _level(self, tally: Tally, texts: Sequence[str], paths: Sequence[str]) -> Sensitivity:
        found = [level for level in (found_level(tally), path_level(paths)) if level]
        topic = self._topics.level(texts, paths)
        if found:
            return highest([*found, topic] if topic else found)
        return topic or Sensitivity.INTERNAL


def found_level(tally: Tally) -> Sensitivity | None:
    """Return the level that the findings alone ask for, None when nothing was found."""
    if len(tally.secrets) >= MANY_CREDENTIALS or any(
        found.startswith("[secret:private-key#") for found in tally.secrets
    ):
        return Sensitivity.SECRET
    personal = any(not found.startswith(_UNLEVELLED) for found in tally.personal)
    return Sensitivity.CONFIDENTIAL if tally.secrets or personal else None


def content_hash(user: str, assistant: str, tools: Sequence[ToolCall]) -> str:
    """Return the SHA-256 of the redacted texts and tool calls, in hexadecimal digits."""
    digest = hashlib.sha256()
    calls = (
        part for tool in tools for part in (tool.name, tool.input, tool.output, str(tool.is_error), tool.agent or "")
    )
    for part in (user, assistant, *calls):
        encoded = part.encode("utf-8", "surrogatepass")
        digest.update(len(encoded).to_bytes(8, "big") + encoded)
    return digest.hexdigest()


def _tool(tool: ToolCall, paths: Sequence[str], memory: PlaceholderMemory, tally: Tally) -> ToolCall:
    return replace(
        tool,
        input=redact_structured(tool.input, memory, tally),
        output=redact_text(tool.output, memory, tally, settings=holds_settings(paths)),
    )


def _facts(facts: ExchangeFacts, memory: PlaceholderMemory, tally: Tally) -> ExchangeFacts:
    def clean(texts: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(redact_text(text, memory, tally) for text in texts)

    return replace(
        facts,
        files=clean(facts.files),
        commands=clean(facts.commands),
        notes=clean(facts.notes),
        git_branch=redact_text(facts.git_branch, memory, tally),
    )


def _texts(raw: RawExchange) -> list[str]:
    return [
        raw.user,
        raw.assistant,
        *(text for tool in raw.tools for text in (tool.input, tool.output)),
        *raw.facts.notes,
    ]
