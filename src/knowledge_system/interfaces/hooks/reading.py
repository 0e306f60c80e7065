"""What an agent tells its hook, in whichever agent's words."""

from __future__ import annotations

import json
import os
import select
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:  # the constant of `typing`, whose import takes longer than the whole hook
    from typing import Any

MAX_INPUT = 8 * 1024 * 1024
"""Bytes read from an agent; of more only the beginning would be kept, so it is refused."""
READ_WITHIN = 3.0
"""Seconds in which an agent must have said all: one that keeps the pipe open does not hang the hook."""
_CHUNK = 1 << 16

SESSION = ("session_id", "sessionId", "conversation_id", "thread_id", "thread-id", "sessionID")
TRANSCRIPT = ("transcript_path", "transcriptPath", "rollout_path", "transcript")
CWD = ("cwd", "workspace_dir", "directory", "working_directory")
PROMPT = ("prompt", "user_prompt", "initialPrompt")


def payload(descriptor: int) -> dict[str, Any]:
    """Return the JSON object on standard input, empty when there is none. Raises ValueError for anything else."""
    if os.isatty(descriptor):
        return {}
    raw = _all(descriptor)
    if not raw.strip():
        return {}
    found = json.loads(raw)
    if not isinstance(found, dict):
        raise ValueError("the agent sent no JSON object")  # noqa: TRY004 -- one kind of bad input
    return found


def _all(descriptor: int) -> bytes:
    end = time.monotonic() + READ_WITHIN
    pieces: list[bytes] = []
    size = 0
    while (left := end - time.monotonic()) > 0:
        ready, _, _ = select.select([descriptor], [], [], left)
        if not ready:
            break
        piece = os.read(descriptor, _CHUNK)
        if not piece:
            return b"".join(pieces)
        pieces.append(piece)
        size += len(piece)
        if size > MAX_INPUT:
            raise ValueError(f"the agent sent more than {MAX_INPUT} bytes")
    raise ValueError("the agent did not finish its input in time")


def facts(raw: dict[str, Any], agent: str) -> dict[str, Any]:
    """Return what matters of an agent's input in our words: agent, session, transcript, cwd, prompt, body."""
    body = raw if str(raw.get("format", "")).startswith("knowledge-transcript/") else None
    session = raw.get("session") if body else None
    return {
        "agent": agent,
        "session_id": _first(raw, SESSION) or str(session.get("id", "") if isinstance(session, dict) else ""),
        "transcript": _first(raw, TRANSCRIPT),
        "cwd": _first(raw, CWD) or _workspace(raw) or os.getcwd(),  # noqa: PTH109 -- pathlib costs 5 ms
        "prompt": _first(raw, PROMPT),
        "body": body,
        "name": str(raw.get("hook_event_name", "")),
    }


def _first(raw: dict[str, Any], names: tuple[str, ...]) -> str:
    return next((raw[name] for name in names if isinstance(raw.get(name), str) and raw[name]), "")


def _workspace(raw: dict[str, Any]) -> str:
    roots = raw.get("workspace_roots")
    return str(roots[0]) if isinstance(roots, list) and roots else ""


def switched_off() -> bool:
    """Tell whether KNOWLEDGE_INJECT forbids injection in this shell."""
    return os.environ.get("KNOWLEDGE_INJECT", "").lower() in {"0", "off", "false", "no"}


def default_home() -> str:
    """Return the platform's user data directory, as `platformdirs` names it, without importing it."""
    user = os.path.expanduser("~")  # noqa: PTH111 -- as above
    if sys.platform == "darwin":
        return f"{user}/Library/Application Support/knowledge-system"
    data = os.environ.get("XDG_DATA_HOME", "").strip() or f"{user}/.local/share"
    return f"{data}/knowledge-system"
