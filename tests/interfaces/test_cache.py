"""`knowledge cache` as a user types it, alone and beside a running service."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.interfaces.conftest import CHORE, FIXED_BUG, Cli, transcript
from tests.interfaces.test_served import service

QUESTION = "queue pool limit in CI"


@pytest.fixture
def filled(cli: Cli, tmp_path: Path) -> Cli:
    cli.json("ingest", transcript(tmp_path / "s.json", "s1", [FIXED_BUG, CHORE]))
    return cli


def listed(tmp_path: Path, *questions: str) -> Path:
    path = tmp_path / "questions.txt"
    path.write_text("\n\n".join(questions), encoding="utf-8")
    return path


def test_r304_after_warming_a_list_the_first_search_is_a_hit(filled: Cli, tmp_path: Path) -> None:
    before = filled.json("cache", "stats")
    warmed = filled.json("cache", "warm", "--file", listed(tmp_path, f"  {QUESTION} ", "never asked"))
    found = filled.json("search", QUESTION)
    stats = filled.json("cache", "stats", "--days", "1")

    assert (before["requests"], before["hit_rate"], before["kept_questions"]) == (0, None, 0)
    assert (warmed["queries"], warmed["warmed"], warmed["failed"]) == (2, 2, 0)
    assert found["results"]
    assert (stats["hits"], stats["misses"], stats["hit_rate"]) == (1, 0, 1.0)
    assert (stats["results"]["l2"], stats["kept_questions"]) == (1, 2)


def test_warming_from_the_search_log_prepares_what_was_asked_and_is_no_search_itself(filled: Cli) -> None:
    for _ in range(2):
        filled.json("search", QUESTION, "--limit", "3")
    for _ in range(2):
        warmed = filled.json("cache", "warm")
        assert [row["query"] for row in warmed["results"]] == [QUESTION]
    assert warmed["known"] == 1
    assert filled.json("status")["searches"] == 2
    filled.json("search", QUESTION)
    assert filled.json("cache", "stats")["results"]["l2"] == 1


def test_r306_a_warm_question_finds_what_was_learned_after_it(filled: Cli, tmp_path: Path) -> None:
    question = "which port does the mail relay listen on"
    filled.json("cache", "warm", "--file", listed(tmp_path, question))
    before = filled.json("search", question)
    later = {
        **CHORE,
        "user": "On which port does the mail relay listen?",
        "assistant": "The mail relay listens on 2525.",
    }
    path = transcript(tmp_path / "later.json", "s2", [later])
    filled.json("ingest", path)
    after = filled.json("search", question)
    assert str(path) not in {hit["source"][0]["path"] for hit in before["results"]}
    assert after["results"][0]["source"][0]["path"] == str(path)


def test_beside_a_service_it_is_the_service_that_is_warmed(filled: Cli, tmp_path: Path) -> None:
    with service(filled):
        warmed = filled.json("cache", "warm", "--file", listed(tmp_path, QUESTION))
        filled.json("search", QUESTION)
        cleared = filled.json("cache", "clear", "--yes")
    stats = filled.json("cache", "stats")
    assert warmed["warmed"] == 1
    assert stats["results"]["l1"] == 1, "counted by the service, written when it ended"
    assert (cleared["kept_questions"], stats["kept_questions"], stats["generation"]) == (1, 0, 1)


def test_clearing_asks_and_is_audited(filled: Cli, tmp_path: Path) -> None:
    filled.json("cache", "warm", "--file", listed(tmp_path, QUESTION))
    refused = filled.run("cache", "clear")
    assert (refused.returncode, "--yes" in refused.stderr) == (4, True)
    assert filled.json("cache", "stats")["kept_questions"] == 1
    assert filled.json("cache", "clear", "--yes")["kept_questions"] == 1
    assert [row["kind"] for row in filled.json("audit")["results"]] == ["cache-clear"]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("stats", "--days", "0"), 2),
        (("warm", "--limit", "0"), 2),
        (("warm", "--days", "-1"), 2),
        (("warm", "--file", "no-such-file"), 3),
        (("warm", "--file", "."), 2),
        (("warm", "--file", "/dev/null"), 2),
        (("clear",), 4),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else None,
)
def test_bad_input_has_its_exit_code_and_one_line(cli: Cli, arguments: tuple[str, ...], code: int) -> None:
    done = cli.run("cache", *arguments)
    assert done.returncode == code
    assert done.stderr.startswith("knowledge: ")
    assert len(done.stderr.splitlines()) == 1


def test_a_list_that_is_no_text_is_refused(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "picture"
    path.write_bytes(b"\x89PNG\xff\xfe")
    assert cli.run("cache", "warm", "--file", path).returncode == 2
    path.write_text("x" * 4_000_001)
    assert cli.run("cache", "warm", "--file", path).returncode == 2


def test_a_broken_redis_address_is_refused_and_a_dead_redis_is_not(cli: Cli) -> None:
    cli.environ["KNOWLEDGE__CACHE__L2__URL"] = "http://localhost"
    assert cli.run("cache", "stats").returncode == 2
    cli.environ["KNOWLEDGE__CACHE__L2__URL"] = "redis://127.0.0.1:1/0"
    assert cli.json("cache", "stats")["l2"]["state"] == "down"
    assert cli.json("cache", "clear", "--yes")["l2"] == {
        "state": "down",
        "entries": None,
        "private": False,
        "ttl_ms": 86_400_000,
    }


def test_people_read_lines(filled: Cli, tmp_path: Path) -> None:
    mail = "who is jo.smith@example-corp.com?"
    warmed = filled.run("cache", "warm", "--file", listed(tmp_path, QUESTION, mail)).stdout
    stats = filled.run("cache", "stats").stdout
    cleared = filled.run("cache", "clear", "--yes").stdout
    assert "warmed" in warmed
    assert "2 questions (file): 1 prepared" in warmed
    assert "jo.smith" not in warmed
    assert "0 requests, no requests that can be cached" in stats
    assert "questions prepared: 1" in stats
    assert "1 prepared questions" in cleared
