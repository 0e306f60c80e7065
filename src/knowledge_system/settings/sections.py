"""The sections of the configuration, each with its defaults and limits.

Keys are camelCase in files; times are milliseconds, prices US dollars per million tokens.
"""

from __future__ import annotations

from typing import Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic.alias_generators import to_camel

LONGEST: Final = 10 * 365 * 86_400_000
"""Milliseconds: ten years, far within what a clock can count."""
MOST: Final = 1_000_000_000
"""Dollars and counts: their nano-dollars still fit into a number of the database."""


class Section(BaseModel):
    """Base of all sections: frozen, camelCase in files, unknown keys forbidden."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)


class Budget(Section):
    """Monthly limit in US dollars and the shares of it at which routing changes."""

    monthly: float = Field(8.33, ge=0, le=MOST)
    local_first_at: float = Field(0.8, ge=0, le=1)
    local_only_at: float = Field(0.9, ge=0, le=1)


class LocalModels(Section):
    """A model server on a host of the user's own.

    Only what runs on this machine (loopback) or on one of `hosts` counts as local and may see confidential content;
    `hosts` are names or addresses as they stand in `endpoint`, nothing is looked up.
    """

    enabled: bool = True
    endpoint: str = "http://localhost:11434"
    default_model: str = "llama3.2:3b"
    hosts: tuple[str, ...] = ()


class Price(Section):
    """US dollars per million tokens."""

    input: float = Field(0.0, ge=0, le=MOST)
    output: float = Field(0.0, ge=0, le=MOST)


class Provider(Section):
    """Where a provider is reached, which models are asked for, and the variable that holds its key.

    `contextTokens` bounds what a call can cost where the model's limit is not known. `embeddingPrice` is in US dollars
    per million tokens, `timeout` the milliseconds of one attempt.
    """

    base_url: str | None = None
    model: str | None = None
    embedding_model: str | None = None
    api_key_env: str | None = None
    price: Price | None = None
    embedding_price: float | None = Field(None, ge=0, le=MOST)
    context_tokens: int | None = Field(None, ge=1, le=MOST)
    timeout: int | None = Field(None, ge=1, le=LONGEST)


class Inference(Section):
    """Which providers are asked, in which order and by which strategy.

    `internal` is where content may go that is neither public nor confidential: `local-first` (others where no local
    model answers), `local-only`, or `anywhere` in the order of the strategy. `operations` maps an operation (`extract`,
    `embed-query`, `gateway`) to the strategy it runs under.
    """

    provider_priority: tuple[str, ...] = ("local", "groq", "openrouter")
    offline_mode: bool = False
    active_strategy: str = "cost-optimized"
    internal: Literal["local-first", "local-only", "anywhere"] = "local-first"
    strategies: dict[str, dict[str, Any]] = Field(default_factory=dict)
    operations: dict[str, str] = Field(default_factory=dict)
    local_models: LocalModels = LocalModels()
    providers: dict[str, Provider] = Field(default_factory=dict)


class Breaker(Section):
    """Circuit breaker of one provider."""

    failure_threshold: int = Field(5, ge=1, le=MOST)
    reset_timeout: int = Field(60_000, ge=0, le=LONGEST)
    half_open_requests: int = Field(3, ge=1, le=MOST)


class RemoteEmbeddings(Section):
    """The larger embedding space (1536 dimensions), computed by a provider for money.

    `auto` embeds what is new after every ingest; without it only `knowledge index backfill` spends. `minCoverage` is
    the share of entries that must have a vector there before `--accuracy high` uses it, `queryTimeout` the milliseconds
    a question waits for its vector. `shorten` asks for 1536 dimensions of a model whose own vectors are longer.
    """

    provider: str = "openai"
    model: str = "text-embedding-3-small"
    auto: bool = False
    min_coverage: float = Field(0.5, ge=0, le=1)
    query_timeout: int = Field(2000, ge=1, le=LONGEST)
    shorten: bool = False


class Embeddings(Section):
    """Default space, batch size, variant of the local model (`fp32` or `int8`) and its threads (0: as many as fit).

    `process`: `child` computes in a process of its own, `inline` in the process that asks; `auto` is `child` in a
    resident service and `inline` in a command.
    """

    default_dim: Literal[384, 1536] = 384
    batch_size: int = Field(32, ge=1, le=1024)
    variant: Literal["fp32", "int8"] | None = None
    threads: int = Field(0, ge=0, le=1024)
    process: Literal["auto", "child", "inline"] = "auto"
    remote: RemoteEmbeddings = RemoteEmbeddings()


class ModelLearning(Section):
    """What a model is asked about while learning, where `learning.withModel` allows one.

    Exchanges that the judge rejects with at least `plausibleFrom` and items up to `sureAbove` are shown to it, at most
    `exchangesPerCall` in a call and `bytesPerExchange` of each; `parallel` calls run at once, each for at most
    `deadline` milliseconds. Pairs of items from the cosine `doubtfulFrom` up to `duplicateAt` are compared by it.
    """

    plausible_from: float = Field(0.3, ge=0, le=1)
    sure_above: float = Field(1.0, ge=0, le=1)
    exchanges_per_call: int = Field(5, ge=1, le=20)
    bytes_per_exchange: int = Field(8_000, ge=500, le=100_000)
    parallel: int = Field(4, ge=1, le=32)
    deadline: int = Field(60_000, ge=1000, le=LONGEST)
    doubtful_from: float = Field(0.8, ge=0, le=1)


class Learning(Section):
    """`minConfidence` is the calibrated probability below which an exchange does not become an item.

    `duplicateAt` is the cosine similarity from which two items of one project count as the same. `withModel`: `auto`
    asks a model when the key of a provider is set or a configured local server answers, `always` tries whatever there
    is, `never` asks none. Without an answer learning goes on without a model.
    """

    enabled: bool = True
    min_confidence: float | None = Field(None, ge=0, le=1)
    duplicate_at: float = Field(0.95, gt=0, le=1)
    with_model: Literal["auto", "always", "never"] = "auto"
    model: ModelLearning = ModelLearning()


class Capture(Section):
    """What a running service follows beside what hooks announce; times in milliseconds.

    `folders` are directories of transcripts, beside those of connected agents. After `debounce` without change a
    session is learned from; every `rescan` the folders are read as a whole.
    """

    enabled: bool = True
    folders: tuple[str, ...] = ()
    debounce: int = Field(2000, ge=0, le=LONGEST)
    rescan: int = Field(300_000, ge=1000, le=LONGEST)


class Injected(Section):
    """What is put into an agent's context unasked: off switches, threshold, and the most it may cost.

    `disabledProjects` names projects in which nothing is injected. `threshold` None is the calibrated one. `maxTokens`
    bounds one injection, `deadline` (milliseconds) is what a prompt may wait.
    """

    enabled: bool = True
    disabled_projects: tuple[str, ...] = ()
    threshold: float | None = Field(None, ge=0, le=1)
    max_items: int = Field(3, ge=1, le=20)
    max_tokens: int = Field(600, ge=50, le=8000)
    deadline: int = Field(100, ge=10, le=5000)


class Vectors(Section):
    """Where the derived index lives: `edge` embedded in this installation, `qdrant` on the Qdrant server at `url`.

    The server's key is read from QDRANT_API_KEY, or the file that QDRANT_API_KEY_FILE names, and never stands here.
    `process` is about the embedded index: `child` keeps it in a supervised process of its own, `inline` in the process
    that uses it; `auto` is `child` in a resident service and `inline` in a command. `shards` is not used yet.
    """

    backend: Literal["edge", "qdrant"] = "edge"
    process: Literal["auto", "child", "inline"] = "auto"
    url: str | None = None
    shards: dict[str, str] | None = None

    @field_validator("url")
    @classmethod
    def _address(cls, url: str | None) -> str | None:
        """Refuse what is no address of a server; what is wrong is told without the address, which may hold a key."""
        if url is not None and (problem := _address_problem(url)):
            raise ValueError(problem)
        return None if url is None else url.rstrip("/")

    @model_validator(mode="after")
    def _consistent(self) -> Vectors:
        """Refuse what would have no effect, and a server that nobody could find."""
        if self.shards is not None:
            raise ValueError("dividing the index among servers is not supported yet: leave shards unset")
        if self.backend == "qdrant" and self.url is None:
            both = """knowledge config set vectors '{"backend": "qdrant", "url": "http://localhost:6333"}'"""
            raise ValueError(f"backend qdrant needs the url of the server; set both at once: {both}")
        if self.backend == "edge" and self.url is not None:
            raise ValueError("url is for backend qdrant: set vectors.backend to qdrant, or leave url unset")
        return self


def _address_problem(url: str) -> str:
    """Return what keeps `url` from being the address of a server, empty when nothing does."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "this is not a URL, or its port is not a number up to 65535"
    if parts.username is not None or parts.password is not None or "@" in parts.netloc:
        return "a URL with credentials would be shown and logged: put the key into QDRANT_API_KEY"
    if parts.scheme not in {"http", "https"} or not parts.hostname or port == 0:
        return "it must begin with http:// or https:// and name a host, such as http://localhost:6333"
    if parts.query or parts.fragment or not url.isprintable() or " " in url:
        return "it must be the address of the server and nothing else, such as http://localhost:6333"
    return ""


