"""`knowledge trajectory` as a user types it, and what the path of a session does for search and learning."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.interfaces.conftest import CHORE, FIXED_BUG, transcript

if TYPE_CHECKING:
    from tests.interfaces.conftest import Cli

DOCUMENTED = {
    "timestamp": "2026-01-05T10:20:00Z",
    "user": "Now document the pool settings in the readme",
    "assistant": "Added a section about `pool_size` to the README.",
    "tools": [{"name": "Edit", "input": {"file_path": "README.md"}, "output": "ok"}],
    "files": ["README.md"],
}


def points(cli: Cli, session: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = cli.json("trajectory", session)["points"]
    return found


def test_an_ingested_session_has_a_timeline(cli: Cli, tmp_path: Path) -> None:
    cli.json("ingest", transcript(tmp_path / "s.json", "s1", [FIXED_BUG, CHORE, DOCUMENTED]))

    document = cli.json("trajectory", "s1")

    assert [one["intent"] for one in document["points"]] == ["debugging", None, "documentation"]
    assert [one["state"] for one in document["points"]] == ["on_track", "on_track", "implementing"]
    assert [one["at"][:16] for one in document["points"]] == [
        "2026-01-05T10:00",
        "2026-01-05T10:05",
        "2026-01-05T10:20",
    ]
    assert document["goal"].startswith("The checkout test fails in CI")
    first = document["points"][0]
    assert {"repository.py", "python", "pytest"} <= {one["name"] for one in first["concepts"]}
    assert first["trigger"].startswith("changes were made and the last check passed")


def test_the_timeline_is_readable(cli: Cli, tmp_path: Path) -> None:
    cli.json("ingest", transcript(tmp_path / "s.json", "s1", [FIXED_BUG, CHORE]))

    shown = cli.run("trajectory", "s1")

    assert shown.returncode == 0
    title, *lines = shown.stdout.splitlines()
    assert title.startswith("The checkout test fails")
    assert "2026-01-05 10:00  on_track     debugging" in lines[0]


def test_a_session_that_goes_on_continues_its_path(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    cli.json("ingest", transcript(path, "s1", [FIXED_BUG, CHORE]))
    before = points(cli, "s1")

    cli.json("ingest", transcript(path, "s1", [FIXED_BUG, CHORE, DOCUMENTED]))

    assert points(cli, "s1")[:2] == before
    assert len(points(cli, "s1")) == 3


def test_a_path_made_in_pieces_is_the_path_made_at_once(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    exchanges = [FIXED_BUG, CHORE, DOCUMENTED]
    for end in (1, 2, 3):
        cli.json("ingest", transcript(path, "s1", exchanges[:end]))
    in_pieces = points(cli, "s1")
    with sqlite3.connect(cli.home / "analytics.db") as database:
        database.execute("UPDATE exchanges SET tracked_at = NULL")

    cli.json("ingest", path)

    assert points(cli, "s1") == in_pieces


def test_search_finds_by_the_intent_that_items_and_exchanges_have(cli: Cli, tmp_path: Path) -> None:
    cli.json("ingest", transcript(tmp_path / "s.json", "s1", [FIXED_BUG, DOCUMENTED]))
    ask = ("search", "pool", "--threshold", "0")

    debugged = cli.json(*ask, "--intent", "debugging")["results"]
    documented = cli.json(*ask, "--intent", "documentation")["results"]

    assert {one["type"] for one in debugged} >= {"bug_solution"}
    assert {one["source"][0]["exchange_index"] for one in debugged} == {0}
    assert {one["source"][0]["exchange_index"] for one in documented} == {1}
    assert cli.json(*ask, "--intent", "optimization")["results"] == []


def test_statistics_and_their_filters(cli: Cli, tmp_path: Path) -> None:
    cli.json("ingest", transcript(tmp_path / "a.json", "s1", [FIXED_BUG, CHORE, DOCUMENTED]))
    cli.json("ingest", transcript(tmp_path / "b.json", "s2", [DOCUMENTED], project="web"))

    every = cli.json("trajectory", "--stats")

    assert (every["sessions"], every["exchanges"]) == (2, 4)
    assert every["states"]["on_track"] == {"exchanges": 2, "seconds": 1200.0, "share_of_time": 1.0}
    assert every["intents"] == {"documentation": 2, "debugging": 1, "none": 1}
    assert every["state_transitions"] == [{"from": "on_track", "to": "implementing", "count": 1}]
    assert cli.json("trajectory", "--stats", "--project", "web")["exchanges"] == 1
    assert cli.json("trajectory", "--stats", "--since", "2026-01-05T10:10:00Z")["exchanges"] == 2
    assert "2 sessions, 4 exchanges" in cli.run("trajectory", "--stats").stdout


def test_similar_sessions_come_best_first(cli: Cli, tmp_path: Path) -> None:
    twin = {**FIXED_BUG, "user": "Why do our checkout tests run into `TimeoutError` of the connection pool?"}
    other = {
        "timestamp": "2026-01-06T10:00:00Z",
        "user": "Make the title of the landing page purple",
        "assistant": "It is.",
    }
    for name, exchange in (("s1", FIXED_BUG), ("s2", twin), ("s3", other)):
        cli.json("ingest", transcript(tmp_path / f"{name}.json", name, [exchange]))

    document = cli.json("trajectory", "s1", "--similar")

    assert [one["session"] for one in document["results"]] == ["s2", "s3"]
    assert document["results"][0]["similarity"] > 0.5 > document["results"][1]["similarity"]
    assert document["degraded"] == []
    assert len(cli.json("trajectory", "s1", "--similar", "--limit", "1")["results"]) == 1
    assert "s2" in cli.run("trajectory", "s1", "--similar").stdout


def test_an_unknown_session_is_told(cli: Cli) -> None:
    for more in ((), ("--similar",)):
        done = cli.run("trajectory", "nobody", *more)
        assert done.returncode == 3
        assert "no session is known under nobody" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("s1", "--stats"),
        ("--stats", "--similar"),
        ("s1", "--project", "x"),
        ("s1", "--since", "1d"),
        ("s1", "--limit", "0"),
    ],
    ids=["nothing", "both", "similar-stats", "project", "since", "limit"],
)
def test_contradictions_are_usage_errors(cli: Cli, arguments: tuple[str, ...]) -> None:
    assert cli.run("trajectory", *arguments).returncode == 2


def test_forgetting_takes_the_goal_along(cli: Cli, tmp_path: Path) -> None:
    cli.json("ingest", transcript(tmp_path / "s.json", "s1", [FIXED_BUG, CHORE, DOCUMENTED]))
    first = points(cli, "s1")[0]["exchange_id"]

    assert cli.run("forget", first, "--yes").returncode == 0
    assert points(cli, "s1") == []
    cli.json("ingest", transcript(tmp_path / "t.json", "s9", [CHORE]))

    again = points(cli, "s1")
    assert [one["intent"] for one in again] == [None, "documentation"]
    assert all("checkout" not in one["goal"] for one in again)


def test_a_secret_exchange_leaves_no_words_in_the_path(cli: Cli, tmp_path: Path) -> None:
    hidden = {
        "timestamp": "2026-01-05T09:00:00Z",
        "user": "Add the Initech merger to the forecast",
        "assistant": "Added.",
    }
    (cli.home / "sensitivity-topics.json").write_text(
        '{"topics": [{"name": "merger", "keywords": ["Initech merger"], "level": "secret"}]}', encoding="utf-8"
    )
    ingested = cli.json("ingest", transcript(tmp_path / "s.json", "s1", [hidden]))
    assert ingested["exchanges"]["new"] == 1
    (only,) = points(cli, "s1")
    level = cli.json("show", only["exchange_id"])["sensitivity"]
    assert level in {"confidential", "secret"}
    assert (only["goal"], only["concepts"]) == ("", [])
