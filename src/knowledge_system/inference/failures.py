"""Whose fault a failed attempt is: one table from status codes, error codes and headers to `FailureKind`.

Messages are made of our own words, the status, and the codes listed here: never of a body, a prompt or a key.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from knowledge_system.domain.clock import to_utc
from knowledge_system.domain.inference import FailureKind, ProviderFailed

if TYPE_CHECKING:
    from collections.abc import Mapping

_LONGEST_WAIT = 31 * 86_400.0
"""Seconds: no provider's window is longer than a month; a longer figure is an error of theirs."""

_BY_STATUS = {
    400: FailureKind.BAD_REQUEST,
    401: FailureKind.MISCONFIGURED,
    402: FailureKind.NO_MONEY,
    403: FailureKind.MISCONFIGURED,
    404: FailureKind.MISCONFIGURED,
    405: FailureKind.MISCONFIGURED,
    407: FailureKind.MISCONFIGURED,
    408: FailureKind.TIMEOUT,
    410: FailureKind.MISCONFIGURED,
    413: FailureKind.BAD_REQUEST,
    422: FailureKind.BAD_REQUEST,
    425: FailureKind.CAPACITY,
    429: FailureKind.RATE_LIMITED,
    498: FailureKind.CAPACITY,
    499: FailureKind.TIMEOUT,
    504: FailureKind.TIMEOUT,
    529: FailureKind.CAPACITY,
}

_BY_CODE = {
    "model_not_found": FailureKind.MISCONFIGURED,
    "model_decommissioned": FailureKind.MISCONFIGURED,
    "model_not_available": FailureKind.MISCONFIGURED,
    "invalid_api_key": FailureKind.MISCONFIGURED,
    "api_key_invalid": FailureKind.MISCONFIGURED,
    "authentication_error": FailureKind.MISCONFIGURED,
    "permission_error": FailureKind.MISCONFIGURED,
    "not_found_error": FailureKind.MISCONFIGURED,
    "insufficient_quota": FailureKind.NO_MONEY,
    "billing_error": FailureKind.NO_MONEY,
    "billing_hard_limit_reached": FailureKind.NO_MONEY,
    "enforced_spend_limit_reached": FailureKind.NO_MONEY,
    "capacity_exceeded": FailureKind.CAPACITY,
    "overloaded_error": FailureKind.CAPACITY,
    "rate_limit_error": FailureKind.RATE_LIMITED,
    "rate_limit_exceeded": FailureKind.RATE_LIMITED,
    "resource_exhausted": FailureKind.RATE_LIMITED,
    "content_filter": FailureKind.REFUSED,
    "content_policy_violation": FailureKind.REFUSED,
    "json_validate_failed": FailureKind.MALFORMED,
    "invalid_request_error": FailureKind.BAD_REQUEST,
    "context_length_exceeded": FailureKind.BAD_REQUEST,
    "request_too_large": FailureKind.BAD_REQUEST,
    "timeout_error": FailureKind.TIMEOUT,
    "api_error": FailureKind.SERVER,
    "server_error": FailureKind.SERVER,
}
"""Error codes and types of OpenAI, Groq, OpenRouter, Anthropic and Gemini, lower case. The first list decides alone."""

_TELLING = frozenset(list(_BY_CODE)[: list(_BY_CODE).index("invalid_request_error")])
"""Codes that say more than the status; the others only decide where no status says anything."""

_NEVER_BILLED = frozenset({400, 401, 402, 403, 404, 405, 407, 410, 413, 422, 425, 429, 498, 529})
"""Statuses of requests that were turned away unread. A 5xx may follow tokens that were produced and billed."""

_OUT_OF_MONEY = re.compile(
    r"credit balance|spend(ing)? (limit|cap)|usage limits?|insufficient (credit|fund|balance|quota)|key limit exceeded",
    re.IGNORECASE,
)
_BAD_KEY = re.compile(r"api[ _]key (not valid|expired|not found)|invalid api key", re.IGNORECASE)
_IN_FLIGHT = "openrouter_in_flight_budget"
_SPEND_LIMIT = "enforced_spend_limit_reached"

_WORDS = {
    FailureKind.RATE_LIMITED: "rate limit reached",
    FailureKind.CAPACITY: "no capacity right now",
    FailureKind.TIMEOUT: "no answer in time",
    FailureKind.CONNECTION: "connection failed",
    FailureKind.SERVER: "the server failed",
    FailureKind.MALFORMED: "the answer cannot be read",
    FailureKind.MISCONFIGURED: "key, model or address is not accepted",
    FailureKind.NO_MONEY: "no money left with the provider",
    FailureKind.BAD_REQUEST: "the request is not accepted",
    FailureKind.REFUSED: "refused by the provider's content policy",
}


