"""Sessions and exchanges, as read from transcripts (raw) and as stored (redacted)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from knowledge_system.domain.sensitivity import Sensitivity

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence
    from datetime import datetime
    from pathlib import Path

JsonObject = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One tool call and its result. `input` is the command or JSON text; `agent` names the sub-agent that made it."""

    name: str
    input: str = ""
    output: str = ""
    is_error: bool = False
    agent: str | None = None


@dataclass(frozen=True, slots=True)
class TokenUsage:
    """Tokens of one exchange, summed over its model calls; each message is counted once."""

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0


@dataclass(frozen=True, slots=True)
class Session:
    """One run of a coding agent in one project.

    `id` is the agent's own session id, or a digest of start time and first prompt where the format has none.
    `project` is a short name derived from the git repository (worktrees share it) or the working directory.
    """

    id: str
    project: str
    agent: str
    format: str
    path: str
    title: str = ""
    cwd: str = ""
    git_branch: str = ""
    parent_id: str | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    metadata: JsonObject = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ExchangeFacts:
    """What a transcript shows beside the texts; kept where the format has it."""

    files: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    model: str = ""
    usage: TokenUsage = field(default_factory=TokenUsage)
    interrupted: bool = False
    git_branch: str = ""
    notes: tuple[str, ...] = ()
    """Compaction summaries, sub-agent reports and the like: context that nobody typed and the agent did not answer."""


@dataclass(frozen=True, slots=True)
class RawExchange:
    """One user turn with all that answered it, as a reader yields it: **not redacted**, must pass the gatekeeper.

    `index` counts the exchanges of the file from 0. `occurrence` counts earlier exchanges of the same session with the
    same prompt, so that "continue" typed twice stays two exchanges.
    """

    session: Session
    index: int
    user: str
    assistant: str
    occurrence: int = 0
    timestamp: datetime | None = None
    tools: tuple[ToolCall, ...] = ()
    facts: ExchangeFacts = field(default_factory=ExchangeFacts)


@dataclass(frozen=True, slots=True)
class Exchange:
    """An exchange that may be stored: redacted, capped in size, with its level and identity.

    `id` is stable over re-reads of the same session in any file (`exchange_id`); `content_hash` changes when a longer
    version of the same exchange is read later.
    """

    id: str
    session_id: str
    index: int
    path: str
    project: str
    agent: str
    user: str
    assistant: str
    content_hash: str
    timestamp: datetime | None = None
    tools: tuple[ToolCall, ...] = ()
    facts: ExchangeFacts = field(default_factory=ExchangeFacts)
    sensitivity: Sensitivity = Sensitivity.INTERNAL
    redactions: int = 0
    intent: str | None = None


def normalised(text: str) -> str:
    """Return `text` with white space folded: the form in which prompts are compared."""
    return " ".join(text.split())


def exchange_id(session_id: str, prompt: str, occurrence: int) -> str:
    """Return the identity of an exchange: `x` and 24 hexadecimal digits of SHA-256."""
    key = "\0".join((session_id, normalised(prompt), str(occurrence)))
    return "x" + hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:24]


@dataclass(frozen=True, slots=True)
class ReadWarning:
    """Something in a file that was skipped or looks wrong: the place (`line 12`, `byte 4096`) and what it was."""

    path: str
    place: str
    reason: str


@dataclass(frozen=True, slots=True)
class SourceState:
    """How far a file has been read. `resume` is opaque to everybody but the reader that wrote it.

    `size` and `modified_ns` are those of the file when it was read; `head` is a digest of its first bytes and tells a
    file that grew from one that was replaced.
    """

    path: str
    format: str
    size: int
    modified_ns: int
    head: str
    exchanges: int
    resume: JsonObject = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TranscriptBatch:
    """A bounded piece of a file: exchanges, warnings, and the state to store with them in one transaction."""

    exchanges: tuple[RawExchange, ...]
    warnings: tuple[ReadWarning, ...]
    state: SourceState
    last: bool = False


@dataclass(frozen=True, slots=True)
class SkippedFile:
    """A file that holds no transcript or cannot be read, with a one-line reason that says what to do."""

    path: str
    reason: str


class TranscriptReader(Protocol):
    """Files in, exchanges out. Recognises the format by content; memory is bounded whatever the file's size."""

    def discover(self, paths: Sequence[Path]) -> Iterator[Path | SkippedFile]:
        """Yield the files below `paths` in a stable order; loops, denied folders and missing paths come as skipped."""
        ...

    def read(self, path: Path, known: SourceState | None = None) -> AsyncIterator[TranscriptBatch | SkippedFile]:
        """Yield the batches of a file, from where `known` left off when the file only grew.

        Yields nothing when the file is unchanged since `known`. The last batch has `last=True`. A file that is no
        transcript yields one `SkippedFile`. Never raises for bad content.
        """
        ...
