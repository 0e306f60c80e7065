"""Every error of the system, each with a hint that tells the operator what to do next.

::

    KnowledgeError                  1  unexpected failure
    ├── UsageError                  2  the request itself is wrong
    ├── NotFound                    3  no such item, session, file or exchange
    ├── RefusedByPolicy             4  budget, privacy, or a confirmation that was not given
    ├── DependencyUnavailable       5  model weights, database or index cannot be used right now
    │   ├── IndexUnavailable        5  the server that holds the index does not answer
    │   └── ModelUnavailable        5  the embedding model is missing, broken or does not answer
    │       └── WrongDimension      5  the embedding model's vectors are not of its space
    ├── IntegrityFailure            6  stored data contradicts itself
    │   └── NewerSchema             6  the database was written by a newer version
    └── Busy                        7  another process owns the data directory, or is writing the same thing
        └── Overtaken               7  something of the same source was stored meanwhile

The number is the exit code of the command line (`design/contracts.md`); HTTP maps the same classes to problem details.
"""

from __future__ import annotations

INDEX_AWAY = "the index's server cannot be used"
"""How the message of an IndexUnavailable begins that is about the server as a whole."""


class KnowledgeError(Exception):
    """Base of all errors. `hint` says what to do next; `exit_code` is what the command line returns."""

    exit_code = 1
    code = "unexpected"

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(KnowledgeError):
    """The request is wrong: an unknown key, an impossible value, contradicting options."""

    exit_code = 2
    code = "usage"


class NotFound(KnowledgeError):
    """What was asked for does not exist."""

    exit_code = 3
    code = "not-found"


class RefusedByPolicy(KnowledgeError):
    """Budget, privacy or a missing confirmation forbids it."""

    exit_code = 4
    code = "refused"


class DependencyUnavailable(KnowledgeError):
    """Something the operation needs (weights, database, index, disk space) cannot be used right now."""

    exit_code = 5
    code = "unavailable"


class IndexUnavailable(DependencyUnavailable):
    """The server that holds the index does not answer, or refuses: what is stored waits, and nothing is lost."""

    code = "index-unavailable"


class ModelUnavailable(DependencyUnavailable):
    """An embedding model is missing, its files do not have the expected checksums, or it does not answer."""

    code = "model-unavailable"


class WrongDimension(ModelUnavailable):
    """An embedding model answered with vectors of another length than its space has; none of them is used."""

    code = "wrong-dimension"


class IntegrityFailure(KnowledgeError):
    """Stored data contradicts itself or its checksums."""

    exit_code = 6
    code = "integrity"


class NewerSchema(IntegrityFailure):
    """The database carries a schema revision that this version does not know."""

    code = "newer-schema"


class Busy(KnowledgeError):
    """Another process owns the data directory, or is writing the same thing."""

    exit_code = 7
    code = "busy"


class Overtaken(Busy):
    """Somebody else stored something of the same source meanwhile: another attempt, from what is there now, is due."""

    code = "overtaken"
