"""The layers as the running system has them: in front of every provider, over everything that is learned."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.interfaces.conftest import FIXED_BUG, transcript
from tests.sensitivity.test_layers import FALCON, HALF_FALCON, PLAIN, Plane

from knowledge_system import settings
from knowledge_system.application.compose import Parts
from knowledge_system.application.engine import audit_page, embedding_provider_of, engine_options, provider_of
from knowledge_system.application.options import IngestOptions
from knowledge_system.application.system import KnowledgeSystem
from knowledge_system.domain.errors import ModelUnavailable, UsageError
from knowledge_system.domain.inference import Call, Message, PrivacyRefused
from knowledge_system.domain.search import Scope
from knowledge_system.domain.sensitivity import Sensitivity
from knowledge_system.sensitivity.meanings import meanings_of
from knowledge_system.sensitivity.topics import BUILT_IN
from knowledge_system.testing.embedding import HashingEmbeddingModel
from knowledge_system.testing.scripted_provider import ScriptedProvider, Step

FALCON_TOPIC = {"name": "falcon", "level": "confidential", "description": FALCON}
OFF = [{"name": topic.name, "level": "public", "description": "off"} for topic in meanings_of(BUILT_IN).topics]


@dataclass
class Place:
    """A home between a provider far away and a local model server."""

    home: Path
    far: ScriptedProvider
    near: ScriptedProvider

    def configure(self, *, local: bool = True) -> None:
        groq = {"baseUrl": self.far.openai_url, "model": "m", "price": {"input": 1.0, "output": 2.0}}
        near = {"enabled": local, "endpoint": self.near.ollama_url}
        tree = {"inference": {"providerPriority": ["groq"], "providers": {"groq": groq}, "localModels": near}}
        tree["inference"]["providerPriority"] = ["groq", "local"] if local else ["groq"]
        tree["inference"]["internal"] = "anywhere"  # type: ignore[assignment]
        self.home.mkdir(mode=0o700, exist_ok=True)
        (self.home / "config.json").write_text(json.dumps(tree))
        (self.home / "sensitivity-topics.json").write_text(json.dumps({"topics": [FALCON_TOPIC, *OFF]}))

    @asynccontextmanager
    async def opened(self, model: Any = None) -> AsyncIterator[Parts]:
        loaded = settings.load(self.home, environ={})
        async with Parts(loaded, "test", _model=model or Plane()) as parts:
            yield parts


@pytest.fixture
async def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Place]:
    monkeypatch.setenv("GROQ_API_KEY", "key-of-a-test")
    async with ScriptedProvider(default=Step(text="far")) as far, ScriptedProvider(default=Step(text="near")) as near:
        one = Place(tmp_path / "home", far, near)
        one.configure()
        yield one


def question(text: str) -> Call:
    return Call("summarise", (Message("user", text),), project="shop")


async def test_what_meaning_objects_to_stays_and_what_it_does_not_leaves_with_its_layer(place: Place) -> None:
    async with place.opened() as parts:
        engine = await parts.engine()
        assert (await engine.infer(question(FALCON))).text == "near"
        assert (await engine.infer(question(PLAIN))).text == "far"
        rows = (await audit_page(parts, 10, None))["results"]
    assert [(row["provider"], row["sensitivity"], row["layer"]) for row in rows] == [("groq", "internal", "caller")]
    assert "falcon" not in "".join(one.text for one in place.far.requests)


@pytest.mark.parametrize(("says", "answered"), [(False, "far"), (True, "near")], ids=["harmless", "sensitive"])
async def test_a_local_model_is_asked_about_a_doubt(place: Place, says: bool, answered: str) -> None:  # noqa: FBT001 -- a parameter
    place.near.script(Step(text=json.dumps({"sensitive": says})))
    async with place.opened() as parts:
        reply = await (await parts.engine()).infer(question(HALF_FALCON))
        rows = (await audit_page(parts, 10, None))["results"]
    assert reply.text == answered
    assert HALF_FALCON in place.near.requests[0].text
    assert [row["layer"] for row in rows] == ([] if says else ["local-model"])


async def test_without_a_local_model_a_doubt_is_refused_with_a_hint(place: Place) -> None:
    place.configure(local=False)
    async with place.opened() as parts:
        with pytest.raises(PrivacyRefused, match="similarity-doubt: falcon") as refusal:
            await (await parts.engine()).infer(question(HALF_FALCON))
    assert "local model" in refusal.value.hint
    assert not place.far.requests


async def test_without_weights_nothing_leaves_and_the_hint_names_the_command(place: Place) -> None:
    place.configure(local=False)

    class Missing(Plane):
        async def embed(self, texts: Any) -> Any:
            raise ModelUnavailable(f"{len(texts)} texts and no weights")

    async with place.opened(Missing()) as parts:
        with pytest.raises(PrivacyRefused, match="classifier-failed") as refusal:
            await (await parts.engine()).infer(question(PLAIN))
    assert "knowledge models verify" in refusal.value.hint
    assert not place.far.requests


async def test_wrong_topics_open_no_engine(place: Place) -> None:
    (place.home / "sensitivity-topics.json").write_text('{"topics": [{"name": "x", "level": "top"}]}')
    async with place.opened() as parts:
        with pytest.raises(UsageError, match=r"topics\[0\]"):
            await parts.engine()


async def test_an_exchange_about_a_topic_is_stored_at_its_level_and_so_is_what_is_learned(place: Place) -> None:
    topic = f"{FIXED_BUG['user']} {FIXED_BUG['assistant']}"
    document = {"topics": [{"name": "pool", "level": "confidential", "description": topic}, *OFF]}
    (place.home / "sensitivity-topics.json").write_text(json.dumps(document))
    other = {"user": "rename the button", "assistant": "Renamed the button in the toolbar of the editor."}
    path = transcript(place.home.parent / "t.json", "s1", [FIXED_BUG, other])
    async with place.opened(HashingEmbeddingModel()) as parts:
        system = KnowledgeSystem(parts)
        await system.ingest([path], IngestOptions(), lambda *_: None)
        records = [record async for record in system.export(Scope.ALL)]
    levels = {record["exchange_index"]: record["sensitivity"] for record in records if record["kind"] == "exchange"}
    assert levels == {0: "confidential", 1: "internal"}
    assert [record["sensitivity"] for record in records if record["kind"] == "item"] == ["confidential"]


def tree_of(inference: dict[str, Any], tmp_path: Path) -> Any:
    (tmp_path / "config.json").write_text(json.dumps({"inference": inference}))
    return settings.load(tmp_path, environ={}).tree


async def test_settings_reach_the_engine_and_its_providers(tmp_path: Path) -> None:
    groq = {"model": "m", "contextTokens": 4096, "timeout": 1500, "embeddingModel": "e", "embeddingPrice": 0.5}
    tree = tree_of(
        {
            "internal": "local-only",
            "operations": {"extract": "quality-optimized"},
            "localModels": {"endpoint": "http://gpu-box:11434", "hosts": ["gpu-box"]},
            "providers": {"groq": groq},
        },
        tmp_path,
    )
    options = engine_options(tree)
    assert (options.internal, options.style(Call("extract", ())).name) == ("local-only", "quality-optimized")
    made = [provider_of(tree, "groq"), embedding_provider_of(tree, "groq"), provider_of(tree, "local")]
    chat, embedding, local = made
    assert (chat.context_tokens, chat.timeout_seconds) == (4096, 1.5)
    assert (embedding.model, embedding.price.input if embedding.price else None) == ("e", 0.5)
    assert (local.local, local.problem) == (True, "")
    for provider in made:
        await provider.aclose()


@pytest.mark.parametrize(
    "local",
    [
        {"endpoint": "http://192.168.1.5:11434"},
        {"endpoint": "http://gpu-box:11434"},
        {"defaultModel": "gpt-oss:120b-cloud"},
    ],
    ids=["private-address", "undeclared-name", "cloud-model"],
)
async def test_what_is_called_local_and_is_not_is_asked_by_nobody(tmp_path: Path, local: dict[str, Any]) -> None:
    provider = provider_of(tree_of({"localModels": local}, tmp_path), "local")
    assert not provider.local
    assert "inference.localModels.hosts" in provider.problem
    await provider.aclose()


def test_confidential_is_the_level_of_the_shipped_topics() -> None:
    assert {topic.level for topic in meanings_of(BUILT_IN).topics} == {Sensitivity.CONFIDENTIAL}
