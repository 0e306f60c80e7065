from __future__ import annotations

import json
from pathlib import Path

import pytest

from knowledge_system import settings
from knowledge_system.domain.errors import NotFound, UsageError


def load(home: Path, environ: dict[str, str] | None = None, config: Path | None = None) -> settings.Settings:
    return settings.load(home, config, environ or {})


def test_defaults_are_the_contract(tmp_path: Path) -> None:
    tree = load(tmp_path).tree

    assert tree.budget.monthly == 8.33
    assert tree.inference.provider_priority == ("local", "groq", "openrouter")
    assert tree.server.host == "127.0.0.1"
    assert tree.learning.duplicate_at == 0.95


def test_the_file_overrides_defaults_and_the_environment_overrides_the_file(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"budget": {"monthly": 3, "localOnlyAt": 0.95}}')

    tree = load(tmp_path, {"KNOWLEDGE__BUDGET__MONTHLY": "5"}).tree

    assert tree.budget.monthly == 5
    assert tree.budget.local_only_at == 0.95


@pytest.mark.parametrize("spelling", ["LOCALFIRSTAT", "LOCAL_FIRST_AT"])
def test_environment_names_find_camel_case_keys(tmp_path: Path, spelling: str) -> None:
    assert load(tmp_path, {f"KNOWLEDGE__BUDGET__{spelling}": "0.5"}).tree.budget.local_first_at == 0.5


def test_environment_values_are_json_or_text(tmp_path: Path) -> None:
    tree = load(
        tmp_path,
        {
            "KNOWLEDGE__INFERENCE__PROVIDERPRIORITY": '["local"]',
            "KNOWLEDGE__DATABASE__URL": "postgresql://db/knowledge",
        },
    ).tree

    assert tree.inference.provider_priority == ("local",)
    assert tree.database.url == "postgresql://db/knowledge"


def test_an_unknown_key_is_an_error_with_a_suggestion(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"budget": {"mothly": 3}}')

    with pytest.raises(UsageError, match=r"budget\.mothly \(did you mean budget\.monthly\?\)"):
        load(tmp_path)


def test_an_unknown_environment_key_is_an_error_too(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="budget"):
        load(tmp_path, {"KNOWLEDGE__BUDGET__MONTHLI": "5"})


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("{", "not JSON"),
        ("[1]", "JSON object"),
        ('{"budget": {"monthly": -1}}', "budget.monthly"),
        ('{"budget": {"localFirstAt": 0.95, "localOnlyAt": 0.9}}', "localFirstAt"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_a_broken_file_is_one_clear_error(tmp_path: Path, text: str, fault: str) -> None:
    (tmp_path / "config.json").write_text(text)

    with pytest.raises(UsageError, match=fault) as caught:
        load(tmp_path)

    assert caught.value.hint


def test_a_named_file_must_exist_while_the_default_need_not(tmp_path: Path) -> None:
    load(tmp_path)
    with pytest.raises(NotFound):
        load(tmp_path, config=tmp_path / "absent.json")


def test_a_byte_order_mark_is_fine(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(b'\xef\xbb\xbf{"server": {"port": 4000}}')

    assert load(tmp_path).tree.server.port == 4000


def test_get_reads_dotted_keys_and_suggests(tmp_path: Path) -> None:
    tree = load(tmp_path).tree

    assert settings.get(tree, "cache.l1.max") == 1000
    with pytest.raises(UsageError, match=r"did you mean cache\.l1\.max"):
        settings.get(tree, "cache.l1.maks")


def test_the_tree_survives_a_round_trip_through_its_file_form() -> None:
    tree = settings.Configuration()

    assert settings.validate(json.loads(json.dumps(settings.dump(tree))), "test") == tree


def test_the_schema_names_every_section() -> None:
    assert set(settings.schema()["properties"]) == set(settings.dump(settings.Configuration()))


SERVER = "http://qdrant.example:6333"


@pytest.mark.parametrize(
    ("vectors", "problem"),
    [
        ({}, ""),
        ({"backend": "qdrant", "url": SERVER}, ""),
        ({"backend": "qdrant", "url": "https://[::1]:6333/under/a/path/"}, ""),
        ({"backend": "qdrant"}, "backend qdrant needs the url of the server"),
        ({"backend": "edge", "url": SERVER}, "url is for backend qdrant"),
        ({"url": SERVER}, "url is for backend qdrant"),
        ({"shards": {"fix": SERVER}}, "dividing the index among servers is not supported yet"),
        ({"backend": "qdrant", "url": SERVER, "shards": {"fix": SERVER}}, "leave shards unset"),
        ({"backend": "qdrant", "url": "qdrant.example:6333"}, "it must begin with http:// or https://"),
        ({"backend": "qdrant", "url": "ftp://qdrant.example"}, "it must begin with http:// or https://"),
        ({"backend": "qdrant", "url": "http://"}, "name a host"),
        ({"backend": "qdrant", "url": "http://host:0"}, "name a host"),
        ({"backend": "qdrant", "url": "http://host:70000"}, "this is not a URL"),
        ({"backend": "qdrant", "url": "http://host/?api-key=hunter2"}, "and nothing else"),
        ({"backend": "qdrant", "url": "http://ho st"}, "and nothing else"),
        ({"backend": "qdrant", "url": "https://me:hunter2@host"}, "put the key into QDRANT_API_KEY"),
        ({"backend": "qdrant", "url": "https://hunter2@host"}, "put the key into QDRANT_API_KEY"),
        ({"backend": "milvus"}, "vectors.backend"),
    ],
)
def test_a_server_of_the_index_is_named_wholly_or_not_at_all(
    tmp_path: Path, vectors: dict[str, object], problem: str
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"vectors": vectors}))

    if not problem:
        assert load(tmp_path).tree.vectors.backend == vectors.get("backend", "edge")
        return
    with pytest.raises(UsageError) as refused:
        load(tmp_path)
    assert problem in str(refused.value)
    assert "hunter2" not in str(refused.value)
