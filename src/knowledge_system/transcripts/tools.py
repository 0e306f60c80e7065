"""What a tool call was about, whatever the agent: the text to show, files changed, command run, failure."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Any, NamedTuple

from knowledge_system.transcripts.capping import shortened
from knowledge_system.transcripts.values import as_list, as_object, as_text, from_json, to_json

if TYPE_CHECKING:
    from knowledge_system.domain.sessions import JsonObject


class CallFacts(NamedTuple):
    """`shown` is the command or the JSON of the input; `files` are those changed."""

    shown: str
    files: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()


_SHELLS = {
    "bash", "shell", "exec_command", "local_shell", "local_shell_call", "container.exec", "run_in_terminal", "execute",
    "runinterminal", "run_shell_command", "run_terminal_cmd", "execute_command", "terminal", "powershell",
    "run_command", "copilot_runinterminal",
}  # fmt: skip
_EDITORS = {
    "edit", "write", "multiedit", "notebookedit", "create", "apply_patch", "applypatch", "write_file", "replace",
    "edit_file", "create_file", "insert_edit_into_file", "replace_string_in_file", "search_replace", "delete_file",
    "str_replace_editor", "str_replace_based_edit_tool", "multi_replace_string_in_file", "write_to_file", "smart_edit",
    "copilot_replacestring", "copilot_createfile", "copilot_insertedit", "copilot_applypatch", "edit_notebook",
}  # fmt: skip
_FILE_KEYS = ("file_path", "filePath", "path", "notebook_path", "target_file", "relative_workspace_path", "fileName")
_COMMAND_KEYS = ("command", "cmd", "script")
_PATCHED = re.compile(r"^\*\*\* (?:(?:Add|Update|Delete) File|Move to): (.+?)\s*$", re.MULTILINE)
_EXIT = re.compile(r"^\s*(?:\[?(?:Process )?exit(?:ed)?(?: with)?(?: code| status)?:?) *(-?\d{1,10})\b", re.IGNORECASE)
_FAILED = re.compile(
    r"^\s*(?:<tool_use_error>|(?:execution )?error[: ]|failed in sandbox|apply_patch verification failed)",
    re.IGNORECASE,
)
_SHELL_ARGUMENTS = 3


def facts_of(name: str, given: Any) -> CallFacts:
    """Return what the call of tool `name` with input `given` (an object, a list or a text) was about."""
    kind = name.rsplit("__", 1)[-1].lower()
    if isinstance(given, str):
        decoded = from_json(given) if given[:1] in {"{", "["} else None
        given = given if decoded is None else decoded
    if isinstance(given, str):
        return _of_text(kind, given)
    fields = as_object(given)
    if kind in _SHELLS and (command := _command(fields)):
        return CallFacts(command, _patched(command), (shortened(command),))
    if kind in _EDITORS:
        return CallFacts(to_json(given), _files(fields))
    return CallFacts(to_json(given) if given is not None else "")


def looks_failed(output: str) -> bool:
    """Whether the beginning of a tool's output says that the call failed."""
    found = _EXIT.match(output[:200])
    return found[1] != "0" if found else bool(_FAILED.match(output[:200]))


def text_of(content: Any) -> str:
    """Return the text of a message's or a result's content: a text, or a list of texts and blocks."""
    if isinstance(content, str):
        return content
    return "\n".join(filter(None, map(_block_text, as_list(content))))


def _block_text(block: Any) -> str:
    if isinstance(block, str):
        return block
    return as_text(as_object(block).get("text"))


def _of_text(kind: str, given: str) -> CallFacts:
    if kind in _SHELLS and given:
        return CallFacts(given, _patched(given), (shortened(given),))
    return CallFacts(given, _patched(given))


def _command(fields: JsonObject) -> str:
    """Return the shell command of a call; an argument vector as one line, `bash -lc TEXT` as TEXT."""
    given = next((fields[key] for key in _COMMAND_KEYS if fields.get(key)), "")
    if isinstance(given, str):
        return given
    words = [as_text(word) for word in as_list(given)]
    if len(words) == _SHELL_ARGUMENTS and words[1].startswith("-") and words[1].endswith("c"):
        return words[2]
    return shlex.join(words)


def _files(fields: JsonObject) -> tuple[str, ...]:
    named = [as_text(fields.get(key)) for key in _FILE_KEYS]
    patched = [path for key in ("input", "patch", "diff") for path in _patched(as_text(fields.get(key)))]
    return tuple(dict.fromkeys(filter(None, [*named[:], *patched])))


def _patched(text: str) -> tuple[str, ...]:
    """Return the files that a patch in Codex' own format changes."""
    return tuple(dict.fromkeys(_PATCHED.findall(text))) if "*** " in text else ()
