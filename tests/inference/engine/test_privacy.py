"""Who may see what. T38 is the property that everything else serves."""

from __future__ import annotations

import asyncio
import hashlib
import json
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.inference.engine.actors import (
    FakeModel,
    FlatPrice,
    Scene,
    answer,
    ask,
    failed,
    hang,
    local,
    remote,
    scene,
    until,
)

from knowledge_system.domain.errors import DependencyUnavailable, KnowledgeError
from knowledge_system.domain.inference import EmbedCall, FailureKind, Message, NoProvider, PrivacyRefused
from knowledge_system.domain.sensitivity import Layer, Sensitivity, Verdict
from knowledge_system.inference.canonical import leaving
from knowledge_system.inference.options import EngineOptions
from knowledge_system.inference.privacy import visible
from knowledge_system.inference.styles import styles

SENSITIVE = [Sensitivity.CONFIDENTIAL, Sensitivity.SECRET]


class FixedClassifier:
    """Says `level` by patterns and `meaning` by meaning; notes what it was shown, and what it was asked to examine."""

    def __init__(
        self, level: Any = Sensitivity.PUBLIC, error: BaseException | None = None, meaning: Any = None
    ) -> None:
        self.level = level
        self.error = error
        self.meaning = meaning or Verdict(Sensitivity.PUBLIC, Layer.SIMILARITY)
        self.seen: list[list[str]] = []
        self.examined: list[list[str]] = []

    async def classify(self, texts: Any, operation: Any) -> Any:
        del operation
        self.seen.append(list(texts))
        if self.error is not None:
            raise self.error
        return Verdict(self.level, "pattern")

    async def examine(self, texts: Any, operation: Any) -> Any:
        del operation
        self.examined.append(list(texts))
        if isinstance(self.meaning, BaseException):
            raise self.meaning
        return self.meaning


async def test_secret_content_reaches_no_model_at_all() -> None:
    groq, mine = FakeModel("groq"), FakeModel("local")
    with pytest.raises(PrivacyRefused) as refusal:
        await scene(remote(groq), local(mine)).engine.infer(ask(sensitivity=Sensitivity.SECRET))
    assert refusal.value.exit_code == 4
    assert not groq.seen + mine.seen


async def test_confidential_content_goes_to_local_models_and_to_no_other() -> None:
    groq, mine = FakeModel("groq"), FakeModel("local", failed(FailureKind.CONNECTION))
    stage = scene(remote(groq), local(mine))
    with pytest.raises(NoProvider):
        await stage.engine.infer(ask(sensitivity=Sensitivity.CONFIDENTIAL))
    assert (len(mine.seen), groq.seen) == (3, [])


@pytest.mark.parametrize("fields", [{}, {"provider": "groq"}, {"model": "groq-model"}])
async def test_without_a_local_model_confidential_content_is_refused(fields: dict[str, Any]) -> None:
    groq = FakeModel("groq")
    with pytest.raises(PrivacyRefused, match="confidential"):
        await scene(remote(groq)).engine.infer(ask(sensitivity=Sensitivity.CONFIDENTIAL, **fields))
    assert not groq.seen


@pytest.mark.parametrize("level", ["top-secret", "", None, 7, "PUBLIC"])
async def test_a_level_that_does_not_exist_counts_as_confidential(level: Any) -> None:
    groq, mine = FakeModel("groq"), FakeModel("local")
    reply = await scene(remote(groq), local(mine)).engine.infer(ask(sensitivity=level))
    assert (reply.provider, groq.seen) == ("local", [])
    assert mine.seen[0].sensitivity is Sensitivity.CONFIDENTIAL


@pytest.mark.parametrize("declared", list(Sensitivity))
@pytest.mark.parametrize("found", list(Sensitivity))
async def test_the_stricter_of_caller_and_classifier_decides(declared: Sensitivity, found: Sensitivity) -> None:
    groq, mine = FakeModel("groq"), FakeModel("local")
    stage = scene(remote(groq), local(mine), classifier=FixedClassifier(found))
    results = await asyncio.gather(stage.engine.infer(ask(sensitivity=declared)), return_exceptions=True)
    level = max(declared, found, key=lambda one: one.rank)
    asked = "groq" if level is Sensitivity.PUBLIC else "local"
    assert isinstance(results[0], PrivacyRefused) if level is Sensitivity.SECRET else results[0].provider == asked


