"""Embeds what the second space lacks: counted first, batch by batch, every batch kept before the next is paid."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from knowledge_system.domain.inference import PrivacyRefused
from knowledge_system.retrieval.second_space import BATCH, PAID

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from typing import TypeAlias

    from knowledge_system.domain.embedding import EmbeddingModel, Passage, Vector
    from knowledge_system.domain.sensitivity import Sensitivity
    from knowledge_system.retrieval.indexing import Document
    from knowledge_system.retrieval.second_space import Admission, SecondSpace

    Work: TypeAlias = list[tuple[Document, list[Passage]]]
    """Documents, each with its passages that have no vector yet."""

BYTES_PER_TOKEN: Final = 3
"""What an estimate divides by: English prose has 4 to 5 bytes a token in today's tokenizers, code and logs about 3."""


class Embedder(Protocol):
    """Gives the model for texts of one project and one level."""

    def __call__(self, project: str, sensitivity: Sensitivity) -> EmbeddingModel:
        """Return the model; its `embed` may refuse (RefusedByPolicy) or not answer (ModelUnavailable)."""
        ...


@dataclass(slots=True)
class Estimate:
    """What a backfill would send. `withheld` counts what may not leave, by level; `covered` what is there already."""

    owners: int = 0
    texts: int = 0
    bytes: int = 0
    covered: int = 0
    levels: Counter[str] = field(default_factory=Counter)
    withheld: Counter[str] = field(default_factory=Counter)

    @property
    def tokens(self) -> int:
        """About how many tokens that is: bytes of UTF-8 through `BYTES_PER_TOKEN`, rounded up for the whole."""
        return -(-self.bytes // BYTES_PER_TOKEN)


@dataclass(slots=True)
class BackfillTally:
    """What a backfill did. `refused` counts texts that the engine judged more sensitive than their owner's level."""

    owners: int = 0
    texts: int = 0
    refused: int = 0


@dataclass(frozen=True, slots=True)
class _Job:
    """Texts of one project and level, by content hash."""

    project: str
    sensitivity: Sensitivity
    texts: Mapping[str, str]


class Backfill:
    """Fills the second space. `batch_size` texts are paid, and kept, at a time."""

    def __init__(self, space: SecondSpace, embedder: Embedder, batch_size: int) -> None:
        self._space = space
        self._truth = space.admission.truth
        self._embedder = embedder
        self._batch_size = batch_size

    async def run(
        self, tally: BackfillTally, limit: int | None = None, progress: Callable[[int], None] | None = None
    ) -> None:
        """Embed at most `limit` owners that lack vectors, in ascending order of ids, and count in `tally`.

        What was paid is stored and indexed, also when this raises: BudgetExhausted and what else the engine refuses,
        ModelUnavailable when nobody answers. Begun again it goes on where it stopped.
        """
        async with self._space.paying:
            held = await self._space.held()
            async for ids in self._space.admission.owners():
                work = await self._lacking(ids)
                chosen = work if limit is None else work[: limit - tally.owners]
                await self._embed(chosen, tally, await self._unindexed(ids, held))
                if progress:
                    progress(len(ids))

    async def waiting(self, tally: BackfillTally) -> None:
        """Embed what waits in the stage `PAID`. Raises as `run`; what is left waits on."""
        async with self._space.paying:
            while entries := await self._truth.outbox.pending(PAID, BATCH):
                ids = [entry.owner_id for entry in entries]
                await self._embed(await self._lacking(ids), tally, ids)
                await self._truth.outbox.advance(entries, None)

    async def _lacking(self, ids: Sequence[str]) -> Work:
        documents = await self._space.admission.documents(ids)
        return [pair for pair in await surveyed(self._space.admission, documents.values()) if pair[1]]

    async def _unindexed(self, ids: Sequence[str], held: set[str]) -> list[str]:
        """Return owners that an earlier run paid for and ended before it could index them."""
        unheld = [one for one in ids if one not in held]
        covered = (await self._truth.vectors.coverage(self._space.admission.space, unheld)).owners
        return [one for one in unheld if one in covered]

    async def _embed(self, work: Work, tally: BackfillTally, also: Sequence[str]) -> None:
        """Embed and store `work`; index it and the owners `also`."""
        owners = [document.owner_id for document, _ in work]
        # References first: a vector that nobody refers to would survive the forgetting of its text.
        await self._truth.vectors.refer({document.owner_id: document.hashes for document, _ in work})
        try:
            for job in _jobs(work):
                await self._pay(job, tally)
        finally:
            if touched := list(dict.fromkeys([*also, *owners])):
                still = await self._space.refresh(touched)
                tally.owners += sum(owner not in still for owner in owners)

    async def _pay(self, job: _Job, tally: BackfillTally) -> None:
        model = self._embedder(job.project, job.sensitivity)
        keys = list(job.texts)
        for start in range(0, len(keys), self._batch_size):
            await self._batch(model, {key: job.texts[key] for key in keys[start : start + self._batch_size]}, tally)

    async def _batch(self, model: EmbeddingModel, texts: Mapping[str, str], tally: BackfillTally) -> None:
        """Embed one batch and keep it. Where one text is too sensitive for all, the others are found by halving."""
        try:
            made = await model.embed(list(texts.values()))
        except PrivacyRefused:
            await self._halved(model, texts, tally)
            return
        vectors: dict[str, Vector] = dict(zip(texts, made, strict=True))
        await self._truth.vectors.put(self._space.admission.space, vectors)
        tally.texts += len(vectors)

    async def _halved(self, model: EmbeddingModel, texts: Mapping[str, str], tally: BackfillTally) -> None:
        keys = list(texts)
        if len(keys) == 1:
            tally.refused += 1
            return
        for half in (keys[: len(keys) // 2], keys[len(keys) // 2 :]):
            await self._batch(model, {key: texts[key] for key in half}, tally)


async def estimate(admission: Admission, limit: int | None = None) -> Estimate:
    """Count what `Backfill.run` would send with the same `limit`; nothing is sent or changed."""
    counted = Estimate()
    seen: set[str] = set()
    async for ids in admission.owners():
        documents = (await admission.documents(ids)).values()
        counted.withheld.update(one.owner.sensitivity.value for one in documents if not admission.admits(one))
        for document, missing in await surveyed(admission, documents):
            if not missing:
                counted.covered += 1
            elif limit is None or counted.owners < limit:
                _count(counted, document, [one for one in missing if one.content_hash not in seen])
                seen.update(one.content_hash for one in missing)
    return counted


async def surveyed(admission: Admission, documents: Iterable[Document]) -> Work:
    """Return the admitted ones among `documents`, each with its passages that have no vector yet, once each."""
    admitted = [one for one in documents if admission.admits(one)]
    known = await admission.known(admitted)
    return [(one, list(_missing(one, known))) for one in admitted]


def _count(counted: Estimate, document: Document, fresh: Iterable[Passage]) -> None:
    counted.owners += 1
    counted.levels[document.owner.sensitivity.value] += 1
    for passage in fresh:
        counted.texts += 1
        counted.bytes += len(passage.text.encode("utf-8", "replace"))


def _missing(document: Document, known: Mapping[str, Vector]) -> Iterator[Passage]:
    seen: set[str] = set()
    for passage in document.passages:
        if passage.content_hash not in known and passage.content_hash not in seen:
            seen.add(passage.content_hash)
            yield passage


def _jobs(work: Work) -> list[_Job]:
    """Group what is to be embedded: a call carries one project and one level.

    A text that several owners have goes once, at the strictest of their levels.
    """
    owners: dict[str, Document] = {}
    texts: dict[str, str] = {}
    for document, missing in work:
        for passage in missing:
            key = passage.content_hash
            texts[key] = passage.text
            if key not in owners or owners[key].owner.sensitivity.rank < document.owner.sensitivity.rank:
                owners[key] = document
    groups: dict[tuple[str, Sensitivity], dict[str, str]] = {}
    for key, document in owners.items():
        groups.setdefault((document.owner.project, document.owner.sensitivity), {})[key] = texts[key]
    return [_Job(project, level, group) for (project, level), group in groups.items()]
