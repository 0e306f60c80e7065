"""Changes of an agent's configuration that leave everything else in the file as it is, and can be taken back."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

import tomlkit
from tomlkit.exceptions import TOMLKitError

from knowledge_system.domain.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

Json = dict[str, Any]
_INDENT = re.compile(r"^([ \t]+)\S", re.MULTILINE)


class Edit(Protocol):
    """One file and what belongs into it. `text` None stands for a file that does not exist."""

    @property
    def path(self) -> Path:
        """The file."""
        ...

    def applied(self, text: str | None) -> str:
        """Return the content with our part in it. Raises UsageError for a file that cannot be understood."""
        ...

    def removed(self, text: str) -> str | None:
        """Return the content without our part, None when nothing is left that was not ours."""
        ...


@dataclass(frozen=True, slots=True)
class Entry:
    """A value at a path of keys. `listed`: one element of the list that stands there, beside those of others."""

    keys: tuple[str, ...]
    value: Any
    listed: bool = False


@dataclass(frozen=True, slots=True)
class JsonEdit:
    """Entries of a JSON file. `mark` is a text that occurs in every listed entry of ours and in nobody else's."""

    path: Path
    entries: tuple[Entry, ...]
    mark: str

    def applied(self, text: str | None) -> str:
        """Return the content with our entries, in the file's own indentation."""
        tree = _parsed(text, self.path)
        before = json.dumps(tree)
        for key in dict.fromkeys(entry.keys for entry in self.entries if entry.listed):
            wanted = [entry.value for entry in self.entries if entry.keys == key]
            _keep_others(tree, key, self.mark, wanted)
        for entry in self.entries:
            _put(tree, entry, self.path)
        return text if text is not None and json.dumps(tree) == before else _written(tree, text)

    def removed(self, text: str) -> str | None:
        """Return the content without our entries and without what became empty by that."""
        tree = _parsed(text, self.path)
        for entry in self.entries:
            if entry.listed:
                _keep_others(tree, entry.keys, self.mark)
            else:
                _drop(tree, entry.keys)
            _prune(tree, entry.keys[:-1])
        return _written(tree, text) if tree else None


@dataclass(frozen=True, slots=True)
class TomlEdit:
    """Values of a TOML file by their keys; comments and order of the rest stay."""

    path: Path
    entries: tuple[Entry, ...]

    def applied(self, text: str | None) -> str:
        """Return the content with our values."""
        document = _toml(text or "", self.path)
        for entry in self.entries:
            if _found(document, entry.keys) != entry.value:
                table: Any = document
                for key in entry.keys[:-1]:
                    if key not in table:
                        table[key] = tomlkit.table(is_super_table=key != entry.keys[-2])
                    table = table[key]
                table[entry.keys[-1]] = entry.value
        return tomlkit.dumps(document)

    def removed(self, text: str) -> str | None:
        """Return the content without our values."""
        document = _toml(text, self.path)
        for entry in self.entries:
            if _found(document, entry.keys) == entry.value:
                _drop(cast("Json", document), entry.keys)
                _prune(cast("Json", document), entry.keys[:-1])
        rest = tomlkit.dumps(document)
        return rest if rest.strip() else None


@dataclass(frozen=True, slots=True)
class OwnFile:
    """A file that is ours as a whole."""

    path: Path
    content: str

    def applied(self, text: str | None) -> str:
        """Return the content."""
        del text
        return self.content

    def removed(self, text: str) -> str | None:
        """Return nothing: the file goes."""
        del text
        return None


def _parsed(text: str | None, path: Path) -> Json:
    if text is None or not text.strip():
        return {}
    try:
        tree = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(
            f"{path} is not plain JSON ({error}); it was left alone",
            hint="remove comments and trailing commas, or add the entries that `connect --dry-run` shows by hand",
        ) from error
    if not isinstance(tree, dict):
        raise UsageError(f"{path} holds no JSON object; it was left alone", hint="correct the file first")
    return cast("Json", tree)


def _toml(text: str, path: Path) -> tomlkit.TOMLDocument:
    try:
        return tomlkit.parse(text)
    except TOMLKitError as error:
        raise UsageError(f"{path} is not valid TOML ({error}); it was left alone", hint="correct the file") from error


def _written(tree: Json, text: str | None) -> str:
    found = _INDENT.search(text or "")
    indent: str | int = found[1] if found else 2
    return json.dumps(tree, indent=indent, ensure_ascii=False) + "\n"


def _put(tree: Json, entry: Entry, path: Path) -> None:
    place = tree
    for key in entry.keys[:-1]:
        place = place.setdefault(key, {})
        if not isinstance(place, dict):
            raise UsageError(f"{key} in {path} is no object; the file was left alone", hint="correct the file first")
    last = entry.keys[-1]
    if not entry.listed:
        place[last] = entry.value
        return
    values = place.setdefault(last, [])
    if not isinstance(values, list):
        raise UsageError(f"{last} in {path} is no list; the file was left alone", hint="correct the file first")
    if entry.value not in values:
        values.append(entry.value)


def _keep_others(tree: Json, keys: Sequence[str], mark: str, wanted: Sequence[Any] = ()) -> None:
    """Remove our elements from a list, but for those that are `wanted`."""
    parent = _found(tree, keys[:-1]) if len(keys) > 1 else tree
    if isinstance(parent, dict) and isinstance(parent.get(keys[-1]), list):
        parent[keys[-1]] = [one for one in parent[keys[-1]] if mark not in json.dumps(one) or one in wanted]


def _drop(tree: Json, keys: Sequence[str]) -> None:
    parent = _found(tree, keys[:-1]) if len(keys) > 1 else tree
    if isinstance(parent, dict):
        parent.pop(keys[-1], None)


def _prune(tree: Json, keys: Sequence[str]) -> None:
    """Remove objects and lists along `keys` that are empty now."""
    for depth in range(len(keys), 0, -1):
        parent = _found(tree, keys[: depth - 1]) if depth > 1 else tree
        child = parent.get(keys[depth - 1]) if isinstance(parent, dict) else None
        if isinstance(child, dict):
            for name in [name for name, value in child.items() if value == []]:
                del child[name]
            if not child:
                del parent[keys[depth - 1]]


def _found(tree: Any, keys: Sequence[str]) -> Any:
    for key in keys:
        if not isinstance(tree, dict) or key not in tree:
            return None
        tree = tree[key]
    return tree