@pytest.mark.parametrize("error", [DependencyUnavailable("gone"), TimeoutError(), OSError(), ValueError()])
async def test_a_classifier_that_fails_makes_content_confidential(error: Any) -> None:
    groq, mine = FakeModel("groq"), FakeModel("local")
    stage = scene(remote(groq), local(mine), classifier=FixedClassifier(error=error))
    assert (await stage.engine.infer(ask())).provider == "local"
    assert mine.seen[0].layer == "classifier-failed"


async def test_a_classifier_with_a_bug_lets_nothing_out() -> None:
    groq = FakeModel("groq")
    stage = scene(remote(groq), classifier=FixedClassifier(error=RuntimeError("bug")))
    with pytest.raises(RuntimeError):
        await stage.engine.infer(ask())
    assert not groq.seen


async def test_a_classifier_that_hangs_makes_content_confidential() -> None:
    class Hanging(FixedClassifier):
        async def examine(self, *_: Any) -> None:
            await asyncio.Event().wait()

    groq, mine = FakeModel("groq"), FakeModel("local")
    stage = scene(remote(groq), local(mine), classifier=Hanging(), options=EngineOptions(classify_within=0.01))
    assert (await stage.engine.infer(ask())).provider == "local"


async def test_the_classifier_reads_everything_a_provider_would_see() -> None:
    judge = FixedClassifier()
    stage = scene(remote(FakeModel("groq")), classifier=judge)
    call = replace(
        ask(),
        messages=(
            Message("system", "S1"),
            Message("user", ({"type": "text", "text": "P2"}, {"type": "image_url", "image_url": {"url": "U3"}})),
            Message("assistant", "", {"tool_calls": [{"function": {"name": "F4", "arguments": "A5"}}]}),
        ),
        parameters={"tools": [{"function": {"description": "D6"}}], "user": "N7"},
        schema={"description": "J8"},
    )
    await stage.engine.infer(call)
    assert {"S1", "P2", "U3", "F4", "A5", "D6", "N7", "J8"} <= set(judge.seen[0])


async def test_the_classifiers_own_operation_is_never_classified_and_always_local() -> None:
    groq, mine, judge = FakeModel("groq"), FakeModel("local"), FixedClassifier()
    stage = scene(remote(groq), local(mine), classifier=judge)
    assert (await stage.engine.infer(ask(operation="classify-sensitivity"))).provider == "local"
    assert judge.seen == []


PUBLIC, INTERNAL, CONFIDENTIAL, SECRET = Sensitivity


@pytest.mark.parametrize(
    ("meaning", "level", "layer"),
    [
        (Verdict(PUBLIC, Layer.SIMILARITY), INTERNAL, "caller"),
        (Verdict(CONFIDENTIAL, Layer.SIMILARITY), CONFIDENTIAL, "similarity"),
        (Verdict(CONFIDENTIAL, Layer.SIMILARITY_DOUBT), CONFIDENTIAL, "similarity-doubt"),
        (Verdict(PUBLIC, Layer.LOCAL_MODEL), INTERNAL, "local-model"),
        (DependencyUnavailable("no weights"), CONFIDENTIAL, "classifier-failed"),
        (RecursionError(), CONFIDENTIAL, "classifier-failed"),
    ],
    ids=["nothing", "near", "doubt", "cleared", "failed", "too-deep"],
)
async def test_meaning_decides_what_may_leave_and_the_deciding_layer_is_known(
    meaning: Any, level: Sensitivity, layer: str
) -> None:
    groq, mine = FakeModel("groq"), FakeModel("local")
    options = EngineOptions(internal="anywhere", priority=("groq", "local"))
    stage = scene(remote(groq), local(mine), classifier=FixedClassifier(meaning=meaning), options=options)
    await stage.engine.infer(ask(sensitivity=INTERNAL))
    leaves = level is INTERNAL
    (call,) = groq.seen if leaves else mine.seen
    assert (call.sensitivity, call.layer) == (level, layer)
    assert [row.layer for row in stage.audit.rows] == ([layer] if leaves else [])


