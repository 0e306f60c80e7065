from __future__ import annotations

from array import array
from dataclasses import replace
from datetime import timedelta

import pytest
from tests.lifecycle.test_deduplicate import MOMENT, item

from knowledge_system.lifecycle.deduplicate import Known
from knowledge_system.lifecycle.supersede import Replacement, replacements, superseded_by

SAME = array("f", [1.0, 0.0])
OTHER = array("f", [0.0, 1.0])


@pytest.mark.parametrize(
    ("text", "old", "new"),
    [
        ("We replaced `moment` with `date-fns` in the client.", "moment", "date-fns"),
        ("Switched from Jest to Vitest because of ESM.", "Jest", "Vitest"),
        ("Use `uv` instead of `pip` in CI.", "pip", "uv"),
        ("Migrated from Redis to PostgreSQL for the queue.", "Redis", "PostgreSQL"),
        ("pnpm replaces npm.", "npm", "pnpm"),
    ],
)
def test_stated_replacements_are_read(text: str, old: str, new: str) -> None:
    assert Replacement(old, new) in list(replacements(text))


@pytest.mark.parametrize(
    "text",
    ["Replaced it with that.", "We use Redis.", "Replace the value with the value.", "Jest is faster than Mocha.", ""],
)
def test_nothing_is_read_into_other_sentences(text: str) -> None:
    assert list(replacements(text)) == []


def later(key: str, content: str) -> object:
    return replace(item(key, content), valid_from=MOMENT + timedelta(days=3))


def test_a_stated_replacement_supersedes_the_older_item_on_the_same_subject() -> None:
    old = Known(item("k1", "The job queue runs on Redis with one list per priority."), SAME)
    new = later("k2", "Job queue: migrated from Redis to PostgreSQL because jobs were lost on restart.")

    assert superseded_by(new, SAME, [old]) == [old.item]


def test_what_differs_in_project_age_subject_or_content_stays() -> None:
    statement = "Job queue: migrated from Redis to PostgreSQL because jobs were lost on restart."
    new = later("k2", statement)
    queue = "The job queue runs on Redis with one list per priority."

    assert superseded_by(new, SAME, [Known(item("k1", queue, project="web"), SAME)]) == []
    assert superseded_by(new, OTHER, [Known(item("k1", queue), SAME)]) == []
    assert superseded_by(item("k2", statement), SAME, [Known(later("k1", queue), SAME)]) == []
    assert superseded_by(new, SAME, [Known(item("k1", "The job queue runs on RabbitMQ."), SAME)]) == []
    assert superseded_by(new, SAME, [Known(item("k1", "Compared Redis and PostgreSQL for the queue."), SAME)]) == []


def test_an_item_that_already_moved_away_is_not_superseded_again() -> None:
    earlier = Known(item("k1", "The cache was migrated from Redis to Memcached."), SAME)
    new = later("k2", "Job queue: migrated from Redis to PostgreSQL.")

    assert superseded_by(new, SAME, [earlier]) == []
