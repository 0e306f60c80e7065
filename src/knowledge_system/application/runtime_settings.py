"""Settings changed while the system runs: checked, kept as rows with their history, in force at once where possible.

Order of precedence: environment, what was changed at run time, configuration file, defaults.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit, urlunsplit

from knowledge_system import settings as reading
from knowledge_system.domain.clock import to_public
from knowledge_system.domain.errors import KnowledgeError, RefusedByPolicy, UsageError
from knowledge_system.domain.events import OverridesIgnored, SettingsChanged

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from knowledge_system.application.compose import Parts
    from knowledge_system.domain.overrides import SettingChange, SettingChanges
    from knowledge_system.settings import Configuration, Settings
    from knowledge_system.storage.database import Database

Document = dict[str, Any]

LIVE: Final = ("inference.", "budget.", "circuitBreaker.", "cache.", "learning.", "injection.", "embeddings.defaultDim")
"""Keys that take effect at once, by how they begin."""
_NOT_LIVE: Final = ("cache.l2.url", "cache.l2.private")
"""What is connected when the process starts."""
_FILE_ONLY: Final = ("database", "server.tokens")
"""The changes themselves are in the database; who may make them is not theirs to say."""
_SHORT: Final = {"defaultEmbeddingDim": "embeddings.defaultDim"}
"""Names of the operations guide that are no key of the tree."""
_VARIABLE: Final = re.compile("[A-Za-z_][A-Za-z0-9_]*")
_PASSWORD: Final = re.compile(r"(?i)\b(?:password|passwd|pwd|secret|token|api[_-]?key)\s*=")
_UNREADABLE: Final = "unreadable"
HIDDEN: Final = "***"


class RuntimeSettings:
    """The settings of one running system, as they can be changed. One change at a time."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._started_with: Configuration | None = None
        self._changing = asyncio.Lock()
        self._ignored: dict[str, str] = {}
        self._listeners: list[Callable[[], Awaitable[None]]] = []

    def listen(self, listener: Callable[[], Awaitable[None]]) -> None:
        """Call `listener` after every change that takes effect at once."""
        self._listeners.append(listener)

    async def load(self, database: Database) -> None:
        """Put in force what was changed in earlier runs. What does not fit any more is left out, and said so."""
        parts = self._parts
        try:
            values, self._ignored = _fitting(parts.settings, await database.setting_changes().in_force())
            if values:
                parts.settings = _checked(parts.settings, values)
        except KnowledgeError as error:
            self._ignored = {"": error.message}
        self._started_with = parts.settings.tree
        self.complain()

    def complain(self) -> None:
        """Say what was left out at the start; again once there is somebody to hear it."""
        for key, reason in self._ignored.items():
            self._parts.emit(OverridesIgnored(f"{key}: {reason}" if key else reason))

    def ignored(self) -> dict[str, str]:
        """Return the keys that were changed at run time and left out at the start, with the reason of each."""
        return dict(self._ignored)

    async def recall(self) -> None:
        """Put in force what was changed in earlier runs, as far as there is a database that can be opened."""
        with contextlib.suppress(KnowledgeError):  # whoever needs the database hears why it cannot be had
            if not self._parts.is_new():
                await self._parts.database()

    async def show(self) -> Document:
        """Return the effective tree without secrets, what of it was changed at run time, and what waits for a restart.

        `restart_required` names keys whose new value counts from the next start on; `ignored` those of `overrides`
        that do not fit (any more), with the reason.
        """
        rows = await (await self._changes()).in_force()
        values, ignored = _fitting(self._parts.settings, rows)
        return {
            "config": without_secrets(reading.dump(self._parts.settings.tree)),
            "overrides": [_shown(row) for row in rows],
            "restart_required": self._waiting(values),
            "ignored": [{"key": key, "reason": reason} for key, reason in ignored.items()],
        }

    async def change(self, body: Mapping[str, Any], actor: str) -> Document:
        """Merge a partial tree into the settings. Raises UsageError, RefusedByPolicy for what may not be set so."""
        async with self._changing:
            changes = await self._changes()
            asked = reading.leaves(_spelled_out(body))
            if not asked:
                raise UsageError("there is nothing to change", hint="send settings: {'budget': {'monthly': 5}}")
            self._permit(asked)
            rows = [row for row in await changes.in_force() if row.key not in asked]
            now_in_force, _ = _fitting(self._parts.settings, rows)
            wanted = _checked(self._parts.settings, {**now_in_force, **asked})
            reading.refuse_unknown(wanted.tree, asked)
            reading.refuse_other_types(wanted.tree, asked)
            await self._agrees(wanted, asked)
            # As the tree has them: `5.0` for `5`.
            texts: dict[str, str | None] = {
                key: json.dumps(reading.get(wanted.tree, key), ensure_ascii=False) for key in asked
            }
            return await self._recorded(texts, actor)

    async def undo(self, identity: str, actor: str) -> Document:
        """Take a change back: its keys are again what they were before it.

        Raises NotFound, and UsageError when one of its keys was changed again since.
        """
        async with self._changing:
            changes = await self._changes()
            rows = await changes.change(identity)
            later = [row.key for row in rows if not row.in_force]
            if later:
                raise UsageError(
                    f"{', '.join(later)} changed again after {identity}, or it is undone already",
                    hint="`knowledge config history` shows both; undo the later change first",
                )
            keys = {row.key for row in rows}
            after, _ = _fitting(self._parts.settings, [row for row in await changes.in_force() if row.key not in keys])
            after |= {row.key: _read(row.old) for row in rows if row.old is not None}
            _checked(self._parts.settings, after)
            return await self._recorded({row.key: row.old for row in rows}, actor, identity)

    async def history(self, limit: int, after: str | None) -> Document:
        """Return changes newest first, key by key, with what they replaced."""
        rows, cursor = await (await self._changes()).history(limit, after)
        return {"results": [_shown(row) for row in rows], "next": cursor}

    async def _recorded(self, texts: Mapping[str, str | None], actor: str, undoes: str | None = None) -> Document:
        changes = await self._changes()
        rows = await changes.record(texts, actor, undoes)
        values, self._ignored = _fitting(self._parts.settings, await changes.in_force())
        waiting = self._waiting(values)
        await self._apply(values)
        self._parts.emit(SettingsChanged(rows[0].change, actor, tuple(texts), tuple(waiting)))
        effective = reading.dump(self._parts.settings.tree)
        changed = {row.key: None if row.new is None else json.loads(row.new) for row in rows}
        return {
            "change": rows[0].change,
            "changed": without_secrets(changed),
            "restart_required": [key for key in waiting if key in changed],
            "config": without_secrets(effective),
        }

    async def _apply(self, values: Mapping[str, object]) -> None:
        """Let what can take effect do so; requests under way finish as they began."""
        parts, started = self._parts, self._started_with
        base = parts.settings
        now = {key: value for key, value in values.items() if is_live(key)}
        # What waits for a restart stays as it was at the start.
        kept = {key: reading.get(started, key) for key in values if started and not is_live(key) and _has(started, key)}
        parts.settings = reading.with_overrides(base, {**kept, **now})
        await parts.reopen()
        for listener in self._listeners:
            await listener()

    def _waiting(self, values: Mapping[str, object]) -> list[str]:
        """Return the keys whose value is another one than this process started with, and that need a restart."""
        started = self._started_with
        if started is None:
            return []
        wanted = reading.with_overrides(self._parts.settings, values).tree
        return [key for key in values if not is_live(key) and _value(wanted, key) != _value(started, key)]

    def _permit(self, asked: Mapping[str, object]) -> None:
        fixed = reading.leaves(self._parts.settings.environ)
        for key, value in asked.items():
            if any(key == one or key.startswith(f"{one}.") for one in _FILE_ONLY):
                raise RefusedByPolicy(f"{key} is set in the configuration file only", hint="edit it, and restart")
            if key in fixed:
                name = "KNOWLEDGE__" + "__".join(key.split(".")).upper()
                raise RefusedByPolicy(f"the environment sets {key}", hint=f"change the variable {name}, and restart")
            if holds_secret(key, value):
                raise RefusedByPolicy(
                    f"{key} would hold a secret", hint="keys and passwords belong into variables or *_FILE"
                )

    async def _agrees(self, wanted: Settings, asked: Iterable[str]) -> None:
        """Raise UsageError where `knowledge budget` has set by hand what would then go on counting."""
        if "budget.monthly" not in asked:
            return
        from knowledge_system.application.engine import budget_rules

        database = await self._parts.database()
        rules = budget_rules(wanted.tree)
        status = await database.engine_state(rules).ledger.status()
        if status.limit_nano != rules.limit_nano:
            raise UsageError(
                "the monthly limit was set with `knowledge budget set`, which counts more than the settings",
                hint="set it there",
            )

    async def _changes(self) -> SettingChanges:
        return (await self._parts.database()).setting_changes()