@dataclass(frozen=True, slots=True)
class RateLimits:
    """What the headers of the last answer say is left; resets in seconds from then. None: not told."""

    requests_left: int | None = None
    tokens_left: int | None = None
    requests_reset: float | None = None
    tokens_reset: float | None = None


def failure(
    provider: str, kind: FailureKind, reason: str = "", *, retry_after: float | None = None, started: bool = True
) -> ProviderFailed:
    """Return an error in our own words; `reason` must hold no content."""
    return ProviderFailed(
        f"{provider}: {reason or _WORDS[kind]}", kind=kind, provider=provider, retry_after=retry_after, started=started
    )


def malformed(provider: str, reason: str) -> ProviderFailed:
    """Return the error for an answer that is not what the protocol says."""
    return failure(provider, FailureKind.MALFORMED, reason)


def from_status(provider: str, status: int, headers: Mapping[str, str], body: bytes, now: datetime) -> ProviderFailed:
    """Classify an answer whose status is not 2xx. `headers` have lower-case names."""
    return _classified(provider, status, headers, error_object(_json(body)), now)


def from_error(provider: str, error: Any, now: datetime) -> ProviderFailed:
    """Classify an error object inside an answer with status 200, or in a stream: tokens may have been billed."""
    found = error_object({"error": error})
    code = found.get("code")
    status = code if isinstance(code, int) and not isinstance(code, bool) and 400 <= code <= 599 else 0  # noqa: PLR2004 -- the range of HTTP errors
    problem = _classified(provider, status, _inner_headers(found), found, now)
    problem.started = True
    return problem


def error_object(body: Any) -> dict[str, Any]:
    """Return the error object of a body: `{"error": {…}}`, `{"error": "…"}`, or Gemini's list of one; else empty."""
    if isinstance(body, list) and body:
        body = body[0]
    error = body.get("error", {}) if isinstance(body, dict) else {}
    return error if isinstance(error, dict) else {"message": str(error)[:2000]}


def retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """Return the seconds to wait: `retry-after-ms`, `retry-after` in seconds or as an HTTP date; None when not told."""
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return _wait(milliseconds / 1000)
    text = headers.get("retry-after", "").strip()
    seconds = _number(text)
    return _wait(_until(text, now) if seconds is None else seconds)


def rate_limits(headers: Mapping[str, str], now: datetime) -> RateLimits:
    """Read `x-ratelimit-*` (Groq, OpenAI: durations like `2m59.56s`) and `anthropic-ratelimit-*` (timestamps)."""

    def first(what: str, unit: str) -> str:
        openai = headers.get(f"x-ratelimit-{what}-{unit}")
        return openai if openai is not None else headers.get(f"anthropic-ratelimit-{unit}-{what}", "")

    return RateLimits(
        requests_left=_whole(first("remaining", "requests")),
        tokens_left=_whole(first("remaining", "tokens")),
        requests_reset=_wait(_span(first("reset", "requests"), now)),
        tokens_reset=_wait(_span(first("reset", "tokens"), now)),
    )


