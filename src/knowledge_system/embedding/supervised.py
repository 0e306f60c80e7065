"""The local embedding model in a process of its own under a resident service.

The service keeps its interpreter for everything else while vectors are computed, loads no runtime, and does not end
with one. A process that ends or hangs is replaced when it is needed next; what it had not answered is asked once more.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from knowledge_system.domain.errors import KnowledgeError, ModelUnavailable
from knowledge_system.domain.processes import ProcessStatus
from knowledge_system.embedding.model_wire import Kind, vectors_of
from knowledge_system.embedding.spaces import MAX_TOKENS, PREFIXES, checked_variant, space_of
from knowledge_system.processes.channel import ChildProcess, Program, memory_of
from knowledge_system.processes.wire import Control, Message

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from knowledge_system.domain.embedding import EmbeddingSpace, Vector
    from knowledge_system.embedding.model_wire import Opening

_PROGRAM: Final = Program("knowledge_system.embedding.model_service", "embedding model")
_PIECE: Final = 1_024
"""Texts of one message: as many as are sorted by length together."""
_PIECE_CHARACTERS: Final = 4_000_000
"""Characters of texts in one message, so that neither process holds many at a time."""
_LONGEST_PAUSE: Final = 30.0
_ATTEMPTS: Final = 2
"""Times that a request is made: one of those under way may be why the process ended."""


@dataclass(frozen=True, slots=True)
class ModelSupervision:
    """Deadlines in seconds, and who is told.

    `answer`: a question fails after this, `work`: texts of a batch; it is looked at every quarter of `silence`.
    `silence`: a process that says nothing for so long while an answer is due is killed, `opening`: the same while it
    loads the model. A process that ended twice within `window` is started again after `pause`, then after twice as
    long, and so on; one that could not load the model, after `retry`. Until then whoever asks is told why. `restarted`
    is told the reason of each restart.
    """

    answer: float = 5.0
    silence: float = 15.0
    opening: float = 120.0
    work: float = 600.0
    window: float = 300.0
    pause: float = 0.5
    retry: float = 5.0
    restarted: Callable[[str], None] = lambda _: None


class SupervisedModel:
    """`LocalModel` whose process starts at the first text. Use it from one event loop, and close it."""

    def __init__(self, opening: Opening, supervision: ModelSupervision | None = None) -> None:
        """Raise UsageError for an unknown variant; nothing is started yet."""
        self._opening = opening
        self._space = space_of(checked_variant(opening.variant))
        self._supervision = supervision or ModelSupervision()
        self._process: ChildProcess | None = None
        self._launch: asyncio.Task[ChildProcess] | None = None
        self._deaths: deque[float] = deque()
        self._not_before = 0.0
        self._trouble: KnowledgeError | None = None
        self._failed = False
        self._restarts = 0
        self._closed = False

    @property
    def space(self) -> EmbeddingSpace:
        """The space of the variant; known without loading."""
        return self._space

    @property
    def max_tokens(self) -> int:
        """256: what comes after is ignored."""
        return MAX_TOKENS

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        """Return one unit-length vector of 384 values per text, in order. Raises ModelUnavailable."""
        most = PREFIXES[-1]
        if len(texts) == 1:
            return vectors_of(await self._asked([texts[0][:most]], self._supervision.answer), 1)
        vectors: list[Vector] = []
        for piece in _pieces([text[:most] for text in texts]):
            vectors += vectors_of(await self._asked(piece, self._supervision.work), len(piece))
        return vectors

    async def load(self) -> None:
        """Load now instead of at the first text, whatever was tried before. Raises ModelUnavailable."""
        if self._process is None:
            await self._ready(patient=True)

    async def close(self) -> None:
        """End the process; the model cannot be used afterwards. Calling it twice is fine."""
        self._closed = True
        if self._launch is not None:
            self._launch.cancel()
            await asyncio.wait([self._launch])
        if self._process is not None:
            await self._process.end()

    def process(self) -> ProcessStatus:
        """Return how the process is: cheap, for metrics."""
        process, trouble = self._process, self._trouble
        state = "up" if process is not None else "starting" if self._launch is not None else "idle"
        return ProcessStatus(
            space=self._space.key,
            state="down" if state == "idle" and trouble is not None else state,
            pid=None if process is None else process.pid,
            restarts=self._restarts,
            rss_bytes=None if process is None else memory_of(process.pid),
            reason="" if trouble is None else trouble.message,
        )

    async def _asked(self, texts: list[str], within: float) -> Message:
        """Ask the process, and once more when it ends before it has answered."""
        for attempt in range(1, _ATTEMPTS + 1):
            process = self._process or await self._ready()
            request = process.number()
            try:
                return await process.ask(Message(request, Kind.EMBED, texts), within)
            except asyncio.CancelledError:
                process.send(Message(request, Control.CANCEL))
                raise
            except ModelUnavailable:
                raise
            except KnowledgeError as error:
                if attempt == _ATTEMPTS or not process.ended.done():
                    raise self._unavailable(error) from error
        raise AssertionError

    async def _ready(self, *, patient: bool = False) -> ChildProcess:
        """Return the process, started when there is none; many wait for one start.

        A question does not wait for a model that could not be loaded the time before: it is tried beside it.
        """
        if self._launch is None:
            if self._closed:
                raise _closed()
            early = not patient and asyncio.get_running_loop().time() < self._not_before
            if early and self._trouble is not None:
                raise self._unavailable(self._trouble)
            self._launch = asyncio.get_running_loop().create_task(self._launched())
            self._launch.add_done_callback(self._launched_or_not)
        if self._failed and self._trouble is not None and not patient:
            raise self._unavailable(self._trouble)
        launch = self._launch
        try:
            return await asyncio.shield(launch)
        except asyncio.CancelledError:
            if self._closed and launch.cancelled():  # the start was given up, not whoever waits for it
                raise _closed() from None
            raise

    def _launched_or_not(self, launch: asyncio.Task[ChildProcess]) -> None:
        self._launch = None
        if not launch.cancelled():
            launch.exception()  # whoever waited has it; nobody need have

    async def _launched(self) -> ChildProcess:
        """Start a process and load the model in it. Raises ModelUnavailable."""
        try:
            process = await self._opened()
        except KnowledgeError as error:
            self._trouble, self._failed = error, True
            self._wait(self._supervision.retry)
            raise self._unavailable(error) from error
        self._failed = False
        if self._deaths:
            self._restarts += 1
            self._supervision.restarted("" if self._trouble is None else self._trouble.message)
        else:
            self._trouble = None
        self._process = process
        process.bear(self._supervision.silence)
        process.ended.add_done_callback(lambda _: self._gone(process.ended.result().reason))
        return process

    async def _opened(self) -> ChildProcess:
        process = await ChildProcess.start(_PROGRAM, self._supervision.opening)
        try:
            message = Message(process.number(), Kind.OPEN, self._opening.head())
            await process.ask(message, self._supervision.opening)
        except BaseException:
            await process.end()
            raise
        return process

    def _gone(self, reason: str) -> None:
        """Remember why it ended; a process that keeps ending is started less and less often."""
        self._process = None
        if self._closed:
            return
        now = asyncio.get_running_loop().time()
        self._deaths.append(now)
        while now - self._deaths[0] > self._supervision.window:
            self._deaths.popleft()
        self._trouble = ModelUnavailable(
            f"the process of the embedding model ended: {reason}",
            hint="Try again in a moment: it is started again by itself.",
        )
        again = len(self._deaths) - _ATTEMPTS
        self._wait(min(_LONGEST_PAUSE, self._supervision.pause * 2**again) if again >= 0 else 0.0)

    @staticmethod
    def _unavailable(error: KnowledgeError) -> ModelUnavailable:
        return ModelUnavailable(error.message, hint=error.hint)

    def _wait(self, seconds: float) -> None:
        self._not_before = asyncio.get_running_loop().time() + seconds


def _closed() -> ModelUnavailable:
    return ModelUnavailable("the embedding model is closed", hint="Open it again; nothing is lost.")


def _pieces(texts: Sequence[str]) -> Iterator[list[str]]:
    piece: list[str] = []
    size = 0
    for text in texts:
        piece.append(text)
        size += len(text)
        if size >= _PIECE_CHARACTERS or len(piece) == _PIECE:
            yield piece
            piece, size = [], 0
    if piece:
        yield piece
