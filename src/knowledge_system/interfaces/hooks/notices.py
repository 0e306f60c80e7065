"""The writing side of the spool, whose layout `storage/spool.py` describes."""

from __future__ import annotations

import binascii
import json
import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:  # the constant of `typing`, whose import takes longer than the whole hook
    from typing import Any

_KEPT_OF_NAME = 100


def leave(home: str, event: str, facts: dict[str, Any]) -> None:
    """Leave a notice: complete or not at all, whatever happens to this process. Raises OSError when it cannot."""
    if not facts["transcript"] and facts["body"] is None:
        return
    folder = f"{home}/spool/new"
    name = _name(facts)
    notice = {
        "v": 1,
        "at": _now(),
        "agent": facts["agent"],
        "event": event,
        "session_id": facts["session_id"],
        "cwd": facts["cwd"],
        "transcript": facts["transcript"] or None,
        "body": facts["body"],
    }
    content = json.dumps(notice, ensure_ascii=True).encode("ascii")
    part = f"{folder}/{os.getpid()}-{time.time_ns()}.part"
    descriptor = _create(part, folder)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            if facts["body"] is not None:  # nobody else has it: it must outlive a power cut too
                file.flush()
                os.fsync(file.fileno())
        _keep_flush(f"{folder}/{name}", part, event)
    except BaseException:
        os.unlink(part)  # noqa: PTH108 -- pathlib costs 5 ms
        raise


def _create(part: str, folder: str) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    try:
        return os.open(part, flags, 0o600)
    except FileNotFoundError:
        os.makedirs(folder, mode=0o700, exist_ok=True)  # noqa: PTH103 -- as above
        return os.open(part, flags, 0o600)


def _keep_flush(path: str, part: str, event: str) -> None:
    """Put the notice in place; one that asks for learning at once is not hidden by a later one that does not."""
    if event == "tool-use" and os.path.exists(path):  # noqa: PTH110 -- as above
        os.unlink(part)  # noqa: PTH108 -- as above
        return
    os.replace(part, path)  # noqa: PTH105 -- as above


def _name(facts: dict[str, Any]) -> str:
    """Return the name of the notice: one a transcript, however often it grows; one of its own for everything else."""
    transcript = facts["transcript"]
    if facts["body"] is None:
        check = binascii.crc32(transcript.encode("utf-8", "surrogatepass"))
        tail = "".join(sign if sign.isascii() and sign.isalnum() else "-" for sign in transcript[-_KEPT_OF_NAME:])
        return f"{check:08x}-{tail}.json"
    return f"{time.time_ns()}-{os.getpid()}.json"


def _now() -> str:
    """Return the time as the database stores it."""
    nanoseconds = time.time_ns()
    seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(nanoseconds // 1_000_000_000))
    return f"{seconds}.{nanoseconds // 1000 % 1_000_000:06d}Z"
