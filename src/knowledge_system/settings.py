"""The only reader of configuration: one frozen tree from `config.json` and the environment, validated once.

Precedence: environment (`KNOWLEDGE__BUDGET__MONTHLY=5`) over file over defaults. Keys are camelCase as in
`design/contracts.md`; an unknown key is an error that names the nearest known one. Times are milliseconds, prices US
dollars per million tokens.
"""

from __future__ import annotations

import difflib
import json
import os
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import platformdirs
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic.alias_generators import to_camel

from knowledge_system.domain.errors import DependencyUnavailable, NotFound, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ENV_PREFIX = "KNOWLEDGE__"


class Section(BaseModel):
    """Base of all sections: frozen, camelCase in files, unknown keys forbidden."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)


class Budget(Section):
    """Monthly limit in US dollars and the shares of it at which routing changes."""

    monthly: float = Field(8.33, ge=0)
    local_first_at: float = Field(0.8, ge=0, le=1)
    local_only_at: float = Field(0.9, ge=0, le=1)


class LocalModels(Section):
    """A model server on a host of the user's own."""

    enabled: bool = True
    endpoint: str = "http://localhost:11434"
    default_model: str = "llama3.2:3b"


class Price(Section):
    """US dollars per million tokens."""

    input: float = Field(0.0, ge=0)
    output: float = Field(0.0, ge=0)


class Provider(Section):
    """Where a provider is reached, which model is asked for, and the variable that holds its key."""

    base_url: str | None = None
    model: str | None = None
    api_key_env: str | None = None
    price: Price | None = None


class Inference(Section):
    """Which providers are asked, in which order and by which strategy."""

    provider_priority: tuple[str, ...] = ("local", "groq", "openrouter")
    offline_mode: bool = False
    active_strategy: str = "cost-optimized"
    strategies: dict[str, dict[str, Any]] = Field(default_factory=dict)
    local_models: LocalModels = LocalModels()
    providers: dict[str, Provider] = Field(default_factory=dict)


class Breaker(Section):
    """Circuit breaker of one provider."""

    failure_threshold: int = Field(5, ge=1)
    reset_timeout: int = Field(60_000, ge=0)
    half_open_requests: int = Field(3, ge=1)


class RemoteEmbeddings(Section):
    """The larger embedding space, computed by a provider."""

    provider: str = "openai"
    model: str = "text-embedding-3-small"


class Embeddings(Section):
    """Default space, batch size, variant of the local model (`fp32` or `int8`) and its threads (0: as many as fit)."""

    default_dim: Literal[384, 1536] = 384
    batch_size: int = Field(32, ge=1, le=1024)
    variant: Literal["fp32", "int8"] | None = None
    threads: int = Field(0, ge=0)
    remote: RemoteEmbeddings = RemoteEmbeddings()


class Learning(Section):
    """`minConfidence` is the calibrated probability below which an exchange does not become an item.

    `duplicateAt` is the cosine similarity from which two items of one project count as the same.
    """

    enabled: bool = True
    min_confidence: float | None = Field(None, ge=0, le=1)
    duplicate_at: float = Field(0.95, gt=0, le=1)


class Vectors(Section):
    """Where the derived index lives."""

    backend: Literal["edge", "qdrant"] = "edge"
    url: str | None = None
    shards: dict[str, str] | None = None


class Database(Section):
    """`url` None is SQLite in the home (`analytics.db`)."""

    url: str | None = None


class CacheLevel1(Section):
    """In-memory cache: entries and time to live in milliseconds."""

    max: int = Field(1000, ge=0)
    ttl: int = Field(3_600_000, ge=0)


class CacheLevel2(Section):
    """Redis cache, off without a URL."""

    url: str | None = None
    ttl: int = Field(86_400_000, ge=0)


class Cache(Section):
    """Both cache levels."""

    l1: CacheLevel1 = CacheLevel1()
    l2: CacheLevel2 = CacheLevel2()


class Server(Section):
    """Address of the HTTP door."""

    host: str = "127.0.0.1"
    port: int = Field(3000, ge=0, le=65535)


class Backup(Section):
    """Where backups go and how long they stay."""

    dir: str | None = None
    retention_days: int = Field(30, ge=1)


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
    vectors: Vectors = Vectors()
    database: Database = Database()
    cache: Cache = Cache()
    server: Server = Server()
    backup: Backup = Backup()
    sensitivity: Sensitive = Sensitive()

    @field_validator("budget")
    @classmethod
    def _tiers_in_order(cls, budget: Budget) -> Budget:
        if budget.local_first_at > budget.local_only_at:
            raise ValueError("budget.localFirstAt must not be above budget.localOnlyAt")
        return budget


class Settings(BaseModel):
    """What one run works with: the home, the configuration file it read (if any), and the tree."""

    model_config = ConfigDict(frozen=True)

    home: Path
    config_file: Path
    tree: Configuration

    @property
    def topics_file(self) -> Path:
        """Path of `sensitivity-topics.json`; the file need not exist."""
        return Path(self.tree.sensitivity.topics or self.home / "sensitivity-topics.json")


