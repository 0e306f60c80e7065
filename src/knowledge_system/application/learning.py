"""Who teaches: the extractor alone, or a model beside it where the settings, a key and the budget allow one.

A model is used by itself (`learning.withModel` is `auto`) only when the user has done something for it: set the key of
a provider that may be asked, or configured a local server that answers. So nothing leaves a machine without a key, and
nobody waits for a server that is not there: it is knocked at once, shortly, and its breaker remembers.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from knowledge_system.domain.errors import KnowledgeError
from knowledge_system.domain.events import ModelTaught
from knowledge_system.domain.inference import NANO, BreakerOpen
from knowledge_system.extraction.model_use import ModelTally, ModelUse

if TYPE_CHECKING:
    from datetime import datetime

    from knowledge_system.application.compose import Parts
    from knowledge_system.domain.events import Emit
    from knowledge_system.domain.knowledge import Extractor
    from knowledge_system.extraction.learning import LearningTally
    from knowledge_system.extraction.model_duplicates import DuplicateJudge
    from knowledge_system.settings import Configuration

LOCAL = "local"
KNOCK_SECONDS = 0.25
"""How long a local server may take to accept a connection. One that is not there refuses in less than a millisecond."""
REMEMBERED = timedelta(seconds=60)
"""How long a resident process believes that a model can, or cannot, be used."""


@dataclass(frozen=True, slots=True)
class Teachers:
    """What learning works with. `duplicates` is None, and the tally stays empty but for its reason, without a model."""

    extractor: Extractor
    duplicates: DuplicateJudge | None
    tally: ModelTally

    def tell(self, emit: Emit) -> None:
        """Announce what asking a model came to; a run that was to do without one has nothing to tell."""
        tally = self.tally
        if tally.calls or tally.unasked:
            emit(
                ModelTaught(
                    calls=tally.calls,
                    answered=tally.answered,
                    cost_nano=tally.cost_nano,
                    kept=tally.kept,
                    dismissed=tally.dismissed,
                    disbelieved=sum(tally.disbelieved.values()),
                    unasked=sum(tally.unasked.values()),
                    reasons=", ".join(sorted(tally.unasked)),
                )
            )


class Teaching:
    """Finds the teachers of one running system, run by run; remembers how the model fared."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._use: ModelUse | None = None
        self._why = ""
        self._until: datetime | None = None

    async def begin(self, backlog: int) -> Teachers:
        """Return the teachers of one run over `backlog` exchanges. Never raises for a model that cannot be used."""
        tally = ModelTally(why=await self._obstacle(backlog))
        if not tally.why:
            try:
                return await self._with_model(tally)
            except KnowledgeError as error:
                tally.why = error.message
        return Teachers(self._parts.extractor(), None, tally)

    async def _with_model(self, tally: ModelTally) -> Teachers:
        from knowledge_system.extraction.model_duplicates import DuplicateJudge, DuplicateOptions
        from knowledge_system.extraction.plausible import PlausibleExtractor
        from knowledge_system.extraction.with_model import ModelExtractor, ModelOptions

        chosen = self._parts.settings.tree.learning.model
        if self._use is None:
            self._use = ModelUse(await self._parts.engine(), self._parts.clock, chosen.deadline / 1000)
        self._use.tally = tally
        options = ModelOptions(
            lowest=chosen.plausible_from,
            surest=chosen.sure_above,
            exchanges_per_call=chosen.exchanges_per_call,
            bytes_per_exchange=chosen.bytes_per_exchange,
            bytes_per_call=chosen.exchanges_per_call * chosen.bytes_per_exchange,
            parallel=chosen.parallel,
            scrub=self._parts.gatekeeper().scrub,
            classifier=self._parts.layers(),
        )
        extractor = ModelExtractor(PlausibleExtractor(), self._use, options)
        duplicates = DuplicateJudge(self._use, DuplicateOptions(lowest=chosen.doubtful_from))
        return Teachers(extractor, duplicates, tally)

    async def _obstacle(self, backlog: int) -> str:
        """Return why no model is used, empty when one is."""
        tree, now = self._parts.settings.tree, self._parts.clock.now()
        if tree.learning.with_model == "never":
            return "learning.withModel is never"
        if not backlog:
            return "nothing to learn from"
        if self._until is None or now >= self._until:
            self._until = now + REMEMBERED
            try:
                self._why = await _nobody(self._parts)
            except KnowledgeError as error:
                self._why = error.message
        return self._why


