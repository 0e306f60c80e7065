"""What a configuration names exists, or it is told where it stands and what was meant (D39)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from knowledge_system import settings
from knowledge_system.application import configuration
from knowledge_system.application.compose import Parts
from knowledge_system.application.engine import provider_status
from knowledge_system.application.provider_names import check_names
from knowledge_system.domain.errors import UsageError


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        (
            {"inference": {"providerPriority": ["local", "grok"]}},
            "inference.providerPriority: 'grok' (did you mean groq?)",
        ),
        ({"inference": {"providers": {"mistral": {}}}}, "inference.providers: 'mistral'"),
        ({"circuitBreaker": {"openia": {}}}, "circuitBreaker: 'openia' (did you mean openai?)"),
        ({"inference": {"strategies": {"mine": {"priority": ["x"]}}}}, "inference.strategies.mine.priority: 'x'"),
        ({"embeddings": {"remote": {"provider": "cohere"}}}, "embeddings.remote.provider: 'cohere'"),
        ({"inference": {"activeStrategy": "cheapest"}}, "unknown strategy cheapest"),
        ({"inference": {"operations": {"extract": "quality"}}}, "unknown strategy quality"),
    ],
    ids=["priority", "providers", "breaker", "strategy", "embeddings", "active", "operation"],
)
async def test_a_name_that_means_nothing_is_an_error_at_every_door(tmp_path: Path, tree: Any, said: str) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps(tree))
    loaded = settings.load(tmp_path, environ={})
    with pytest.raises(UsageError) as caught:
        configuration.validate(file)
    assert said in caught.value.message
    assert caught.value.hint
    async with Parts(loaded, "test") as parts:
        for door in (parts.engine(), provider_status(parts)):
            with pytest.raises(UsageError):
                await door


def test_a_change_to_an_unknown_name_is_not_written(tmp_path: Path) -> None:
    loaded = settings.load(tmp_path, environ={})
    with pytest.raises(UsageError, match="grok"):
        configuration.change(loaded, "inference.providerPriority", '["grok"]')
    assert not (tmp_path / "config.json").exists()


def test_the_defaults_and_the_strategies_of_the_guide_name_only_what_exists(tmp_path: Path) -> None:
    check_names(settings.load(tmp_path, environ={}).tree)
    own = {"mine": {"priority": ["anthropic", "openrouter"]}}
    tree = {"inference": {"strategies": own, "operations": {"extract": "mine"}}, "circuitBreaker": {"groq": {}}}
    check_names(settings.validate(tree, "test"))