def default_home() -> Path:
    """Return `KNOWLEDGE_HOME` or the platform's user data directory."""
    named = os.environ.get("KNOWLEDGE_HOME")
    return Path(named).expanduser() if named else Path(platformdirs.user_data_dir("knowledge-system"))


def load(home: Path | None = None, config: Path | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """Read and validate the configuration.

    Raises UsageError for a broken file, an unknown key or an impossible value, with the key and a suggestion.
    """
    variables = os.environ if environ is None else environ
    root = (home or default_home()).expanduser().absolute()
    named = config or (Path(variables["KNOWLEDGE_CONFIG"]) if variables.get("KNOWLEDGE_CONFIG") else None)
    path = (named or root / "config.json").expanduser().absolute()
    raw = read_file(path, required=named is not None)
    overridden = _merge(raw, _from_environment(variables))
    return Settings(home=root, config_file=path, tree=validate(overridden, str(path)))


def validate(raw: dict[str, Any], origin: str) -> Configuration:
    """Return the validated tree of `raw`. Raises UsageError naming each bad key of `origin`."""
    try:
        return Configuration.model_validate(raw)
    except ValidationError as error:
        lines = "; ".join(_explain(dict(problem)) for problem in error.errors())
        raise UsageError(
            f"configuration is not valid ({origin}): {lines}",
            hint="correct the file or the KNOWLEDGE__ variables; `knowledge config schema` lists every key",
        ) from error


def read_file(path: Path, *, required: bool = False) -> dict[str, Any]:
    """Return the JSON object in `path`, empty when it does not exist and is not `required`."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        if required:
            raise NotFound(f"no configuration at {path}", hint="name an existing file with --config") from None
        return {}
    except OSError as error:
        raise DependencyUnavailable(
            f"cannot read the configuration {path}: {error.strerror}", hint="check the file's owner and permissions"
        ) from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not JSON: {error}", hint="correct the file, or remove it for defaults") from error
    if not isinstance(raw, dict):
        raise UsageError(f"{path} must hold a JSON object", hint='start from `{"budget": {"monthly": 8.33}}`')
    return cast("dict[str, Any]", raw)


def schema() -> dict[str, Any]:
    """Return the JSON Schema of the configuration file."""
    return Configuration.model_json_schema(by_alias=True)


def dump(tree: Configuration) -> dict[str, Any]:
    """Return the tree as it would stand in a file."""
    return tree.model_dump(mode="json", by_alias=True)


def get(tree: Configuration, key: str) -> object:
    """Return the value at the dotted `key`. Raises UsageError for an unknown key."""
    value: object = dump(tree)
    for step in key.split("."):
        if not isinstance(value, dict) or step not in value:
            raise UsageError(
                f"unknown key {key}{_suggest(key, _dotted(dump(tree)))}", hint="see `knowledge config show`"
            )
        value = value[step]
    return value


def with_value(raw: dict[str, Any], key: str, text: str) -> dict[str, Any]:
    """Return `raw` with the dotted `key` set to `text`, read as JSON where it is JSON and as a string elsewhere."""
    try:
        value: object = json.loads(text)
    except ValueError:
        value = text
    nested = reduce(lambda inner, step: {step: inner}, reversed(key.split(".")), value)
    return _merge(raw, cast("dict[str, Any]", nested))


def _from_environment(variables: Mapping[str, str]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for name in sorted(variables):
        if name.startswith(ENV_PREFIX):
            key = ".".join(_spelling(name.removeprefix(ENV_PREFIX).split("__")))
            tree = with_value(tree, key, variables[name])
    return tree


def _spelling(steps: list[str]) -> Iterator[str]:
    """Yield the camelCase spelling of upper-case `steps`, as far as the defaults know them."""
    level: object = dump(Configuration())
    for step in steps:
        known = {key.lower(): key for key in level} if isinstance(level, dict) else {}
        plain = step.replace("_", "").lower()
        name = known.get(plain, to_camel(step.lower()))
        level = level.get(name) if isinstance(level, dict) else None
        yield name


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        both = isinstance(value, dict) and isinstance(old, dict)
        merged[key] = _merge(cast("dict[str, Any]", old), value) if both else value
    return merged


def _explain(problem: dict[str, Any]) -> str:
    key = ".".join(str(step) for step in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"unknown key {key}{_suggest(key, _dotted(dump(Configuration())))}"
    return f"{key}: {problem['msg']}"


def _suggest(key: str, known: list[str]) -> str:
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    return f" (did you mean {near[0]}?)" if near else ""


def _dotted(tree: dict[str, Any], prefix: str = "") -> list[str]:
    keys: list[str] = []
    for key, value in tree.items():
        keys.append(prefix + key)
        if isinstance(value, dict):
            keys.extend(_dotted(value, f"{prefix}{key}."))
    return keys
