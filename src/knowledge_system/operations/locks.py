"""What to make of a locked database: who holds it, which transactions of ours are old, and why the log grows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Document = dict[str, Any]
OLD_SECONDS = 5.0
"""Age from which a transaction of ours is too old: as long as another writer would wait for it (`BUSY_MS`)."""
LARGE_LOG_BYTES = 64 * 2**20
"""Size of the write-ahead log above which something keeps it from being emptied (`journal_size_limit`)."""


def findings(document: Mapping[str, Any]) -> list[Document]:
    """Return what is wrong and what to do; each with `problem`, `advice` and `exit_code`."""
    found = []
    lock, transactions = document["write_lock"], document["transactions"]
    others = [one for one in document["holders"] or [] if one["role"] in {"writes", "has the whole file"}]
    if lock == "held":
        who = ", ".join(f"process {one['pid']} ({one['command']})" for one in others) or "nobody that can be seen"
        advice = "wait for it, or end that process; what it had not committed is rolled back"
        found.append(_finding(f"the write lock is held by {who}", advice, 7))
    for one in transactions or []:
        if one["state"] == "open" and one["seconds"] >= OLD_SECONDS:
            problem = f"{one['purpose'] or 'a transaction'} ({one['kind']}) has been open for {one['seconds']:.1f} s"
            found.append(_finding(problem, "it ends with its request; restart the service if it does not", 0))
    if transactions is None:
        advice = "restart it; `knowledge doctor` says more"
        found.append(_finding(f"the running service does not answer: {document['service']}", advice, 5))
    found += _log(document)
    return found


def _log(document: Mapping[str, Any]) -> Sequence[Document]:
    done, left = document["checkpoint"], document["log_bytes"]
    if done is None or not done["busy"]:
        return []
    readers = [
        f"process {one['pid']} ({one['command']})" for one in document["holders"] or [] if one["role"] == "reads"
    ]
    who = f": {', '.join(readers)}" if readers else ""
    advice = "it is emptied when they end" if left < LARGE_LOG_BYTES else "end them: the log takes up disk until then"
    problem = f"the log ({left} bytes) cannot be emptied while somebody reads an older state or writes{who}"
    return [_finding(problem, advice, 0)]


def meaning(busy: bool, log_pages: int, moved_pages: int) -> str:  # noqa: FBT001 -- the columns of the pragma
    """Return in words what a checkpoint said (D29)."""
    if log_pages < 0:
        return "the database has no write-ahead log"
    if busy:
        return f"{moved_pages} of {log_pages} pages were moved; a reader or writer kept the log from being emptied"
    return "everything in the log is in the database, and the log is empty"


def _finding(problem: str, advice: str, exit_code: int) -> Document:
    return {"problem": problem, "advice": advice, "exit_code": exit_code}
