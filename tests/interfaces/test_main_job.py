"""From sessions to answers, through the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from tests.interfaces.conftest import CHORE, FIXED_BUG, ROOT, Cli, transcript

RESULT_FIELDS = {
    "id", "kind", "type", "title", "content", "score", "similarity", "confidence", "freshness", "project", "session_id",
    "created_at", "sensitivity", "superseded_by", "why", "source",
}  # fmt: skip


def test_a_fixed_bug_is_learned_and_found_and_the_chore_is_not(cli: Cli, tmp_path: Path) -> None:
    path = transcript(tmp_path / "s.json", "s1", [FIXED_BUG, CHORE])

    done = cli.json("ingest", path)

    assert done["sessions"] == {"found": 1, "ingested": 1, "unchanged": 0, "failed": 0}
    assert done["exchanges"]["new"] == 2
    assert done["items"]["created"] == 1
    assert done["items"]["rejected"] == 1
    answer = cli.json("search", "connection pool exhausted in tests", "--scope", "items")
    (hit,) = answer["results"]
    assert set(hit) >= RESULT_FIELDS
    assert hit["type"] == "bug_solution"
    assert "close" in hit["content"]
    assert hit["source"] == [{"path": str(path), "session_id": "s1", "exchange_index": 0}]
    assert hit["why"]
    assert hit["created_at"] == "2026-01-05T10:00:00Z"


def test_ingesting_twice_changes_nothing(cli: Cli, tmp_path: Path) -> None:
    path = transcript(tmp_path / "s.json", "s1", [FIXED_BUG, CHORE])
    cli.json("ingest", path)
    before = cli.run("export").stdout

    again = cli.json("ingest", path)

    assert again["sessions"]["ingested"] == 0
    assert again["sessions"]["unchanged"] == 1
    assert again["exchanges"]["new"] == 0
    assert again["items"]["created"] == 0
    assert cli.run("export").stdout == before


def test_a_copy_under_another_name_is_known(cli: Cli, tmp_path: Path) -> None:
    transcript(tmp_path / "a" / "s.json", "s1", [FIXED_BUG, CHORE])
    transcript(tmp_path / "b" / "renamed.json", "s1", [FIXED_BUG, CHORE])

    done = cli.json("ingest", tmp_path / "a", tmp_path / "b")

    assert done["exchanges"] == {"new": 2, "known": 2, "updated": 0}


def test_a_session_that_grows_is_continued(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    cli.json("ingest", transcript(path, "s1", [FIXED_BUG]))

    done = cli.json("ingest", transcript(path, "s1", [FIXED_BUG, CHORE]))

    assert done["exchanges"]["new"] == 1
    assert len(cli.lines("export", "--scope", "exchanges")) == 3, "a session record and two exchanges"


def test_a_correction_that_comes_later_takes_the_item_back(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    cli.json("ingest", transcript(path, "s1", [FIXED_BUG]))
    assert len(cli.json("list")["results"]) == 1
    correction = {
        "timestamp": "2026-01-05T11:00:00Z",
        "user": "No, that is wrong, it still fails with the same TimeoutError: QueuePool limit. Revert it.",
        "assistant": "Reverted the change in `orders/repository.py`.",
    }

    cli.json("ingest", transcript(path, "s1", [FIXED_BUG, correction]))

    assert cli.json("list")["results"] == []


def test_exchanges_are_found_by_rare_words_and_by_meaning(cli: Cli, tmp_path: Path) -> None:
    cli.json("ingest", transcript(tmp_path / "s.json", "s1", [FIXED_BUG, CHORE]))

    by_word = cli.json("search", "QueuePool", "--scope", "exchanges")["results"]
    by_meaning = cli.json("search", "database handles are not given back", "--scope", "exchanges", "--threshold", "0")

    assert by_word[0]["source"][0]["exchange_index"] == 0
    assert by_word[0]["type"] is None
    assert by_meaning["results"][0]["source"][0]["exchange_index"] == 0


def test_filters_and_as_of(cli: Cli, tmp_path: Path) -> None:
    old = {**FIXED_BUG, "timestamp": "2025-11-05T10:00:00Z"}
    cli.json("ingest", transcript(tmp_path / "a.json", "s1", [FIXED_BUG]))
    cli.json("ingest", transcript(tmp_path / "b.json", "s2", [old], project="legacy"))
    ask = ("search", "leaked pooled connection", "--scope", "items", "--threshold", "0")

    def projects(*options: str) -> set[str]:
        return {hit["project"] for hit in cli.json(*ask, *options)["results"]}

    assert projects() == {"shop", "legacy"}
    assert projects("--project", "legacy") == {"legacy"}
    assert projects("--since", "2026-01-01") == {"shop"}
    assert projects("--as-of", "2025-12-01") == {"legacy"}
    assert projects("--type", "bug_solution") == {"shop", "legacy"}
    assert projects("--type", "deployment_approach") == set()
    assert len(cli.json(*ask, "--limit", "1")["results"]) == 1


def test_a_batch_answers_every_line_in_order(cli: Cli, tmp_path: Path) -> None:
    cli.json("ingest", transcript(tmp_path / "s.json", "s1", [FIXED_BUG, CHORE]))
    lines = [{"query": "connection pool", "scope": "exchanges", "limit": 1}, {"query": "commit", "scope": "exchanges"}]
    batch = tmp_path / "queries.jsonl"
    batch.write_text("".join(json.dumps(line) + "\n" for line in lines))

    from_file = cli.lines("search", "--batch", batch)
    from_stdin = cli.lines("search", "--batch", "-", stdin=batch.read_text())

    assert [answer["query"] for answer in from_file] == ["connection pool", "commit"]
    assert len(from_file[0]["results"]) == 1
    strip = [[hit["id"] for hit in answer["results"]] for answer in from_file]
    assert strip == [[hit["id"] for hit in answer["results"]] for answer in from_stdin]


def test_secrets_never_reach_the_disk(cli: Cli, tmp_path: Path) -> None:
    secret = "ghp_" + "a1B2c3D4e5F6" * 3
    leaky = {
        **FIXED_BUG,
        "user": f"Push fails, I use GITHUB_TOKEN={secret}",
        "tools": [
            {"name": "Bash", "input": {"command": f"git push https://{secret}@github.com/a/b"}, "output": secret}
        ],
    }
    path = transcript(tmp_path / "in" / "s.json", "s1", [leaky])

    done = cli.json("ingest", path)

    assert done["sensitivity"]["redactions"] >= 3
    for file in cli.home.rglob("*"):
        if file.is_file() and "models" not in file.parts:
            assert secret.encode() not in file.read_bytes(), file
    (exchange,) = [one for one in cli.lines("export", "--scope", "exchanges") if one["kind"] == "exchange"]
    assert exchange["user"].count("[secret:") == 1
    assert exchange["sensitivity"] in {"confidential", "secret"}


def test_forgotten_means_gone_for_good(cli: Cli, tmp_path: Path) -> None:
    path = transcript(tmp_path / "s.json", "s1", [FIXED_BUG, CHORE])
    cli.json("ingest", path)
    (item,) = cli.json("list")["results"]
    exchange = cli.json("list", "--kind", "exchanges", "--session", "s1")["results"][-1]

    assert cli.run("forget", exchange["id"]).returncode == 4
    assert cli.json("forget", exchange["id"], "--yes")["forgotten"] >= 1
    transcript(path, "s1", [FIXED_BUG, CHORE, {"user": "bye", "assistant": "bye"}])
    cli.json("ingest", path)

    assert cli.run("show", item["id"]).returncode == 3
    assert cli.run("show", exchange["id"]).returncode == 3
    assert cli.json("search", "QueuePool limit", "--threshold", "0", "--scope", "items")["results"] == []
    assert b"OrderRepository" not in (cli.home / "analytics.db").read_bytes()


def test_export_and_import_are_lossless(cli: Cli, tmp_path: Path, models: Path) -> None:
    cli.json("ingest", ROOT / "examples")
    exported = cli.run("export").stdout
    file = tmp_path / "export.jsonl"
    file.write_text(exported)
    other = Cli(tmp_path / "other")
    other.home.mkdir(mode=0o700)
    (other.home / "models").symlink_to(models, target_is_directory=True)

    first, second = other.json("import", file), other.json("import", file)

    assert first["new"] == len(exported.splitlines())
    assert second == {"new": 0, "known": first["new"], "redactions": 0}
    assert sorted(other.run("export").stdout.splitlines()) == sorted(exported.splitlines())
    question = ("search", "why did the test fail", "--limit", "3")
    assert [hit["id"] for hit in other.json(*question)["results"]] == [
        hit["id"] for hit in cli.json(*question)["results"]
    ]


def test_status_doctor_and_index_agree(cli: Cli) -> None:
    cli.json("ingest", ROOT / "examples")

    status = cli.json("status")
    index = cli.json("index", "status")

    assert status["exchanges"] > 5
    assert status["backlog"] == {"learning": 0, "words": 0, "vectors": 0, "embedded_share": 1.0}
    assert index["healthy"]
    assert index["points"] >= status["exchanges"]
    assert cli.json("doctor")["healthy"]
    assert cli.json("index", "verify")["missing"] == 0
    before = [hit["id"] for hit in cli.json("search", "test fails")["results"]]
    assert cli.json("index", "rebuild")["points"] == index["points"]
    assert [hit["id"] for hit in cli.json("search", "test fails")["results"]] == before


def test_a_deleted_index_comes_back_from_the_truth(cli: Cli) -> None:
    cli.json("ingest", ROOT / "examples")
    before = [hit["id"] for hit in cli.json("search", "test fails")["results"]]
    shutil.rmtree(cli.home / "index")

    assert [hit["id"] for hit in cli.json("search", "test fails")["results"]] == before


def test_supersede_puts_the_new_item_first(cli: Cli, tmp_path: Path) -> None:
    other = {
        **FIXED_BUG,
        "user": "Why does the invoice PDF show the wrong total when `VAT` changes?",
        "assistant": "The root cause is that `InvoiceTotal` caches the rate per process. I removed the cache in "
        "`billing/total.py` and read the rate from the order, so a change applies at once. 88 passed.",
    }
    cli.json("ingest", transcript(tmp_path / "a.json", "s1", [FIXED_BUG]))
    cli.json("ingest", transcript(tmp_path / "b.json", "s2", [other]))
    items = {item["source"][0]["session_id"]: item["id"] for item in cli.json("list")["results"]}

    cli.json("supersede", items["s1"], items["s2"])

    found = [
        hit["id"]
        for hit in cli.json("search", "pooled connection leak", "--scope", "items", "--threshold", "0")["results"]
    ]
    assert items["s1"] not in found
    shown = cli.json("show", items["s1"])
    assert shown["superseded_by"] == items["s2"]
    assert cli.run("supersede", items["s2"], items["s1"]).returncode == 2, "a circle"
    assert cli.run("supersede", "k0", items["s1"]).returncode == 3
