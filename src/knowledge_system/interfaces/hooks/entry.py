"""One call of a hook: leave a notice in the spool, ask the running service for what helps now, go.

A hook never blocks its agent, never fails it and never prints anything but an answer the agent understands: whatever
goes wrong ends in exit code 0, nothing on stdout, and one line in `hooks.log` of the data directory, where `status`
and `doctor` find it. Nothing but the standard library is imported here, `socket` only when there is something to ask.
"""

from __future__ import annotations

import os
import sys
import time

from knowledge_system.interfaces.hooks import notices, reading

ASKING = frozenset({"session-start", "prompt-submit"})
"""Events at which something may be injected."""
EVENTS = (*sorted(ASKING), "tool-use", "pre-compact", "stop", "session-end")
LOG_BYTES = 256 * 1024
USAGE = f"usage: knowledge hook {{{'|'.join(EVENTS)}}} [--agent NAME] [--home DIR]"


def run(arguments: list[str]) -> int:
    """Handle one event of an agent; `arguments` are those after `hook`. Returns 0, or 2 for a wrong call."""
    try:
        event, agent, home = _parsed(arguments)
    except ValueError as error:
        sys.stderr.write(f"{error}\n{USAGE}\n")
        return 2
    began = time.monotonic()
    try:
        _handle(event, agent, home, began)
    except BaseException as error:  # noqa: BLE001 -- the edge: an agent is never disturbed, not even by Ctrl-C
        _log(home, f"{event} {agent}: {type(error).__name__}: {error}")
    return 0


def _handle(event: str, agent: str, home: str, began: float) -> None:
    payload = reading.payload(sys.stdin.fileno())
    facts = reading.facts(payload, agent)
    notices.leave(home, event, facts)
    if event in ASKING and not reading.switched_off():
        from knowledge_system.interfaces.hooks import asking

        answer = asking.ask(home, event, facts, began)
        if answer:
            sys.stdout.write(answer)
            sys.stdout.flush()


def _parsed(arguments: list[str]) -> tuple[str, str, str]:
    event, agent, home = "", "generic", os.environ.get("KNOWLEDGE_HOME", "")
    words = iter(arguments)
    for word in words:
        if word == "--agent":
            agent = next(words, "")
        elif word == "--home":
            home = next(words, "")
        elif not event and word in EVENTS:
            event = word
        else:
            raise ValueError(f"knowledge hook: {word!r} is not understood")
    if not event or not agent:
        raise ValueError("knowledge hook: which event?")
    return event, agent, os.path.expanduser(home) if home else reading.default_home()  # noqa: PTH111 -- pathlib costs 5 ms


def _log(home: str, line: str) -> None:
    """Append one line to the log of hooks, which never grows beyond its limit."""
    try:
        path = f"{home}/hooks.log"
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            if os.fstat(descriptor).st_size > LOG_BYTES:
                os.ftruncate(descriptor, 0)
            os.write(descriptor, f"{stamp} {line[:500]}\n".encode("utf-8", "replace"))
        finally:
            os.close(descriptor)
    except OSError:
        pass
