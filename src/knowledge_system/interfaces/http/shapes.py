"""What requests and answers look like: bodies are checked with these, answers only described."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

MAX_QUERY = 100_000
MAX_LIMIT = 1000
MAX_TEXT = 2_000_000
KINDS = Literal[
    "coding_pattern", "bug_solution", "test_strategy", "architectural_decision", "deployment_approach",
    "implementation_strategy", "tool_usage", "optimization", "integration_pattern", "refactoring",
]  # fmt: skip
Level = Literal["public", "internal", "confidential"]
Names = Annotated[list[Annotated[str, Field(max_length=500)]], Field(max_length=50)]


class Body(BaseModel):
    """Base of request bodies: unknown fields are refused, nothing is converted."""

    model_config = ConfigDict(extra="forbid", strict=True, populate_by_name=True)


class Answer(BaseModel):
    """Base of answers; fields are only ever added."""

    model_config = ConfigDict(extra="allow")


class SearchBody(Body):
    """A question; the options are those of `knowledge search`."""

    query: str = Field(min_length=1, max_length=MAX_QUERY, description="The question in plain words, or an error.")
    scope: Literal["items", "exchanges", "all"] = "all"
    type: KINDS | list[KINDS] | None = None
    project: str | Names | None = None
    intent: str | Names | None = None
    since: str | None = Field(None, max_length=64, description="2026-01-31, 2026-01-31T12:00:00Z, or an age: 30d")
    as_of: str | None = Field(None, max_length=64, description="Answer as at this time.")
    accuracy: Literal["normal", "high"] = "normal"
    threshold: float | None = Field(None, ge=0, le=1)
    limit: int = Field(10, ge=1, le=MAX_LIMIT)
    include_deprecated: bool = False
    explain: bool = Field(default=False, description="For the command line; `why` is always there.")


class Source(Answer):
    """Where something comes from."""

    path: str
    session_id: str
    exchange_index: int


class Hit(Answer):
    """One ranked result."""

    id: str
    kind: Literal["item", "exchange"]
    type: str | None
    title: str
    content: str
    score: float
    similarity: float
    confidence: float | None
    freshness: str
    project: str
    session_id: str
    created_at: str
    sensitivity: str
    superseded_by: str | None
    why: list[str]
    source: list[Source]


class SearchAnswer(Answer):
    """Ranked results; `degraded` names what could not be used."""

    query: str
    scope: str
    took_ms: float
    degraded: list[str]
    results: list[Hit]


class Record(Answer):
    """An item, an exchange or a session; the fields are those of `knowledge export`."""

    kind: str
    id: str
    project: str


class Page(Answer):
    """One page; `next` is the `after` of the following one, null at the end."""

    results: list[Record]
    next: str | None


class Forgotten(Answer):
    """What was erased for good."""

    forgotten: int
    ids: list[str]


class FeedbackBody(Body):
    """A verdict on an item."""

    verdict: Literal["helpful", "harmful", "wrong"]
    note: str = Field("", max_length=2000)
    session_id: str = Field("", max_length=500)


class FeedbackAnswer(Answer):
    """The item after the verdict."""

    id: str
    verdict: str
    confidence: float
    status: str


class Tool(Body):
    """A tool call of an exchange."""

    name: str = Field(max_length=500)
    input: Any = None
    output: str | None = Field(None, max_length=MAX_TEXT)
    is_error: bool = False


class Exchange(Body):
    """One exchange; `user` or `assistant` is required."""

    timestamp: str | None = Field(None, max_length=64)
    user: str | None = Field(None, max_length=MAX_TEXT)
    assistant: str | None = Field(None, max_length=MAX_TEXT)
    tools: list[Tool] | None = None
    files: list[str] | None = None


class SessionHead(Body):
    """The session that exchanges belong to."""

    id: str | None = Field(None, min_length=1, max_length=500)
    project: str | None = Field(None, max_length=500)
    agent: str | None = Field(None, max_length=200)
    started_at: str | None = Field(None, max_length=64)


class TranscriptBody(Body):
    """A `knowledge-transcript/1` document of one session: what is new, all of it again, or a window of it."""

    format: Literal["knowledge-transcript/1"]
    session: SessionHead = Field(default_factory=SessionHead)
    exchanges: list[Exchange] = Field(min_length=1, max_length=10_000)


class Stored(Answer):
    """What was new, known, or had grown. `learning` follows by itself."""

    session_id: str
    exchanges: dict[str, int]
    ids: list[str]
    learning: str


class Point(Answer):
    """Where a session stood after one exchange."""

    exchange_id: str


class Trajectory(Answer):
    """The path of a session."""

    session: str
    goal: str
    state: str | None
    intent: str | None
    points: list[dict[str, Any]]


class Said(Body):
    """One message."""

    role: Literal["system", "user", "assistant"]
    content: str = Field(max_length=MAX_TEXT)


class InferBody(Body):
    """A question to a model: `prompt` or `messages`."""

    prompt: str | None = Field(None, min_length=1, max_length=MAX_TEXT)
    messages: list[Said] | None = Field(None, min_length=1, max_length=1000)
    operation: str = Field("infer", pattern="^[a-z][a-z0-9-]{0,39}$")
    project: str = Field("", max_length=200)
    sensitivity: Level = "internal"
    model: str = Field("auto", min_length=1, max_length=200, description="auto, a provider, or provider/model")
    max_output: int | None = Field(None, ge=1, le=1_000_000)
    temperature: float | None = Field(None, ge=0, le=2)
    answer_schema: dict[str, Any] | None = Field(None, alias="schema", description="JSON Schema of the answer.")
    idempotency_key: str | None = Field(None, min_length=1, max_length=200)


class Tokens(Answer):
    """Tokens as billed; `input` leaves out cached ones."""

    input: int
    output: int


class Attempted(Answer):
    """One request to one provider. `cost` in US dollars; not `measured`: at most that."""

    provider: str
    model: str
    outcome: str
    seconds: float
    cost: float
    measured: bool


class Answered(Answer):
    """Who answered, why that one, and what it cost in US dollars."""

    provider: str
    model: str
    usage: Tokens | None
    cost: float
    cached: bool
    attempts: list[Attempted]
    why: str


class InferAnswer(Answered):
    """The answer; `data` is the value of the `schema` that was asked for."""

    text: str
    data: Any
    finish: str
    confidence: float | None


class EmbedBody(Body):
    """Texts to embed."""

    texts: str | Annotated[list[Annotated[str, Field(min_length=1, max_length=MAX_TEXT)]], Field(max_length=2048)] = (
        Field(min_length=1)
    )
    dimension: Literal[384, 1536] | None = Field(None, description="384: on this machine; 1536: by a provider.")
    project: str = Field("", max_length=200)
    sensitivity: Level = "internal"


class EmbedAnswer(Answered):
    """Vectors of unit length in the order of the texts."""

    vectors: list[list[float]]
    dimension: int
    space: str


class CostSums(Answer):
    """Calls, billed tokens, US dollars."""

    calls: int
    tokens: int
    cost: float


class CostReport(Answer):
    """Costs of a calendar period in UTC. `partial`: it has not ended, `elapsed` is the share of it that has."""

    period: Literal["hour", "day", "week", "month"]
    start: str = Field(alias="from")
    to: str
    ends: str
    partial: bool
    elapsed: float
    totals: CostSums
    by_provider: list[dict[str, Any]] = Field(alias="byProvider")
    by_operation: list[dict[str, Any]] = Field(alias="byOperation")
    by_project: list[dict[str, Any]] = Field(alias="byProject")


class Budget(Answer):
    """The ledger of this month; money in US dollars."""

    limit: float
    spend: float
    reserved: float
    remaining: float
    percentage: float
    tier: str
    frozen: bool
    offline: bool


class ConfigBody(BaseModel):
    """A part of the configuration tree; what is left out stays. `defaultEmbeddingDim` is `embeddings.defaultDim`."""

    model_config = ConfigDict(extra="allow")


class ConfigAnswer(Answer):
    """The effective configuration without secrets, and keys whose new value needs a restart."""

    config: dict[str, Any]
    restart_required: list[str]


class ConfigShown(ConfigAnswer):
    """As above, with what was changed at run time."""

    overrides: list[dict[str, Any]]
    ignored: list[dict[str, str]] = Field(description="Overrides that do not fit (any more), with the reason.")


class ConfigChanged(ConfigAnswer):
    """As above, with the id that undoes it."""

    change: str
    changed: dict[str, Any]


class Rows(Answer):
    """One page of rows; `next` is the `after` of the following one."""

    results: list[dict[str, Any]]
    next: str | None


class Providers(Answer):
    """Every provider with its circuit breaker."""

    providers: list[dict[str, Any]]
    strategy: str


class Loose(Answer):
    """An object of the OpenAI protocol; see its reference."""


class Problem(BaseModel):
    """RFC 9457 problem details; `code` is that of the command line, `hint` says what to do next."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    hint: str
    errors: list[dict[str, Any]] = Field(default_factory=list)
    """Field by field, for a body that does not validate."""
