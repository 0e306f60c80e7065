"""The local embedding model: where it computes, and what is told of the process that it has under a service."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from knowledge_system.domain.events import ModelProcessRestarted
from knowledge_system.embedding.spaces import DEFAULT_VARIANT
from knowledge_system.operations.diagnosis import Finding

if TYPE_CHECKING:
    from knowledge_system.application.compose import Parts
    from knowledge_system.domain.embedding import LocalModel

Document = dict[str, Any]


def make_model(parts: Parts) -> LocalModel:
    """Return the local model, which is loaded with the first text and closed with these parts.

    By default it has a process of its own in a resident service, and none in a command.
    """
    chosen = parts.settings.tree.embeddings
    variant = chosen.variant or DEFAULT_VARIANT
    if chosen.process == "child" or (chosen.process == "auto" and parts.resident):
        from knowledge_system.embedding.model_wire import Opening
        from knowledge_system.embedding.supervised import ModelSupervision, SupervisedModel

        supervision = ModelSupervision(restarted=lambda reason: parts.emit(ModelProcessRestarted(reason)))
        opening = Opening(parts.home().models, variant, chosen.threads or None, chosen.batch_size)
        parts.model_process = SupervisedModel(opening, supervision)
        parts.at_close(parts.model_process.close)
        return parts.model_process
    from knowledge_system.embedding.local import open_local_model

    model = open_local_model(parts.home().models, variant, chosen.threads or None, batch_size=chosen.batch_size)

    async def close() -> None:
        model.close()

    parts.at_close(close)
    return model


def document(parts: Parts) -> Document | None:
    """Return state, pid, restarts, memory and last trouble of the process; None where there is none. Cheap."""
    return None if parts.model_process is None else asdict(parts.model_process.process())


def told(parts: Parts) -> Document:
    """Return all that a service has outside itself, as `status` tells it: what holds the indexes, and this process."""
    from knowledge_system.application.index_process import holders

    return {**holders(parts), "embedding_process": document(parts)}


def findings(parts: Parts) -> list[Finding]:
    """Return how the process is, for `doctor`; nothing where there is none."""
    one = document(parts)
    if one is None:
        return []
    memory = "" if one["rss_bytes"] is None else f", {one['rss_bytes'] // 1_000_000} MB"
    facts = f"process {one['pid']} is {one['state']}{memory}" if one["pid"] else f"no process, {one['state']}"
    if not one["reason"]:
        return [Finding("embedding_process", "ok", facts)]
    told = f"{facts}, started again {one['restarts']} times; the last trouble: {one['reason']}"
    hint = "searches go on by words until it is back; a crash that repeats is worth a report"
    return [Finding("embedding_process", "warning", told, hint)]