class Database(Section):
    """`url` None is SQLite in the home (`analytics.db`)."""

    url: str | None = None


class CacheLevel1(Section):
    """In-memory cache: entries and time to live in milliseconds."""

    max: int = Field(1000, ge=0, le=MOST)
    ttl: int = Field(3_600_000, ge=0, le=LONGEST)


class CacheLevel2(Section):
    """Redis cache, off without a URL: public answers only, unless it is on this machine and `private`, ours alone."""

    url: str | None = None
    ttl: int = Field(86_400_000, ge=0, le=LONGEST)
    private: bool = False


class Cache(Section):
    """Both cache levels."""

    l1: CacheLevel1 = CacheLevel1()
    l2: CacheLevel2 = CacheLevel2()


class Token(Section):
    """A token of the HTTP door: its SHA-256 in hexadecimal digits, or the variable that holds it (or `*_FILE`).

    `read` searches and looks, `write` also stores and asks models, `admin` also changes how the system works.
    """

    name: str = Field(min_length=1, max_length=60)
    scope: Literal["read", "write", "admin"] = "read"
    sha256: str | None = Field(None, pattern="^[0-9a-f]{64}$")
    token_env: str | None = Field(None, pattern="^[A-Za-z_][A-Za-z0-9_]*$")


class Server(Section):
    """The HTTP door: its address, who may come in, and how long it waits; times in milliseconds.

    A request has `headerTimeout` to tell what it wants and `bodyTimeout` to send its body; it is answered within
    `deadline`. At most `connections` are open at once. An address has `failures` wrong tokens a minute.
    """

    host: str = "127.0.0.1"
    port: int = Field(3000, ge=0, le=65535)
    tokens: tuple[Token, ...] = ()
    header_timeout: int = Field(10_000, ge=10, le=LONGEST)
    body_timeout: int = Field(30_000, ge=10, le=LONGEST)
    deadline: int = Field(300_000, ge=10, le=LONGEST)
    connections: int = Field(512, ge=1, le=MOST)
    failures: int = Field(20, ge=1, le=MOST)