async def test_meaning_may_say_that_no_model_sees_it() -> None:
    judge = FixedClassifier(meaning=Verdict(SECRET, Layer.SIMILARITY, "falcon"))
    mine = FakeModel("local")
    with pytest.raises(PrivacyRefused, match="similarity: falcon"):
        await scene(remote(FakeModel("groq")), local(mine), classifier=judge).engine.infer(ask())
    assert not mine.seen


@pytest.mark.parametrize(
    ("fields", "options"),
    [
        ({"sensitivity": CONFIDENTIAL}, {}),
        ({"provider": "local"}, {}),
        ({"sensitivity": INTERNAL}, {"internal": "local-only"}),
        ({}, {"priority": ("local",)}),
        ({}, {"offline": True}),
    ],
    ids=["confidential", "names-local", "local-only", "no-priority", "offline"],
)
async def test_meaning_is_not_asked_where_nothing_could_leave(fields: dict[str, Any], options: dict[str, Any]) -> None:
    judge = FixedClassifier(meaning=RuntimeError("nobody should ask"))
    chosen = EngineOptions(**{"priority": ("local", "groq"), **options})
    stage = scene(remote(FakeModel("groq")), local(FakeModel("local")), classifier=judge, options=chosen)
    assert (await stage.engine.infer(ask(**fields))).provider == "local"
    assert (len(judge.seen), judge.examined) == (1, [])


async def test_meaning_is_not_asked_for_the_sake_of_a_provider_that_cannot_be_asked() -> None:
    judge = FixedClassifier()
    stage = scene(remote(FakeModel("groq"), unavailable="no key"), local(FakeModel("local")), classifier=judge)
    await stage.engine.infer(ask())
    assert not judge.examined


IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 5000}}


@pytest.mark.parametrize(
    ("declared", "provider"), [(PUBLIC, "groq"), (INTERNAL, "local"), (CONFIDENTIAL, "local")], ids=str
)
async def test_what_no_layer_can_read_stays_here_unless_it_is_public(declared: Sensitivity, provider: str) -> None:
    judge = FixedClassifier()
    options = EngineOptions(internal="anywhere", priority=("groq", "local"))
    stage = scene(remote(FakeModel("groq")), local(FakeModel("local")), classifier=judge, options=options)
    message = Message("user", ({"type": "text", "text": "what is this?"}, IMAGE))
    reply = await stage.engine.infer(replace(ask(sensitivity=declared), messages=(message,)))
    assert reply.provider == provider
    assert max(map(len, judge.seen[0])) < 5000


async def test_the_refusal_of_an_image_says_what_to_do() -> None:
    stage = scene(remote(FakeModel("groq")), classifier=FixedClassifier())
    call = replace(ask(sensitivity=INTERNAL), messages=(Message("user", (IMAGE,)),))
    with pytest.raises(PrivacyRefused, match="unreadable") as refusal:
        await stage.engine.infer(call)
    assert "public" in refusal.value.hint


class Frozen(Mapping[str, Any]):
    """A mapping that is no dict: it is sent like one."""

    def __init__(self, values: dict[str, Any]) -> None:
        self._values = values

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


LEAF = st.text(min_size=1, max_size=12)
TREE = st.recursive(
    LEAF,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(LEAF, inner, max_size=3)
        | st.dictionaries(LEAF, inner, max_size=3).map(Frozen)
    ),
    max_leaves=10,
)


