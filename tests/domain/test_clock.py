from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from knowledge_system.domain.clock import STORED_WIDTH, SystemClock, from_stored, to_public, to_stored

ANY_TIME = st.datetimes(
    timezones=st.sampled_from([UTC, timezone(timedelta(hours=-7)), timezone(timedelta(minutes=345))])
)


@given(ANY_TIME.filter(lambda moment: 2 <= moment.year <= 9998))
def test_the_stored_form_is_lossless_and_of_one_width(moment: datetime) -> None:
    text = to_stored(moment)

    assert len(text) == STORED_WIDTH
    assert from_stored(text) == moment


@given(ANY_TIME.filter(lambda m: 2 <= m.year <= 9998), ANY_TIME.filter(lambda m: 2 <= m.year <= 9998))
def test_text_order_is_time_order(one: datetime, other: datetime) -> None:
    assert (to_stored(one) < to_stored(other)) == (one < other)


def test_offsets_do_not_shift_the_month() -> None:
    late = datetime(2026, 3, 31, 20, 0, tzinfo=timezone(timedelta(hours=-7)))

    assert to_stored(late).startswith("2026-04-01T03:00")
    assert to_public(late) == "2026-04-01T03:00:00Z"


def test_a_naive_time_counts_as_utc() -> None:
    assert to_public(datetime(2026, 1, 1)) == "2026-01-01T00:00:00Z"  # noqa: DTZ001 -- the case under test


def test_now_is_aware_and_utc() -> None:
    assert SystemClock().now().tzinfo is UTC
