"""The table of providers, where keys come from, and what is local."""

from __future__ import annotations

from pathlib import Path

import pytest

from knowledge_system.domain.errors import UsageError
from knowledge_system.inference.prices import PriceBook
from knowledge_system.inference.provider import Provider, ProviderOptions, make_provider
from knowledge_system.inference.vendors import (
    is_cloud_model,
    is_local,
    is_loopback,
    known_model,
    read_key,
    vendor,
    vendors,
    wire_of,
)


def test_the_table_has_the_six_providers() -> None:
    assert set(vendors()) == {"groq", "openrouter", "gemini", "openai", "anthropic", "local"}


@pytest.mark.parametrize("name", ["groq", "openrouter", "gemini", "openai", "anthropic"])
def test_remote_rows_are_complete(name: str) -> None:
    row = vendor(name)
    assert row.base_url.startswith("https://")
    assert row.key_variable == f"{name.upper()}_API_KEY"
    assert row.model in row.contexts
    assert PriceBook().find(row.prices, name, row.model) is not None
    assert not is_local(row.base_url, declared=(row.base_url.split("/")[2],)), "declaring it changes nothing"


def test_unknown_names_are_told_the_known_ones() -> None:
    with pytest.raises(UsageError) as caught:
        vendor("grok")
    assert "groq" in caught.value.hint


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost:11434",
        "http://LOCALHOST./",
        "http://127.0.0.1:8000/v1",
        "http://127.3.2.1",
        "http://[::1]:11434",
        "http://0.0.0.0:11434",
        "http://gpu.localhost:1",
        "http://[::ffff:127.0.0.1]",
    ],
)
def test_this_machine_is_local(url: str) -> None:
    assert is_local(url)


@pytest.mark.parametrize(
    "url",
    [
        "https://ollama.com",
        "https://api.ollama.com/v1",
        "https://api.openai.com/v1",
        "http://8.8.8.8",
        "http://10.1.2.3",
        "http://172.31.0.9",
        "https://192.168.1.5:8443",
        "http://[fd12:3456::1]",
        "http://169.254.169.254",
        "http://[::ffff:8.8.8.8]",
        "http://[2001:db8::1]",
        "http://localhost@evil.example",
        "http://localhost.evil.example",
        "http://127.0.0.1.evil.example",
        "http://2130706433",
        "http://127.1",
        "http://gpu-box:11434",
        "http://[::1",
        "",
        "localhost:11434",
        "http://",
    ],
)
def test_everything_else_is_not(url: str) -> None:
    assert not is_local(url)


def test_a_host_of_the_users_own_is_declared() -> None:
    assert is_local("http://gpu-box:11434", ("GPU-box",))
    assert is_local("http://192.168.1.5:8443", ("192.168.1.5",))
    assert is_local("http://[fd12::1]:11434", ("[fd12::1]",))
    assert not is_local("http://gpu-box.evil.example", ("gpu-box",))
    assert not is_local("https://ollama.com", ("ollama.com",))


@pytest.mark.parametrize("model", ["gpt-oss:120b-cloud", "glm-4.6:cloud", "GPT-OSS:20B-CLOUD", "ollama.com/x/y"])
def test_cloud_models_are_never_local(model: str) -> None:
    assert is_cloud_model(model)
    provider = Provider(vendor("local"), ProviderOptions(model=model))
    assert not provider.local
    assert provider.problem


def test_models_that_run_here_are() -> None:
    assert not any(map(is_cloud_model, ("llama3.2:3b", "cloudy:7b", "qwen3:cloud-tuned", "gpt-oss:20b")))


def test_only_the_local_row_can_be_local() -> None:
    for name in vendors():
        provider = Provider(vendor(name), ProviderOptions(base_url="http://127.0.0.1:1"), key="k")
        assert provider.local == (name == "local")


def test_a_local_provider_elsewhere_is_refused() -> None:
    for url in ("https://ollama.com", "http://example.org:11434", "http://8.8.8.8", "http://192.168.1.5:11434"):
        provider = Provider(vendor("local"), ProviderOptions(base_url=url))
        assert not provider.local
        assert "not local" in provider.problem
    declared = ProviderOptions(base_url="http://gpu-box:11434", local_hosts=("gpu-box",))
    assert Provider(vendor("local"), declared).local


def test_keys_never_travel_in_the_clear() -> None:
    provider = Provider(vendor("groq"), ProviderOptions(base_url="http://api.example.org/v1"), key="k")
    assert "https" in provider.problem
    assert Provider(vendor("groq"), ProviderOptions(base_url="ftp://x"), key="k").problem


def test_loopback_is_not_every_private_address() -> None:
    assert is_loopback("http://127.0.0.1:1")
    assert is_loopback("http://localhost")
    assert not is_loopback("http://10.0.0.1")
    assert not is_loopback("http://localhost.evil.example")


@pytest.mark.parametrize(
    ("name", "url", "wire"),
    [
        ("local", "http://localhost:11434", "ollama"),
        ("local", "http://localhost:8000/v1", "openai"),
        ("local", "http://localhost:8000/v1/", "openai"),
        ("anthropic", "https://api.anthropic.com/v1", "anthropic"),
        ("groq", "https://api.groq.com/openai/v1", "openai"),
    ],
)
def test_the_wire_follows_row_and_url(name: str, url: str, wire: str) -> None:
    assert wire_of(vendor(name), url) == wire


class TestKeys:
    def test_the_environment_comes_first(self, tmp_path: Path) -> None:
        file = tmp_path / "key"
        file.write_text("from-file\n")
        both = {"GROQ_API_KEY": " from-env ", "GROQ_API_KEY_FILE": str(file)}
        assert read_key("GROQ_API_KEY", both) == "from-env"
        assert read_key("GROQ_API_KEY", {"GROQ_API_KEY_FILE": str(file)}) == "from-file"
        assert read_key("GROQ_API_KEY", {"GROQ_API_KEY": ""}) is None
        assert read_key(None, both) is None

    def test_a_file_that_cannot_be_read_is_named_by_its_variable(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="GROQ_API_KEY_FILE") as caught:
            read_key("GROQ_API_KEY", {"GROQ_API_KEY_FILE": str(tmp_path / "missing")})
        assert caught.value.__context__ is None

    @pytest.mark.parametrize("key", ["a\nb", "a\rX-Evil: 1", "ключ", "two words", "a\x00b"])
    def test_what_is_no_header_is_no_key(self, key: str) -> None:
        with pytest.raises(UsageError) as caught:
            read_key("GROQ_API_KEY", {"GROQ_API_KEY": key})
        assert key not in str(caught.value)

    def test_a_provider_never_shows_its_key(self) -> None:
        provider = make_provider("groq", environ={"GROQ_API_KEY": "sk-very-secret"})
        shown = repr(provider) + repr(vars(provider)) + repr(vars(provider._transport).keys())
        assert "sk-very-secret" not in shown

    def test_a_named_variable_replaces_the_tables(self) -> None:
        options = ProviderOptions(key_variable="MY_GROQ")
        assert not make_provider("groq", options, environ={"MY_GROQ": "k"}).problem
        assert "MY_GROQ" in make_provider("groq", options, environ={"GROQ_API_KEY": "k"}).problem


def test_labels_are_bounded() -> None:
    assert known_model("groq", "openai/gpt-oss-20b") == "openai/gpt-oss-20b"
    assert known_model("groq", "jane@example.org") == "other"
    assert known_model("nobody", "x") == "other"
    assert known_model("openai", "text-embedding-3-small") == "text-embedding-3-small"
