"""Ids of points: the same passage always has the same id, and ids as this system makes them tell the passage."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowledge_system.domain.index import IndexPoint, PointPlace, place_of, point_id

OWNERS = st.from_regex(r"[kx][0-9a-f]{24}", fullmatch=True)
ORDINALS = st.integers(0, 2**16 - 1)


def usual(owner: str, ordinal: int) -> PointPlace:
    return PointPlace(owner, ordinal, "window" if ordinal else "whole")


@given(owner=OWNERS, ordinal=ORDINALS)
def test_the_id_of_a_usual_place_tells_it(owner: str, ordinal: int) -> None:
    identity = point_id(usual(owner, ordinal))
    assert place_of(identity) == usual(owner, ordinal)
    assert (identity.version, identity.variant) == (8, uuid.RFC_4122)


@given(places=st.lists(st.tuples(OWNERS, ORDINALS), unique=True, max_size=20))
def test_no_two_places_share_an_id(places: list[tuple[str, int]]) -> None:
    assert len({point_id(usual(*place)) for place in places}) == len(places)


@pytest.mark.parametrize(
    "place",
    [
        PointPlace("owner", 0, "whole"),
        PointPlace(f"x{'A' * 24}", 0, "whole"),
        PointPlace(f"x{'a' * 25}", 0, "whole"),
        PointPlace(f"s{'a' * 24}", 0, "whole"),
        PointPlace(f"x{'a' * 24}\n", 0, "whole"),
        PointPlace(f"x{'a' * 24}", 2**16, "window"),
        PointPlace(f"x{'a' * 24}", 0, "window"),
        PointPlace(f"x{'a' * 24}", 1, "whole"),
    ],
    ids=["short", "upper", "long", "kind", "newline", "ordinal", "view-of-first", "view-of-second"],
)
def test_an_unusual_place_is_hashed(place: PointPlace) -> None:
    identity = point_id(place)
    assert place_of(identity) is None
    assert identity.version == 5
    assert identity == point_id(place)


def test_a_point_has_the_id_of_its_place() -> None:
    owner = f"k{'0f' * 12}"
    assert IndexPoint(owner, 3, "window", None).id == str(point_id(PointPlace(owner, 3, "window")))