class Backup(Section):
    """Where backups go and how long they stay."""

    dir: str | None = None
    retention_days: int = Field(30, ge=1, le=36_500)


class Telemetry(Section):
    """What the service tells of itself; its metrics are always at `/metrics`.

    A request that takes `slowRequestMs` (milliseconds) is logged with its whole trace, without content. `otlpEndpoint`
    is where traces go over OTLP/HTTP (`http://127.0.0.1:4318`), None: nowhere. `logFormat` is that of the service's
    log; `auto` is JSON where standard error is no terminal. With more than `memoryLimitMb` resident the service keeps
    what its memory is made of.
    """

    slow_request_ms: int = Field(2000, ge=1, le=LONGEST)
    otlp_endpoint: str | None = None
    log_format: Literal["auto", "json", "console"] = "auto"
    memory_limit_mb: int = Field(1024, ge=64, le=MOST)


class Sensitive(Section):
    """`topics` names the topics file (default `sensitivity-topics.json` in the home)."""

    topics: str | None = None


class Configuration(Section):
    """The whole tree."""

    budget: Budget = Budget()
    inference: Inference = Inference()
    circuit_breaker: dict[str, Breaker] = Field(default_factory=dict)
    embeddings: Embeddings = Embeddings()
    learning: Learning = Learning()
    capture: Capture = Capture()
    injection: Injected = Injected()
    vectors: Vectors = Vectors()
    database: Database = Database()
    cache: Cache = Cache()
    server: Server = Server()
    backup: Backup = Backup()
    sensitivity: Sensitive = Sensitive()
    telemetry: Telemetry = Telemetry()

    @field_validator("budget")
    @classmethod
    def _tiers_in_order(cls, budget: Budget) -> Budget:
        if budget.local_first_at > budget.local_only_at:
            raise ValueError("budget.localFirstAt must not be above budget.localOnlyAt")
        return budget