def duration(text: str) -> float | None:
    """Return the seconds of `7.66s`, `2m59.56s`, `120ms`, `1h2m`, `1d`, or a bare number; None for anything else."""
    plain = _number(text)
    if plain is not None:
        return plain
    match = re.fullmatch(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?", text.strip())
    if not match or not any(match.groups()):
        return None
    factors = (86_400, 3_600, 60, 1, 0.001)
    return sum(float(part) * factor for part, factor in zip(match.groups(), factors, strict=True) if part)


def _classified(
    provider: str, status: int, headers: Mapping[str, str], error: Mapping[str, Any], now: datetime
) -> ProviderFailed:
    codes = _codes(error)
    kind = _kind(status, codes, error)
    wait = retry_after(headers, now)
    if status == 402 and wait is not None:  # noqa: PLR2004 -- with a time to wait it is a limit, not an empty purse
        kind = FailureKind.RATE_LIMITED
    if _SPEND_LIMIT in codes:
        wait = _first_of_next_month(now) if wait is None else wait
    elif wait is None and kind in {FailureKind.RATE_LIMITED, FailureKind.CAPACITY}:
        wait = _told_otherwise(headers, error, now)
    told = next((code for code in codes if code in _BY_CODE), "")
    detail = ", ".join(filter(None, (f"HTTP {status}" if status else "", told)))
    started = status not in _NEVER_BILLED or kind is FailureKind.MALFORMED
    return failure(provider, kind, _WORDS[kind] + (f" ({detail})" if detail else ""), retry_after=wait, started=started)


def _kind(status: int, codes: list[str], error: Mapping[str, Any]) -> FailureKind:
    telling = next((_BY_CODE[code] for code in codes if code in _TELLING), None)
    if telling is not None and status not in {401, 402}:
        return telling
    message = str(error.get("message", ""))
    if status in {0, 400, 403, 429} and _OUT_OF_MONEY.search(message):
        return FailureKind.NO_MONEY
    if status == 400 and _BAD_KEY.search(message):  # noqa: PLR2004 -- Gemini's way of saying 401
        return FailureKind.MISCONFIGURED
    if status == 403 and "reasons" in _mapping(error.get("metadata")):  # noqa: PLR2004 -- OpenRouter's moderation
        return FailureKind.REFUSED
    if status == 402 and _IN_FLIGHT in codes:  # noqa: PLR2004 -- their own reservation, over soon
        return FailureKind.RATE_LIMITED
    return _by_status(status, codes)


def _by_status(status: int, codes: list[str]) -> FailureKind:
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if 300 <= status < 400:  # noqa: PLR2004 -- a redirect is never followed: it could leave the host that was allowed
        return FailureKind.MISCONFIGURED
    if 400 <= status < 500:  # noqa: PLR2004
        return FailureKind.BAD_REQUEST
    if status == 0:
        return next((_BY_CODE[code] for code in codes if code in _BY_CODE), FailureKind.SERVER)
    return FailureKind.SERVER


def _codes(error: Mapping[str, Any]) -> list[str]:
    """Return the error codes of an error object, most telling first, lower case."""
    details = _mapping(error.get("details"))
    metadata = _mapping(error.get("metadata"))
    reasons = [entry.get("reason") for entry in _list(error.get("details")) if isinstance(entry, dict)]
    named = (
        details.get("error_code"),
        metadata.get("limit_source"),
        metadata.get("error_type"),
        error.get("limit_source"),
    )
    values = [*named, *reasons, error.get("code"), error.get("type"), error.get("status")]
    return [value.lower() for value in values if isinstance(value, str)]


def _told_otherwise(headers: Mapping[str, str], error: Mapping[str, Any], now: datetime) -> float | None:
    """Return how long to wait where no Retry-After says so: Gemini's RetryInfo, exhausted counters, epoch resets."""
    for entry in _list(error.get("details")):
        if isinstance(entry, dict) and isinstance(entry.get("retryDelay"), str):
            return _wait(duration(entry["retryDelay"]))
    limits = rate_limits(headers, now)
    waits = [limits.requests_reset if limits.requests_left == 0 else None]
    waits.append(limits.tokens_reset if limits.tokens_left == 0 else None)
    epoch = _number(headers.get("x-ratelimit-reset")) or _number(_inner_headers(error).get("x-ratelimit-reset"))
    if epoch is not None and epoch > 1e12:  # noqa: PLR2004 -- milliseconds since 1970 (OpenRouter)
        waits.append(_wait(epoch / 1000 - now.timestamp()))
    return max((wait for wait in waits if wait is not None), default=None)


def _inner_headers(error: Mapping[str, Any]) -> dict[str, str]:
    """Return the upstream's headers that OpenRouter repeats inside the body."""
    headers = _mapping(_mapping(error.get("metadata")).get("headers"))
    return {str(name).lower(): str(value) for name, value in headers.items()}


def _first_of_next_month(now: datetime) -> float:
    now = to_utc(now)
    year, month = divmod(now.year * 12 + now.month, 12)
    return (datetime(year, month + 1, 1, tzinfo=UTC) - now).total_seconds()


def _span(text: str, now: datetime) -> float | None:
    found = duration(text)
    if found is not None or not text:
        return found
    try:
        return (to_utc(datetime.fromisoformat(text)) - now).total_seconds()
    except ValueError:
        return None


def _until(text: str, now: datetime) -> float | None:
    try:
        return (to_utc(parsedate_to_datetime(text)) - now).total_seconds()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _wait(seconds: float | None) -> float | None:
    return None if seconds is None else min(max(seconds, 0.0), _LONGEST_WAIT)


def _number(text: str | None) -> float | None:
    try:
        value = float(text) if text else None
    except ValueError:
        return None
    return value if value is not None and math.isfinite(value) else None


def _whole(text: str) -> int | None:
    value = _number(text)
    return None if value is None else int(value)


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
