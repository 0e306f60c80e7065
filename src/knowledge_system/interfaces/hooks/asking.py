"""Asking the running service, within a deadline, and answering in the agent's own form."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time

from knowledge_system import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:  # the constant of `typing`, whose import takes longer than the whole hook
    from typing import Any

DEADLINE = 0.15
"""Seconds from the start of the hook after which it goes without an answer. `KNOWLEDGE_HOOK_DEADLINE` overrides it."""
MAX_ANSWER = 1 << 20
_PORT = 80
_EVENT_NAMES = {"session-start": "SessionStart", "prompt-submit": "UserPromptSubmit"}


def ask(home: str, event: str, facts: dict[str, Any], began: float) -> str:
    """Return what to print for the agent, empty for nothing: no service, no answer in time, nothing that helps."""
    end = began + _deadline()
    service = _service(home)
    if service is None or not facts["session_id"]:
        return ""
    request = {
        "occasion": event,
        "session_id": facts["session_id"],
        "agent": facts["agent"],
        "cwd": facts["cwd"],
        "prompt": facts["prompt"],
        "deadline": max(0.0, end - time.monotonic()),
    }
    with contextlib.suppress(OSError, ValueError):
        text = str(_call(service, json.dumps(request).encode(), end).get("text", ""))
        return _form(facts, event, text) if text else ""
    return ""


def _deadline() -> float:
    try:
        return float(os.environ.get("KNOWLEDGE_HOOK_DEADLINE", DEADLINE))
    except ValueError:
        return DEADLINE


def _service(home: str) -> tuple[str, int, str] | None:
    """Return host, port and secret of the service that owns `home`, None without one."""
    try:
        with open(f"{home}/lock", encoding="utf-8") as file:  # noqa: PTH123 -- pathlib costs 5 ms
            place = json.load(file)["url"].removeprefix("http://")
        with open(f"{home}/service.token", encoding="ascii") as file:  # noqa: PTH123 -- as above
            secret = file.read()
        host, _, port = place.rpartition(":")
        return host.strip("[]"), int(port or _PORT), secret
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _call(service: tuple[str, int, str], body: bytes, end: float) -> dict[str, Any]:
    """Return the service's answer. Raises OSError when it does not come in time, ValueError when it is none."""
    host, port, secret = service
    head = (
        f"POST /internal/call/inject HTTP/1.1\r\nhost: {host}:{port}\r\nauthorization: Bearer {secret}\r\n"
        f"x-knowledge-version: {__version__}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
    )
    with socket.create_connection((host, port), timeout=_left(end)) as connection:
        connection.sendall(head.encode("latin-1") + body)
        answer = b""
        while len(answer) < MAX_ANSWER:
            connection.settimeout(_left(end))
            piece = connection.recv(65536)
            if not piece:
                break
            answer += piece
    return _result(answer)


def _left(end: float) -> float:
    left = end - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _result(answer: bytes) -> dict[str, Any]:
    """Return the `result` in an answer of JSON lines; chunk sizes between them are no JSON objects and are skipped."""
    head, _, content = answer.partition(b"\r\n\r\n")
    if b" 200 " not in head.split(b"\r\n", 1)[0]:
        raise ValueError("refused")
    for line in content.splitlines():
        if line.startswith(b'{"result":'):
            found = json.loads(line)["result"]
            return found if isinstance(found, dict) else {}
    raise ValueError("no result")


def _form(facts: dict[str, Any], event: str, text: str) -> str:
    """Return `text` in the form in which the agent takes context from a hook."""
    name = facts["name"] or _EVENT_NAMES[event]
    if facts["agent"] == "cursor":
        return json.dumps({"additional_context": text}) + "\n"
    return json.dumps({"hookSpecificOutput": {"hookEventName": name, "additionalContext": text}}) + "\n"
