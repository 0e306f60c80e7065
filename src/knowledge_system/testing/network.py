"""A switch after which this process, and the processes it starts, cannot reach beyond this machine.

In a test suite::

    network.forbid()  # once: connections and look-ups of other hosts raise RefusedByPolicy from now on
    os.environ.update(network.child_environment(log))  # for processes started from here
    ...
    assert not network.attempts()  # an error that the code under test swallowed is seen all the same
    assert not network.told(log)  # and one of a child process too

It is an audit hook of the interpreter, so it sees every socket of Python code, whichever library opened it; only code
that brings its own network stack (a C library) would not be seen. It needs no privileges and cannot be taken off again.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import sys
from pathlib import Path

from knowledge_system.domain.errors import RefusedByPolicy

LOG_VARIABLE = "LOOPBACK_ONLY_LOG"
"""Names the file in which child processes note what they attempted; without it a child may reach anybody."""

_TO_ADDRESS = {"socket.connect": 1, "socket.sendto": 1, "socket.sendmsg": 1}
_LOOKED_UP = {"socket.getaddrinfo": 0, "socket.gethostbyname": 0}
_NAMES = frozenset({"", "localhost", "localhost.localdomain", "ip6-localhost"})


class _Switch:
    """The state of this process."""

    installed = False
    log: Path | None = None
    attempts: list[str] = []  # noqa: RUF012 -- one for the process, as the hook is


def forbid(log: Path | None = None) -> None:
    """Refuse whatever goes beyond this machine from now on; `log` collects the attempts of several processes."""
    _Switch.log = log
    if not _Switch.installed:
        _Switch.installed = True
        sys.addaudithook(_watch)


def forbid_as_told() -> None:
    """Forbid when the environment says so: what a child process does when it starts."""
    if log := os.environ.get(LOG_VARIABLE):
        forbid(Path(log))


def child_environment(log: Path) -> dict[str, str]:
    """Return the variables with which child processes of Python forbid themselves too, and note attempts in `log`."""
    before = os.environ.get("PYTHONPATH")
    folders = [str(Path(__file__).parent / "loopback"), *filter(None, [before])]
    return {LOG_VARIABLE: str(log), "PYTHONPATH": os.pathsep.join(folders)}


def attempts() -> list[str]:
    """Return what this process attempted since it last forgot."""
    return list(_Switch.attempts)


def told(log: Path) -> list[str]:
    """Return what the processes that write to `log` attempted."""
    return log.read_text(encoding="utf-8").splitlines() if log.exists() else []


def forget() -> None:
    """Forget the attempts of this process."""
    _Switch.attempts.clear()


def stays_here(host: object) -> bool:
    """Tell whether `host`, a name or an address, is this machine by its own form; nothing is looked up."""
    name = host.decode("ascii", "replace") if isinstance(host, bytes) else host
    if name is None or not isinstance(name, str):
        return name is None
    plain = name.strip("[]").partition("%")[0].rstrip(".").lower()
    with contextlib.suppress(ValueError):
        address = ipaddress.ip_address(plain)
        mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
        known = mapped or address
        return known.is_loopback or known.is_unspecified
    return plain in _NAMES or plain.endswith(".localhost") or plain == socket.gethostname().lower()


def _watch(event: str, details: tuple[object, ...]) -> None:
    if event in _TO_ADDRESS:
        address = details[_TO_ADDRESS[event]]
        host = address[0] if isinstance(address, tuple) and address else None  # a path is a socket of this machine
    elif event in _LOOKED_UP:
        host = details[_LOOKED_UP[event]]
    else:
        return
    if not stays_here(host):
        _refuse(event, host)


def _refuse(event: str, host: object) -> None:
    attempt = f"{event} {host!r} from {Path(sys.argv[0]).name if sys.argv else 'python'}"
    _Switch.attempts.append(attempt)
    if _Switch.log is not None:
        with _Switch.log.open("a", encoding="utf-8") as log:
            log.write(attempt + "\n")
    raise RefusedByPolicy(
        f"{event} to {host!r}: only this machine may be reached here", hint="point the code at a server on loopback"
    )
