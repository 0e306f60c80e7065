"""Who may come in over HTTP, as the settings and the environment say, and the record of what they changed."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

from knowledge_system.application import logs
from knowledge_system.domain.access import Access, Token
from knowledge_system.domain.errors import KnowledgeError, UsageError
from knowledge_system.domain.money import AuditEntry
from knowledge_system.inference.vendors import read_key

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from knowledge_system.application.compose import Parts
    from knowledge_system.settings import Configuration

TOKEN_VARIABLE = "KNOWLEDGE_API_TOKEN"  # noqa: S105 -- the name of a variable


def api_token(environ: Mapping[str, str] | None = None) -> str | None:
    """Return the token in `KNOWLEDGE_API_TOKEN`, or in the file that `KNOWLEDGE_API_TOKEN_FILE` names."""
    return read_key(TOKEN_VARIABLE, os.environ if environ is None else environ)


def known_tokens(tree: Configuration, token: str | None, environ: Mapping[str, str] | None = None) -> tuple[Token, ...]:
    """Return the configured tokens and `token`, which may do everything.

    Raises UsageError for one that has neither digest nor variable, or an empty variable: it would open to nobody.
    """
    variables = os.environ if environ is None else environ
    found = [Token(TOKEN_VARIABLE, Access.ADMIN, _digest(token))] if token else []
    for one in tree.server.tokens:
        given = read_key(one.token_env, variables)
        if (one.sha256 is None) == (given is None):
            raise UsageError(
                f"the token {one.name} of server.tokens needs one of sha256 and a tokenEnv that is set",
                hint="printf %s TOKEN | sha256sum",
            )
        digest = bytes.fromhex(one.sha256) if one.sha256 else _digest(given or "")
        found.append(Token(one.name, Access[one.scope.upper()], digest))
    return tuple(found)


def admin_record(parts: Parts) -> Callable[[str, str, str], Awaitable[None]]:
    """Return what writes a call that changes the system into the audit log: who, what, and how it ended.

    While the audit log cannot be written, the service's own log has the entry: what was done stays done, and is told.
    """

    async def record(actor: str, operation: str, outcome: str) -> None:
        entry = AuditEntry(at=parts.clock.now(), kind="admin", operation=operation[:300], actor=actor, outcome=outcome)
        try:
            await (await parts.database()).engine_state().audit.record(entry)
        except KnowledgeError as error:
            facts = {"actor": actor, "operation": entry.operation, "outcome": outcome, "reason": error.message}
            logs.warn("AdminCallNotAudited", facts)

    return record


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