def is_live(key: str) -> bool:
    """Tell whether a changed `key` takes effect without a restart."""
    return key.startswith(LIVE) and key not in _NOT_LIVE


def holds_secret(key: str, value: object) -> bool:
    """Tell whether a setting would hold a password or key: in an address, or in place of a variable's name."""
    if isinstance(value, str):
        named = key.endswith(("apiKeyEnv", "tokenEnv"))
        return _userinfo(value) or bool(_PASSWORD.search(value)) or (named and not _VARIABLE.fullmatch(value))
    return isinstance(value, list) and any(holds_secret(key, one) for one in value)


def without_secrets(tree: Mapping[str, Any]) -> Document:
    """Return a tree with passwords in addresses, and digests of tokens, replaced by `***`."""
    return {key: _hidden(key, value) for key, value in tree.items()}


def _hidden(key: str, value: object) -> object:
    if isinstance(value, dict):
        return without_secrets(value)
    if isinstance(value, list):
        return [_hidden(key, one) for one in value]
    return _masked(key, value) if isinstance(value, str) else value


def _masked(key: str, value: str) -> str:
    if key == "sha256" or _PASSWORD.search(value):
        return HIDDEN
    if _userinfo(value):
        parts = urlsplit(value)
        return urlunsplit(parts._replace(netloc=f"{HIDDEN}@{parts.netloc.rpartition('@')[2]}"))
    return value


