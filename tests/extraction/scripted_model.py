"""A language model that answers by a script, for the tests of whoever asks one."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from knowledge_system.domain.errors import KnowledgeError
from knowledge_system.domain.inference import (
    BudgetExhausted,
    Call,
    Delta,
    EmbedCall,
    EmbedReply,
    FailureKind,
    NoProvider,
    PrivacyRefused,
    ProviderFailed,
    Reply,
)

Script = Callable[[int, Call], Mapping[str, Any] | KnowledgeError | str]


class ScriptedModel:
    """Answers by a script and keeps what it was asked."""

    def __init__(self, script: Script, **reply: Any) -> None:
        self.calls: list[Call] = []
        self._script = script
        self._reply = {"provider": "scripted", "model": "m-1", "cost_nano": 7, **reply}

    async def infer(self, call: Call) -> Reply:
        self.calls.append(call)
        said = self._script(len(self.calls), call)
        if isinstance(said, KnowledgeError):
            raise said
        return Reply(text=said if isinstance(said, str) else json.dumps(said), **self._reply)

    async def stream(self, call: Call) -> AsyncIterator[Delta]:
        yield Delta(reply=await self.infer(call))

    async def embed(self, call: EmbedCall) -> EmbedReply:
        raise BudgetExhausted(call.operation)


def asked(call: Call) -> str:
    return str(call.messages[-1].content)


REFUSALS = [
    BudgetExhausted("the month is spent"),
    PrivacyRefused("no local model"),
    NoProvider("none left"),
    ProviderFailed("timeout", kind=FailureKind.TIMEOUT, provider="scripted"),
    KnowledgeError("anything else"),
]