def leaves(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        return [text for key, inner in value.items() for text in (key, *leaves(inner))]
    return [text for inner in value for text in leaves(inner)]


@given(
    parts=st.lists(st.dictionaries(LEAF, TREE, max_size=3), max_size=3),
    extra=st.dictionaries(LEAF, TREE, max_size=3),
    parameters=st.dictionaries(LEAF, TREE, max_size=3),
    schema=st.none() | st.dictionaries(LEAF, TREE, max_size=3),
    words=LEAF,
)
def test_the_layers_are_shown_every_text_that_a_provider_would_see(
    parts: list[Any], extra: Any, parameters: Any, schema: Any, words: str
) -> None:
    messages = (Message("user", words, extra), Message("user", tuple(parts)))
    call = replace(ask(), messages=messages, parameters=parameters, schema=schema)
    sent = [words, *(leaves([parts, extra, parameters, schema or {}]))]
    assert set(sent) <= set(visible(call))
    for value in (*parts, extra, parameters, schema):
        if value and not value.keys() <= {"type", "text"}:
            assert json.dumps(value, default=dict, ensure_ascii=False) in visible(call)


async def test_every_remote_attempt_is_audited_without_content() -> None:
    groq, openai = FakeModel("groq", failed(FailureKind.SERVER)), FakeModel("openai")
    stage = scene(remote(groq), remote(openai), local(FakeModel("local")), classifier=FixedClassifier())
    call = ask("the very words", project="api")
    await stage.engine.infer(call)
    await stage.engine.infer(ask("the very words", provider="local"))
    first, second = stage.audit.rows
    assert (first.provider, first.outcome, first.cost_nano) == ("groq", "server", 100)
    assert (second.provider, second.model, second.outcome, second.cost_nano) == (
        "openai",
        "openai-model",
        "answered",
        10,
    )
    assert (second.kind, second.operation, second.project) == ("model-call", "extract", "api")
    assert (second.sensitivity, second.layer) == (Sensitivity.PUBLIC, "caller")
    assert second.content_hash == hashlib.sha256(leaving(call).encode()).hexdigest()
    assert "the very words" not in repr(stage.audit.rows)


async def test_what_was_not_sent_is_not_audited() -> None:
    stage = scene(remote(FakeModel("groq")), limit=1, tiers=(1.0, 1.0))
    with pytest.raises(KnowledgeError):
        await stage.engine.infer(ask())
    assert not stage.audit.rows


async def test_a_cancelled_remote_attempt_is_audited_with_what_it_may_have_cost() -> None:
    groq = FakeModel("groq", hang)
    stage = scene(remote(groq))
    task = asyncio.create_task(stage.engine.infer(ask()))
    await until(lambda: groq.seen)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await stage.engine.close()
    assert [(row.outcome, row.cost_nano) for row in stage.audit.rows] == [("cancelled", 100)]


async def test_embeddings_pass_the_same_gate() -> None:
    far, near = FakeModel("openai"), FakeModel("local")
    stage = scene(remote(far, embeds=True, model="m"), local(near, embeds=True, model="m"))
    call = EmbedCall("embed-item", ("text",), sensitivity=Sensitivity.CONFIDENTIAL)
    assert (await stage.engine.embed(call)).vectors == (array("f", [4.0, 1.0]),)
    for fields in ({"sensitivity": Sensitivity.SECRET}, {"provider": "openai"}):
        with pytest.raises(PrivacyRefused):
            await stage.engine.embed(replace(call, **fields))
    assert not far.seen


STEP = st.sampled_from(
    [
        answer(),
        answer("cut", finish="length"),
        answer("unsure", confidence=0.1),
        failed(FailureKind.SERVER),
        failed(FailureKind.MALFORMED),
        failed(FailureKind.RATE_LIMITED, after=1, started=False),
        failed(FailureKind.MISCONFIGURED),
        failed(FailureKind.CONNECTION, started=False),
        hang,
    ]
)
PROVIDER = st.tuples(
    st.sampled_from(["local", "groq", "openai", "anthropic", "gemini"]),
    st.booleans(),
    st.lists(STEP, min_size=1, max_size=3),
    st.sampled_from([0, 100, None]),
    st.sampled_from(["", "no key"]),
)
CALL = st.tuples(
    st.sampled_from(list(Sensitivity)),
    st.sampled_from(["infer", "stream", "embed"]),
    st.sampled_from([None, "cost-optimized", "latency-optimized", "quality-optimized"]),
    st.sampled_from([None, "local", "groq", "openai"]),
    st.booleans(),
    st.integers(0, 2),
)


def staged(providers: list, options: EngineOptions, limit: int, judge: Any) -> tuple[Scene, list]:
    """Return a scene with a chat and an embedding model for each drawn provider, and the models."""
    candidates, models = [], []
    for number, (name, is_local, script, price, unavailable) in enumerate(providers):
        model = FakeModel(name, *script)
        models.append((model, is_local))
        fields = {"model": f"m{number}", "unavailable": unavailable, "timeout": 0.002}
        for embeds in (False, True):
            own = {**fields, "embeds": embeds}
            candidates.append(local(model, **own) if is_local else remote(model, price=FlatPrice(price), **own))
    return scene(*candidates, options=options, limit=limit, classifier=judge), models


async def run(stage: Scene, number: int, one: tuple) -> None:
    """Make one drawn call whose words say its level."""
    level, verb, style, provider, schema, temperature = one
    words = f"{level.value} content"
    if verb == "embed":
        await stage.engine.embed(EmbedCall("embed-item", (words,), sensitivity=level, provider=provider))
        return
    call = ask(
        words,
        sensitivity=level,
        strategy=style,
        provider=provider,
        schema={} if schema else None,
        temperature=temperature,
        idempotency_key=str(number) if number % 2 else None,
    )
    if verb == "infer":
        await stage.engine.infer(call)
    else:
        async for _ in stage.engine.stream(call):
            pass


def leaks(call: Any, *, is_local: bool, judged_private: bool, internal: str) -> bool:
    """Tell whether a model saw what it must not see."""
    seen = leaving(call)
    if call.sensitivity is Sensitivity.SECRET or "secret content" in seen:
        return True
    if is_local:
        return False
    if call.sensitivity not in {Sensitivity.PUBLIC, Sensitivity.INTERNAL} or "confidential content" in seen:
        return True
    return judged_private or (call.sensitivity is Sensitivity.INTERNAL and internal not in {"local-first", "anywhere"})


@settings(max_examples=150, deadline=None)
@given(
    providers=st.lists(PROVIDER, min_size=1, max_size=5),
    calls=st.lists(CALL, min_size=1, max_size=8),
    limit=st.sampled_from([0, 150, 10_000]),
    internal=st.sampled_from(["local-first", "local-only", "anywhere", "typo"]),
    frozen=st.booleans(),
    found=st.sampled_from([None, *Sensitivity, DependencyUnavailable("classifier is gone")]),
)
async def test_t38_sensitive_content_only_ever_reaches_local_models(
    *, providers: list, calls: list, limit: int, internal: str, frozen: bool, found: Any
) -> None:
    """Random providers, budgets, breakers, retries, hedges, votes, caches: what each provider saw is what is judged."""
    judge = None
    if found is not None:
        judge = FixedClassifier(error=found) if isinstance(found, Exception) else FixedClassifier(found)
    options = EngineOptions(
        internal=internal,
        retries=1,
        strategies=styles({"latency-optimized": {"hedgeAfter": 0}}),
        priority=("groq", "openai", "local", "anthropic", "gemini"),
    )
    stage, models = staged(providers, options, limit, judge)
    if frozen:
        await stage.ledger.change("freeze")
    results = await asyncio.gather(
        *(run(stage, number, one) for number, one in enumerate(calls)), return_exceptions=True
    )
    await stage.engine.close()
    assert all(result is None or isinstance(result, KnowledgeError) for result in results)
    private = found not in {None, Sensitivity.PUBLIC, Sensitivity.INTERNAL}
    for model, is_local in models:
        for call in model.seen:
            assert not leaks(call, is_local=is_local, judged_private=private, internal=internal)
    assert all(row.sensitivity.rank <= Sensitivity.INTERNAL.rank for row in stage.audit.rows)
