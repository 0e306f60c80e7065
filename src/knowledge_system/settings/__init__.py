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
from typing import TYPE_CHECKING, Any, cast

import platformdirs
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from knowledge_system.domain.errors import DependencyUnavailable, NotFound, UsageError
from knowledge_system.settings.sections import Configuration as Configuration

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

ENV_PREFIX = "KNOWLEDGE__"


class Settings(BaseModel):
    """What one run works with: the home, the configuration file it read (if any), and the tree."""

    model_config = ConfigDict(frozen=True)

    home: Path
    config_file: Path
    tree: Configuration
    file: dict[str, Any] = Field(default_factory=dict, repr=False)
    environ: dict[str, Any] = Field(default_factory=dict, repr=False)

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
    environment = _from_environment(variables)
    tree = validate(_merge(raw, environment), str(path))
    return Settings(home=root, config_file=path, tree=tree, file=raw, environ=environment)


def with_overrides(settings: Settings, overrides: Mapping[str, object]) -> Settings:
    """Return `settings` with values (by dotted key) between file and environment. Raises UsageError as `load`."""
    raw = settings.file
    for key, value in overrides.items():
        raw = _merge(raw, nested(key, value))
    hint = "nothing was changed; `knowledge config schema` lists every key"
    return settings.model_copy(update={"tree": validate(_merge(raw, settings.environ), "with what was changed", hint)})


def nested(key: str, value: object) -> dict[str, Any]:
    """Return the tree that holds `value` at the dotted `key`, and nothing else."""
    return cast("dict[str, Any]", reduce(lambda inner, step: {step: inner}, reversed(key.split(".")), value))


def leaves(tree: Mapping[str, Any], prefix: str = "") -> dict[str, object]:
    """Return the values of a tree by dotted key; lists are values. Raises UsageError for a dot within a name."""
    found: dict[str, object] = {}
    for name, value in tree.items():
        if "." in name:
            raise UsageError(f"the key {prefix}{name} has a dot in it", hint="nest objects: {'budget': {'monthly': 5}}")
        inside = leaves(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
        found.update(inside)
    return found


def refuse_unknown(tree: Configuration, keys: Iterable[str]) -> None:
    """Raise UsageError for the first of the dotted `keys` that `tree` does not spell so, with a suggestion."""
    known = _dotted(dump(tree))
    for key in keys:
        if key not in known:
            raise UsageError(f"unknown key {key}{_suggest(key, known)}", hint="`knowledge config schema` lists them")


def refuse_other_types(tree: Configuration, asked: Mapping[str, object]) -> None:
    """Raise UsageError for values (by dotted key) of another JSON type than the schema's, such as "5" for 5."""
    raw = dump(tree)
    for key, value in asked.items():
        raw = _merge(raw, nested(key, value))
    try:
        Configuration.model_validate_json(json.dumps(raw), strict=True)
    except ValidationError as error:
        raise _invalid(
            error, "what was asked for", "`knowledge config schema` lists every key with its type"
        ) from error


def validate(raw: dict[str, Any], origin: str, hint: str = "") -> Configuration:
    """Return the validated tree of `raw`. Raises UsageError naming each bad key of `origin`."""
    try:
        return Configuration.model_validate(raw)
    except ValidationError as error:
        files = "correct the file or the KNOWLEDGE__ variables; `knowledge config schema` lists every key"
        raise _invalid(error, origin, hint or files) from error


def _invalid(error: ValidationError, origin: str, hint: str) -> UsageError:
    lines = "; ".join(_explain(dict(problem)) for problem in error.errors())
    return UsageError(f"configuration is not valid ({origin}): {lines}", hint=hint)


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
    return _merge(raw, nested(key, value))


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
    return f"{key}: {str(problem['msg']).removeprefix('Value error, ')}"


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