async def _nobody(parts: Parts) -> str:
    """Return why nobody can be asked, name by name, empty when somebody can. Cheap as long as no key is set."""
    tree = parts.settings.tree
    reasons = []
    for name in _listed(tree):
        reason = await _local_problem(parts) if name == LOCAL else _remote_problem(tree, name)
        if not reason:
            return ""
        reasons.append(f"{name}: {reason}")
    return f"no model can be used: {'; '.join(reasons) or 'no provider is configured'}"


def _listed(tree: Configuration) -> list[str]:
    """Return the providers that may be asked about `extract`, in order: a priority is also a permission."""
    from knowledge_system.extraction.with_model import OPERATION
    from knowledge_system.inference.styles import chosen, styles
    from knowledge_system.inference.vendors import vendors

    inference = tree.inference
    active = inference.active_strategy if "active_strategy" in inference.model_fields_set else None
    strategy = inference.operations.get(OPERATION) or active
    order = chosen(styles(inference.strategies), strategy).priority if strategy else inference.provider_priority
    return [name for name in order if name in vendors()]


def _remote_problem(tree: Configuration, name: str) -> str:
    from knowledge_system.inference.vendors import read_key, vendor

    if tree.inference.offline_mode:
        return "inference.offlineMode is on"
    configured = tree.inference.providers.get(name)
    variable = (configured.api_key_env if configured else None) or vendor(name).key_variable
    if not read_key(variable, os.environ):
        return f"{variable} is not set"
    from knowledge_system.application.engine import provider_of

    return provider_of(tree, name).problem


async def _local_problem(parts: Parts) -> str:
    """Return why the local server is not used: by itself only one that the user configured and that is there."""
    tree = parts.settings.tree
    inference = tree.inference
    if not inference.local_models.enabled:
        return "inference.localModels.enabled is false"
    always = tree.learning.with_model == "always"
    if not always and "local_models" not in inference.model_fields_set and LOCAL not in inference.providers:
        return "not configured (inference.localModels)"
    from knowledge_system.application.engine import breaker_rule, engine_state, provider_of

    provider = provider_of(tree, LOCAL)
    if provider.problem or always:
        return provider.problem
    breakers, rule = (await engine_state(parts)).breakers, breaker_rule(tree, LOCAL)
    try:
        permit = await breakers.admit(LOCAL, rule)
    except BreakerOpen as error:
        return error.message
    reason = "" if await answers(provider.base_url) else f"no server at {provider.base_url}"
    if reason:
        await breakers.failed(permit, rule, reason)
    else:
        await breakers.returned(permit)
    return reason


async def answers(url: str, within: float = KNOCK_SECONDS) -> bool:
    """Tell whether somebody accepts connections at `url`; nothing is sent."""
    parts = urlsplit(url)
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
        async with asyncio.timeout(within):
            _, writer = await asyncio.open_connection(parts.hostname, port)
    except (OSError, ValueError):
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True


def model_document(mode: str, learned: LearningTally) -> dict[str, Any]:
    """Return the `model` of `ingest --json`: what asking one came to, money in dollars, and why it was not asked."""
    tally = learned.model or ModelTally(why="nothing was learned")
    return {
        "mode": mode,
        "used": tally.answered > 0,
        "why": tally.why,
        "calls": tally.calls,
        "answered": tally.answered,
        "cost": tally.cost_nano / NANO,
        "exchanges": {
            "asked": tally.asked,
            "kept": tally.kept,
            "dismissed": tally.dismissed,
            "disbelieved": sum(tally.disbelieved.values()),
            "reused": tally.reused,
        },
        "pairs": {"asked": tally.pairs, **dict(sorted(tally.decided.items()))},
        "disbelieved": [{"reason": reason, "count": count} for reason, count in tally.disbelieved.most_common()],
        "fallbacks": [
            {"reason": reason, "count": count, "detail": tally.details.get(reason, "")}
            for reason, count in tally.unasked.most_common()
        ],
    }
