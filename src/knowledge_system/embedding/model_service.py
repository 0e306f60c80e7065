"""The process that computes the embeddings of a resident service.

Started as `python -P -m knowledge_system.embedding.model_service DESCRIPTOR PARENT`; the first message loads the model.
A question is answered on the event loop, as the only thing that waits for it is the next question; everything else has
threads.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from knowledge_system.domain.errors import KnowledgeError, ModelUnavailable
from knowledge_system.embedding.local import open_local_model
from knowledge_system.embedding.model_wire import Kind, Opening, vectors_message
from knowledge_system.processes.service import Service, run
from knowledge_system.processes.wire import Control, Message, error_message

if TYPE_CHECKING:
    from knowledge_system.embedding.local import LocalEmbeddingModel


class ModelService(Service):
    """Answers what is asked of one model."""

    def __init__(self) -> None:
        super().__init__()
        self._model: LocalEmbeddingModel | None = None

    def receive(self, message: Message) -> None:
        """Answer a question at once, begin anything else."""
        answer = self._at_once(self._model, message)
        if answer is None:
            super().receive(message)
        else:
            self.send(answer)

    async def answer(self, message: Message) -> Message:
        """Do what is asked. Raises what `LocalEmbeddingModel` raises."""
        if message.kind == Kind.OPEN:
            opening = Opening.of(message.head)
            self._model = open_local_model(
                opening.models, opening.variant, opening.threads, batch_size=opening.batch_size
            )
            await self._model.load()
            return Message(message.request, Control.ANSWER)
        if self._model is None:
            raise ModelUnavailable("the embedding model is not open", hint="Open it first.")
        if message.kind == Kind.EMBED:
            return vectors_message(message.request, await self._model.embed(message.head))
        raise KnowledgeError(f"{message.kind} is no request", hint="Report it.")

    def _at_once(self, model: LocalEmbeddingModel | None, message: Message) -> Message | None:
        """Return the answer to one short text, None for what takes longer."""
        if model is None or message.kind != Kind.EMBED or len(message.head) != 1:
            return None
        try:
            vector = model.at_once(message.head[0])
        except KnowledgeError as error:
            return error_message(message.request, error)
        return None if vector is None else vectors_message(message.request, [vector])


if __name__ == "__main__":
    run(ModelService, sys.argv[1:])
