"""Every row of the classification: whose fault, how long to wait, and whether tokens may have been billed."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowledge_system.domain.inference import FailureKind as Kind
from knowledge_system.inference.failures import duration, from_error, from_status, rate_limits, retry_after

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
UNTIL_DECEMBER = 10.5 * 86_400


def body(**error: object) -> bytes:
    return json.dumps({"error": error}).encode()


ROWS = [
    # what, status, headers, body, kind, seconds to wait, may have been billed
    ("plain 400", 400, {}, b"", Kind.BAD_REQUEST, None, False),
    ("401", 401, {}, body(type="authentication_error"), Kind.MISCONFIGURED, None, False),
    ("402 without a time", 402, {}, body(code=402), Kind.NO_MONEY, None, False),
    (
        "402 of OpenRouter's own reservation",
        402,
        {"retry-after": "7"},
        body(code=402, metadata={"limit_source": "openrouter_in_flight_budget"}),
        Kind.RATE_LIMITED,
        7.0,
        False,
    ),
    ("403", 403, {}, body(type="permission_error"), Kind.MISCONFIGURED, None, False),
    ("403 moderation", 403, {}, body(metadata={"reasons": ["violence"]}), Kind.REFUSED, None, False),
    ("403 key limit", 403, {}, body(message="Key limit exceeded (monthly)"), Kind.NO_MONEY, None, False),
    ("404 model", 404, {}, body(code="model_not_found"), Kind.MISCONFIGURED, None, False),
    ("404 anything", 404, {}, b"<html>", Kind.MISCONFIGURED, None, False),
    ("405", 405, {}, b"", Kind.MISCONFIGURED, None, False),
    ("408", 408, {}, b"", Kind.TIMEOUT, None, True),
    ("413", 413, {}, body(type="request_too_large"), Kind.BAD_REQUEST, None, False),
    ("422", 422, {}, body(type="invalid_request_error"), Kind.BAD_REQUEST, None, False),
    ("418", 418, {}, b"", Kind.BAD_REQUEST, None, True),
    ("429 with seconds", 429, {"retry-after": "3"}, b"", Kind.RATE_LIMITED, 3.0, False),
    ("429 with a fraction", 429, {"retry-after": "0.25"}, b"", Kind.RATE_LIMITED, 0.25, False),
    ("429 with ms", 429, {"retry-after-ms": "1500", "retry-after": "2"}, b"", Kind.RATE_LIMITED, 1.5, False),
    (
        "429 with a date",
        429,
        {"retry-after": "Fri, 20 Nov 2026 12:01:30 GMT"},
        b"",
        Kind.RATE_LIMITED,
        90.0,
        False,
    ),
    ("429 with a past date", 429, {"retry-after": "Fri, 20 Nov 2026 11:00:00 GMT"}, b"", Kind.RATE_LIMITED, 0.0, False),
    ("429 with nonsense", 429, {"retry-after": "soon"}, b"", Kind.RATE_LIMITED, None, False),
    ("429 with a negative time", 429, {"retry-after": "-5"}, b"", Kind.RATE_LIMITED, 0.0, False),
    ("429 with an absurd time", 429, {"retry-after": "1e30"}, b"", Kind.RATE_LIMITED, 31 * 86_400.0, False),
    (
        "429 of Groq without a time",
        429,
        {
            "x-ratelimit-remaining-requests": "12",
            "x-ratelimit-reset-requests": "2m59.56s",
            "x-ratelimit-remaining-tokens": "0",
            "x-ratelimit-reset-tokens": "7.66s",
        },
        body(code="rate_limit_exceeded"),
        Kind.RATE_LIMITED,
        7.66,
        False,
    ),
    (
        "429 of Anthropic's window",
        429,
        {"anthropic-ratelimit-tokens-remaining": "0", "anthropic-ratelimit-tokens-reset": "2026-11-20T12:00:20Z"},
        body(type="rate_limit_error"),
        Kind.RATE_LIMITED,
        20.0,
        False,
    ),
    (
        "429 of Anthropic's spend limit",
        429,
        {},
        body(type="rate_limit_error", details={"error_code": "enforced_spend_limit_reached"}),
        Kind.NO_MONEY,
        UNTIL_DECEMBER,
        False,
    ),
    ("429 of OpenAI without money", 429, {}, body(code="insufficient_quota"), Kind.NO_MONEY, None, False),
    (
        "429 of Gemini in a list",
        429,
        {},
        json.dumps(
            [{"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "details": [{"retryDelay": "34s"}]}}]
        ).encode(),
        Kind.RATE_LIMITED,
        34.0,
        False,
    ),
    (
        "429 of OpenRouter's epoch",
        429,
        {},
        body(code=429, metadata={"headers": {"X-RateLimit-Reset": str(int(NOW.timestamp() * 1000) + 4000)}}),
        Kind.RATE_LIMITED,
        4.0,
        False,
    ),
    ("498 flex capacity", 498, {}, body(code="capacity_exceeded"), Kind.CAPACITY, None, False),
    ("500", 500, {}, b"", Kind.SERVER, None, True),
    ("502", 502, {}, b"<html>", Kind.SERVER, None, True),
    ("503 with a time", 503, {"retry-after": "5"}, b"", Kind.SERVER, 5.0, True),
    ("504", 504, {}, b"", Kind.TIMEOUT, None, True),
    ("529 overloaded", 529, {}, body(type="overloaded_error"), Kind.CAPACITY, None, False),
    ("302", 302, {}, b"", Kind.MISCONFIGURED, None, True),
    ("400 credit balance", 400, {}, body(message="Your credit balance is too low"), Kind.NO_MONEY, None, False),
    ("400 own cap", 400, {}, body(message="reached your specified API usage limits"), Kind.NO_MONEY, None, False),
    ("400 model gone at Groq", 400, {}, body(code="model_decommissioned"), Kind.MISCONFIGURED, None, False),
    ("400 Groq's JSON", 400, {}, body(code="json_validate_failed"), Kind.MALFORMED, None, True),
    ("400 content policy", 400, {}, body(code="content_policy_violation"), Kind.REFUSED, None, False),
    ("400 too long", 400, {}, body(code="context_length_exceeded"), Kind.BAD_REQUEST, None, False),
    ("400 Gemini's key", 400, {}, body(message="API key not valid."), Kind.MISCONFIGURED, None, False),
    (
        "400 Gemini's key by reason",
        400,
        {},
        body(status="INVALID_ARGUMENT", details=[{"reason": "API_KEY_INVALID"}]),
        Kind.MISCONFIGURED,
        None,
        False,
    ),
    ("error that is a text", 500, {}, b'{"error": "boom"}', Kind.SERVER, None, True),
    ("error that is null", 500, {}, b'{"error": null}', Kind.SERVER, None, True),
]


@pytest.mark.parametrize(
    ("status", "headers", "content", "kind", "wait", "billed"), [r[1:] for r in ROWS], ids=[r[0] for r in ROWS]
)
def test_rows(
    status: int, headers: dict[str, str], content: bytes, kind: Kind, wait: float | None, *, billed: bool
) -> None:
    failure = from_status("someone", status, headers, content, NOW)
    assert failure.kind is kind
    assert failure.retry_after == (None if wait is None else pytest.approx(wait))
    assert failure.started is billed


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"type": "overloaded_error"}, Kind.CAPACITY),
        ({"type": "api_error"}, Kind.SERVER),
        ({"type": "rate_limit_error"}, Kind.RATE_LIMITED),
        ({"type": "authentication_error"}, Kind.MISCONFIGURED),
        ({"type": "invalid_request_error"}, Kind.BAD_REQUEST),
        ({"code": 429}, Kind.RATE_LIMITED),
        ({"code": 502, "metadata": {"error_type": "provider_unavailable"}}, Kind.SERVER),
        ({"code": 402}, Kind.NO_MONEY),
        ({"code": True}, Kind.SERVER),
        ("boom", Kind.SERVER),
        (None, Kind.SERVER),
        ([1, 2], Kind.SERVER),
    ],
)
def test_errors_after_the_start_may_have_been_billed(error: object, kind: Kind) -> None:
    failure = from_error("someone", error, NOW)
    assert failure.kind is kind
    assert failure.started


def test_the_spend_limit_ends_with_the_year_too() -> None:
    late = datetime(2026, 12, 31, 23, 59, 30, tzinfo=UTC)
    content = body(details={"error_code": "enforced_spend_limit_reached"})
    assert from_status("a", 429, {}, content, late).retry_after == 30.0


@given(st.binary(max_size=200), st.integers(300, 599), st.dictionaries(st.text(), st.text(), max_size=3))
def test_no_answer_breaks_the_classification(content: bytes, status: int, headers: dict[str, str]) -> None:
    failure = from_status("someone", status, headers, content, NOW)
    assert failure.kind in Kind
    assert failure.retry_after is None or failure.retry_after >= 0


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["error", "code", "type", "details", "metadata", "headers", "message", "reason", "retryDelay"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(JSON, st.sampled_from([200, 400, 402, 403, 429, 500]))
def test_no_error_object_breaks_the_classification(error: object, status: int) -> None:
    assert from_error("someone", error, NOW).kind in Kind
    content = json.dumps({"error": error}).encode()
    assert from_status("someone", status, {}, content, NOW).kind in Kind


@given(st.text(min_size=3, alphabet=st.characters(categories=["L", "N"]), max_size=40))
def test_messages_hold_nothing_of_the_body(secret: str) -> None:
    marked = f"zq{secret}"
    content = body(message=marked, code=marked, type=marked, param=marked)
    assert marked not in str(from_status("a", 400, {"retry-after": marked}, content, NOW))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *(
            ("7.66s", 7.66),
            ("2m59.56s", 179.56),
            ("120ms", 0.12),
            ("1h2m", 3720.0),
            ("1d", 86_400.0),
            ("1h0m3s", 3603.0),
        ),
        *(("5", 5.0), ("", None), ("soon", None), ("s", None), ("nan", None), ("inf", None), ("3x", None)),
    ],
)
def test_durations(text: str, seconds: float | None) -> None:
    assert duration(text) == (None if seconds is None else pytest.approx(seconds))


@given(st.text(max_size=30))
def test_times_are_never_negative_whatever_stands_there(text: str) -> None:
    headers = {"retry-after": text, "x-ratelimit-reset-tokens": text, "x-ratelimit-remaining-tokens": text}
    wait = retry_after(headers, NOW)
    assert wait is None or 0 <= wait <= 31 * 86_400
    limits = rate_limits(headers, NOW)
    assert limits.tokens_reset is None or limits.tokens_reset >= 0


def test_groq_limits_are_read() -> None:
    limits = rate_limits(
        {
            "x-ratelimit-limit-requests": "14400",
            "x-ratelimit-remaining-requests": "14370",
            "x-ratelimit-remaining-tokens": "17997",
            "x-ratelimit-reset-requests": "2m59.56s",
            "x-ratelimit-reset-tokens": "7.66s",
        },
        NOW,
    )
    assert (limits.requests_left, limits.tokens_left) == (14370, 17997)
    assert (limits.requests_reset, limits.tokens_reset) == (pytest.approx(179.56), pytest.approx(7.66))
