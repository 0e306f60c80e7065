"""Model calls as documents: what was answered, by whom, why, and at what cost."""

from __future__ import annotations

import dataclasses
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from knowledge_system.application.gateway import AUTO
from knowledge_system.domain.errors import WrongDimension
from knowledge_system.domain.inference import NANO

if TYPE_CHECKING:
    from knowledge_system.application.compose import Parts
    from knowledge_system.application.gateway import Gateway
    from knowledge_system.domain.inference import Attempt, EmbedCall, EmbedReply, Reply

Document = dict[str, Any]
LOCAL_DIMENSION = 384


def reply_document(reply: Reply) -> Document:
    """Return an answer; money in US dollars."""
    told = {"text": reply.text, "data": reply.data, "finish": reply.finish, "confidence": reply.confidence}
    return {**told, **_facts(reply), "why": reply.route}


async def embed(parts: Parts, gateway: Gateway, call: EmbedCall, dimension: int | None) -> Document:
    """Return the vectors of texts in the space of `dimension`, by default the configured one.

    384 is computed on this machine for nothing; 1536 is asked of its provider, as `Gateway.embed`.
    """
    wanted = dimension or parts.settings.tree.embeddings.default_dim
    if wanted == LOCAL_DIMENSION:
        model = parts.embedder()
        vectors = await model.embed(call.texts)
        head = {"vectors": [list(vector) for vector in vectors], "dimension": wanted, "space": model.space.key}
        about = {"provider": "local", "model": model.space.model, "usage": None, "cost": 0.0, "cached": False}
        return {**head, **about, "attempts": [], "why": "computed on this machine"}
    reply = await gateway.embed(dataclasses.replace(call, model=AUTO))
    if any(len(vector) != wanted for vector in reply.vectors):
        raise WrongDimension(
            f"{reply.model} answers with {len(reply.vectors[0])} dimensions, not {wanted}",
            hint="choose another embeddings.remote.model, or set embeddings.remote.shorten",
        )
    remote = parts.settings.tree.embeddings.remote
    space = f"{remote.provider}:{remote.model}"
    head = {"vectors": [list(vector) for vector in reply.vectors], "dimension": wanted, "space": space}
    why = "from the cache" if reply.cached else f"the larger space belongs to {reply.provider}"
    return {**head, **_facts(reply), "why": why}


def _facts(reply: Reply | EmbedReply) -> Document:
    usage = reply.usage
    return {
        "provider": reply.provider,
        "model": reply.model,
        "usage": None if usage is None else {k: v for k, v in asdict(usage).items() if k != "cost_nano"},
        "cost": reply.cost_nano / NANO,
        "cached": reply.cached,
        "attempts": [_attempt(one) for one in reply.attempts],
    }


def _attempt(one: Attempt) -> Document:
    told = {key: value for key, value in asdict(one).items() if key != "cost_nano"}
    return {**told, "seconds": round(one.seconds, 6), "cost": one.cost_nano / NANO}
