from __future__ import annotations

import math
from array import array
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from knowledge_system.domain.knowledge import Evidence, KnowledgeItem, KnowledgeType
from knowledge_system.lifecycle.deduplicate import (
    CONFIDENCE_CEILING,
    Known,
    cosine,
    doubtful_pairs,
    duplicate_of,
    reinforced,
)

MOMENT = datetime(2026, 3, 1, tzinfo=UTC)


def item(key: str, content: str, project: str = "api") -> KnowledgeItem:
    return KnowledgeItem(
        id=key,
        type=KnowledgeType.BUG_SOLUTION,
        title=content[:40],
        content=content,
        confidence=0.8,
        project=project,
        session_id="s",
        created_at=MOMENT,
        updated_at=MOMENT,
        valid_from=MOMENT,
        evidence=(Evidence("x1", "assistant", 0, 5),),
    )


def direction(angle: float) -> array[float]:
    return array("f", [math.cos(angle), math.sin(angle)])


def test_equal_texts_are_duplicates_whatever_their_case_and_spacing() -> None:
    known = Known(item("k1", "Close the pool\n before forking."), direction(0))

    assert duplicate_of(item("k2", "close the POOL before forking."), direction(2), [known], 0.95) is known


def test_near_vectors_are_duplicates_and_the_nearest_is_chosen() -> None:
    far = Known(item("k1", "one"), direction(0.25))
    near = Known(item("k2", "two"), direction(0.05))

    assert duplicate_of(item("k3", "three"), direction(0), [far, near], 0.95) is near


def test_below_the_threshold_both_stay() -> None:
    known = Known(item("k1", "one"), direction(0.5))

    assert duplicate_of(item("k2", "two"), direction(0), [known], 0.95) is None


def test_projects_are_never_merged() -> None:
    known = Known(item("k1", "same", project="web"), direction(0))

    assert duplicate_of(item("k2", "same"), direction(0), [known], 0.95) is None


def test_an_item_is_not_its_own_duplicate() -> None:
    known = Known(item("k1", "same"), direction(0))

    assert duplicate_of(replace(known.item), direction(0), [known], 0.95) is None


def test_cosine_of_unit_vectors() -> None:
    assert math.isclose(cosine(direction(0), direction(math.pi / 3)), 0.5, abs_tol=1e-6)


@given(st.floats(0, 1), st.floats(0, 1))
def test_support_never_lowers_confidence_and_never_makes_it_certain(old: float, new: float) -> None:
    result = reinforced(old, new)

    assert result >= max(old, new)
    assert result <= max(CONFIDENCE_CEILING, old, new)
    assert math.isclose(result, reinforced(new, old))


def test_pairs_between_the_bounds_are_doubtful() -> None:
    new = item("k9", "new")
    known = [Known(item(f"k{n}", str(n)), direction(angle)) for n, angle in enumerate((0.1, 0.5, 0.6, 1.2))]

    found = doubtful_pairs(new, direction(0), known, (0.8, 0.95))

    assert [(pair.older.id, pair.newer.id) for pair in found] == [("k1", "k9"), ("k2", "k9")]
    assert [round(pair.likeness, 3) for pair in found] == [0.878, 0.825]


def test_other_projects_and_types_are_never_doubtful() -> None:
    others = [
        item("k1", "one", project="web"),
        replace(item("k2", "two"), type=KnowledgeType.TOOL_USAGE),
        item("k9", "new"),
    ]

    known = [Known(one, direction(0.5)) for one in others]
    assert doubtful_pairs(item("k9", "new"), direction(0), known, (0.8, 0.95)) == []


def test_the_item_that_was_true_first_is_the_older_one() -> None:
    later = Known(replace(item("k1", "one"), valid_from=MOMENT + timedelta(days=1)), direction(0.5))

    (pair,) = doubtful_pairs(item("k2", "two"), direction(0), [later], (0.8, 0.95))

    assert (pair.older.id, pair.newer.id) == ("k2", "k1")