def _userinfo(text: str) -> bool:
    try:
        return "@" in urlsplit(text).netloc
    except ValueError:
        return "@" in text


def _checked(settings: Settings, values: Mapping[str, object]) -> Settings:
    from knowledge_system.application.provider_names import check_names

    wanted = reading.with_overrides(settings, values)
    check_names(wanted.tree)
    return wanted


def _spelled_out(body: Mapping[str, Any]) -> Document:
    """Return the tree with the guide's short names at their places."""
    tree = {name: value for name, value in body.items() if name not in _SHORT}
    for short, key in _SHORT.items():
        if short in body:
            section, _, name = key.partition(".")
            given = tree.get(section)
            tree[section] = {**(given if isinstance(given, dict) else {}), name: body[short]}
    return tree


def _fitting(settings: Settings, rows: Iterable[SettingChange]) -> tuple[dict[str, object], dict[str, str]]:
    """Return the values that can be in force together, and the reason of each key that is left out for the others."""
    values = {row.key: _read(row.new) for row in rows if row.new is not None}
    try:
        _checked(settings, values)
    except KnowledgeError:
        pass
    else:
        return values, {}
    kept: dict[str, object] = {}
    ignored: dict[str, str] = {}
    for key, value in values.items():
        try:
            _checked(settings, {**kept, key: value})
            kept[key] = value
        except KnowledgeError as error:
            ignored[key] = error.message
    return kept, ignored


def _read(text: str) -> object:
    """Return the value of a row; of one that is no JSON something that fits nowhere."""
    try:
        return json.loads(text)
    except ValueError:
        return {_UNREADABLE: True}


def _value(tree: Configuration, key: str) -> object:
    return reading.get(tree, key) if _has(tree, key) else None


def _has(tree: Configuration, key: str) -> bool:
    try:
        reading.get(tree, key)
    except UsageError:
        return False
    return True


def _shown(row: SettingChange) -> Document:
    return {
        "id": row.change,
        "key": row.key,
        "value": _hidden(row.key, _read(row.new)) if row.new is not None else None,
        "before": _hidden(row.key, _read(row.old)) if row.old is not None else None,
        "at": to_public(row.at),
        "by": row.actor,
        "undoes": row.undoes,
        "in_force": row.in_force and row.new is not None,
    }
