"""One model of one provider behind the `LanguageModel` port: no retry, no fallback, no cache, one request a call."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from knowledge_system.domain.clock import SystemClock, to_utc
from knowledge_system.domain.errors import UsageError
from knowledge_system.domain.inference import Call, Delta, FailureKind, PriceUnknown
from knowledge_system.inference import failures, vendors
from knowledge_system.inference.prices import FREE, Price, PriceBook, cost_nano, worst_case_nano
from knowledge_system.inference.structured import parsed_json, unsupported, with_data
from knowledge_system.inference.tokens import bounded, output_bound
from knowledge_system.inference.transport import Answer, Transport
from knowledge_system.inference.wire import Outgoing, Target, Wire, as_dict
from knowledge_system.inference.wire_anthropic import AnthropicWire
from knowledge_system.inference.wire_ollama import OllamaWire
from knowledge_system.inference.wire_openai import OpenAIWire

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from knowledge_system.domain.clock import Clock
    from knowledge_system.domain.inference import EmbedCall, EmbedReply, ProviderFailed, Reply, Usage
    from knowledge_system.inference.failures import RateLimits
    from knowledge_system.inference.transport import Streamed
    from knowledge_system.inference.vendors import Vendor

_CHECKED_FOR = 60.0
"""Seconds for which a local server's word that a model runs there is believed."""

_NO_OLLAMA = frozenset({401, 403, 404, 405, 501})
"""Answers to Ollama's question about a model from servers that are not Ollama."""


@dataclass(frozen=True, slots=True)
class ProviderOptions:
    """What a configuration says about one provider; None is the table's value.

    `local_hosts` are host names that the user declares to be their own. `price` and `embedding_price` override the
    price library for the model and the embedding model.
    """

    base_url: str | None = None
    model: str | None = None
    embedding_model: str | None = None
    key_variable: str | None = None
    price: Price | None = None
    embedding_price: Price | None = None
    context_tokens: int | None = None
    timeout_seconds: float | None = None
    local_hosts: tuple[str, ...] = ()


class ModelPricing:
    """What one model of one provider costs, in nano-dollars. None: the price is unknown, so it may not be called."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    def worst_case(self, call: Call | EmbedCall) -> int | None:
        """Return an upper bound for one attempt at `call`."""
        try:
            return self._provider.worst_case_nano(call)
        except PriceUnknown:
            return None

    def cost(self, usage: Usage, model: str = "") -> int | None:
        """Return the cost of `usage`; `model` is the one that answered, and what was reserved for decides the price."""
        del model
        price = self._provider.price
        return None if price is None else cost_nano(usage, price)


class Provider:
    """The `LanguageModel` of one row of the table, one model (or embedding model) and one key.

    `name`, `model`, `local`, `context_tokens`, `price` and `problem` say what it is; `rate_limits` what the last answer
    said is left. It asks its own `model` always: `Call.model` and `Call.provider` choose between providers, before.

    `infer` and `embed` raise ProviderFailed (also when misconfigured: before anything is sent, `started` False) and
    PriceUnknown for a remote model without a price. `stream` yields pieces with `text`, and in `raw` the same piece as
    the OpenAI protocol's `delta` (`content`, `reasoning`, `tool_calls`), for whatever wire it came over; the last delta
    has the reply. Whoever abandons a stream has been handed everything that was produced: `tokens.produced_bytes` of
    the pieces bounds their tokens. A provider may go on producing unseen (or reason unseen), so that figure is a floor;
    the reservation's worst case is the only upper bound. A `Reply` without usage was not measured.
    """

    def __init__(
        self,
        row: Vendor,
        options: ProviderOptions | None = None,
        *,
        key: str | None = None,
        clock: Clock | None = None,
        prices: PriceBook | None = None,
        embeds: bool = False,
    ) -> None:
        chosen = options or ProviderOptions()
        self.row = row
        self.name = row.name
        self.base_url = chosen.base_url or row.base_url
        self.embeds = embeds
        chat_model, embedding_model = chosen.model or row.model, chosen.embedding_model or row.embedding_model
        self.model = (embedding_model or "") if embeds else chat_model
        self.context_tokens = chosen.context_tokens or row.contexts.get(self.model, row.context_tokens)
        self.timeout_seconds = chosen.timeout_seconds or row.timeout_seconds
        self.local = self._runs_here(chosen)
        self.rate_limits: RateLimits | None = None
        self._clock = clock or SystemClock()
        self._prices = prices or PriceBook(clock=self._clock)
        self._price = chosen.embedding_price if embeds else chosen.price
        self._wire = _wire(vendors.wire_of(row, self.base_url), self._clock)
        self._checked: dict[str, float] = {}
        self.problem = self._problem(chosen, key)
        self._transport = Transport(self.name, self.base_url, self._wire.headers(key), direct=row.name == vendors.LOCAL)
        self.pricing = ModelPricing(self)

    @property
    def price(self) -> Price | None:
        """The price of `model`; zero for what is local, None when nobody knows it."""
        if self.local:
            return FREE
        return self._price or self._prices.find(self.row.prices, self.name, self.model)

    def worst_case_nano(self, call: Call | EmbedCall) -> int:
        """Return the most an attempt can cost, in nano-dollars. Raises PriceUnknown."""
        return worst_case_nano(call, self._known_price(), self.context_tokens)

    async def infer(self, call: Call) -> Reply:
        """Answer a call with one request."""
        call = bounded(call)
        target = self._prepared(call)
        outgoing = self._wire.chat(call, target, stream=False)
        await self._check_runs_here(call)
        body = self._body(await self._transport.post(outgoing, self._seconds(call)))
        return self._finished(self._wire.reply(body, call, target), call)

    async def stream(self, call: Call) -> AsyncGenerator[Delta, None]:
        """Answer piece by piece; the last delta carries the reply. Closing the generator closes the request."""
        call = bounded(call)
        target = self._prepared(call)
        outgoing = self._wire.chat(call, target, stream=True)
        await self._check_runs_here(call)
        reader = self._wire.reader(call, target)
        async with self._transport.open(outgoing, self._seconds(call)) as streamed:
            if not _is_success(streamed.status) or _is_whole(streamed):  # an error, or a server that knows no streams
                answer = Answer(streamed.status, streamed.headers, await streamed.read())
                reply = self._finished(self._wire.reply(self._body(answer), call, target), call)
                yield Delta(text=reply.text, raw=dict(reply.message))
                yield Delta(reply=reply)
                return
            self._note(streamed.headers)
            async with aclosing(streamed.events(self._wire.events)) as events:  # type: ignore[type-var]
                async for event in events:
                    for delta in reader.feed(event):
                        yield delta
                    if reader.done:
                        break
                yield Delta(reply=self._finished(reader.reply(), call))
                await streamed.drain()

    async def embed(self, call: EmbedCall) -> EmbedReply:
        """Embed texts with one request; `tokens.embed_batches` splits calls that are too large for one."""
        target = self._prepared(call)
        outgoing = self._wire.embed(call, target)
        await self._check_runs_here(call)
        body = self._body(await self._transport.post(outgoing, self._seconds(call)))
        reply = self._wire.vectors(body, call, target)
        return replace(reply, cost_nano=self._cost(reply.usage))

    async def aclose(self) -> None:
        """Close the pooled connections."""
        await self._transport.aclose()

    def _prepared(self, call: Call | EmbedCall) -> Target:
        """Return the target. Raises before anything is sent when the call cannot be made."""
        if self.problem:
            raise failures.failure(self.name, FailureKind.MISCONFIGURED, self.problem, started=False)
        price = self._known_price()
        output = 0
        if isinstance(call, Call):
            output = output_bound(call)
            foreign = unsupported(call.schema) if call.schema is not None else ""
            if foreign:
                raise self._ours(f"the schema uses {foreign}, which is not checked here")
        self._seconds(call)
        return Target(self.row, self.name, self.model, output, self.context_tokens, price)

    def _seconds(self, call: Call | EmbedCall) -> float:
        """Return how long a request may take from now. Raises when the caller no longer waits: nothing is sent."""
        if call.deadline is None:
            return self.timeout_seconds
        seconds = (to_utc(call.deadline) - self._clock.now()).total_seconds()
        if seconds <= 0:
            raise self._ours("the deadline had passed before the request was sent")
        return seconds

    def _known_price(self) -> Price:
        price = self.price
        if price is None:
            raise PriceUnknown(
                f"nobody knows the price of {self.model} at {self.name}",
                hint=f"set inference.providers.{self.name}.price, in dollars per million tokens",
            )
        return price

    def _ours(self, reason: str) -> ProviderFailed:
        return failures.failure(self.name, FailureKind.BAD_REQUEST, reason, started=False)

    def _runs_here(self, chosen: ProviderOptions) -> bool:
        here = self.row.name == vendors.LOCAL and vendors.is_local(self.base_url, chosen.local_hosts)
        return here and not vendors.is_cloud_model(self.model)

    def _problem(self, chosen: ProviderOptions, key: str | None) -> str:
        """Return why this provider cannot be asked, empty when it can."""
        variable = chosen.key_variable or self.row.key_variable
        if not self.base_url.startswith(("http://", "https://")):
            return "the base URL must begin with https:// or http://"
        if self.row.name == vendors.LOCAL and not self.local:
            return "the local provider's host or model is not local: declare the host in inference.localModels.hosts"
        plain = self.base_url.startswith("http://")
        if plain and self.row.name != vendors.LOCAL and not vendors.is_loopback(self.base_url):
            return "a remote provider is called over https:// only"
        if self.row.key_variable and not key:
            return f"{variable} is not set"
        return "" if self.model else "no embedding model is known for it"

    async def _check_runs_here(self, call: Call | EmbedCall) -> None:
        """Ask a local server whether it runs the model itself: an Ollama name may stand for a model of the cloud."""
        if not self.local or self._checked.get(self.model, 0.0) > self._clock.now().timestamp():
            return
        question = Outgoing("/api/show", {"model": self.model}, root=True)
        answer = await self._transport.post(question, self._seconds(call))
        speaks_ollama = isinstance(self._wire, OllamaWire)
        if not _is_success(answer.status) and (speaks_ollama or answer.status not in _NO_OLLAMA):
            failure = self._status_failure(answer.status, answer.headers, answer.body)
            failure.started = False
            raise failure
        shown = as_dict(parsed_json(answer.body))
        if shown.get("remote_host") or shown.get("remote_model"):
            raise failures.failure(
                self.name, FailureKind.MISCONFIGURED, "the model runs on another host: it is not local", started=False
            )
        self._checked[self.model] = self._clock.now().timestamp() + _CHECKED_FOR

    def _body(self, answer: Answer) -> Mapping[str, Any]:
        self._note(answer.headers)
        if not _is_success(answer.status):
            raise self._status_failure(answer.status, answer.headers, answer.body)
        body = parsed_json(answer.body)
        if isinstance(body, dict):
            return body
        if error := failures.error_object(body):
            raise failures.from_error(self.name, error, self._clock.now())
        raise failures.malformed(self.name, "the answer is no JSON object")

    def _status_failure(self, status: int, headers: Mapping[str, str], body: bytes) -> ProviderFailed:
        if status == 503 and self.row.name == vendors.LOCAL:  # noqa: PLR2004 -- its queue is full or a model loads
            wait = failures.retry_after(headers, self._clock.now())
            return failures.failure(self.name, FailureKind.CAPACITY, retry_after=wait)
        return failures.from_status(self.name, status, headers, body, self._clock.now())

    def _note(self, headers: Mapping[str, str]) -> None:
        limits = failures.rate_limits(headers, self._clock.now())
        if limits != failures.RateLimits():
            self.rate_limits = limits

    def _finished(self, reply: Reply, call: Call) -> Reply:
        return with_data(call, replace(reply, cost_nano=self._cost(reply.usage)))

    def _cost(self, usage: Usage | None) -> int:
        return 0 if usage is None else cost_nano(usage, self._known_price())


def make_provider(
    name: str,
    options: ProviderOptions | None = None,
    *,
    environ: Mapping[str, str],
    clock: Clock | None = None,
    prices: PriceBook | None = None,
    embeds: bool = False,
) -> Provider:
    """Return the provider called `name` with its key from `environ` (or the file its `*_FILE` variable names).

    Raises UsageError for an unknown name or an unreadable key; a missing key is the provider's `problem`, not an error.
    """
    row = vendors.vendor(name)
    chosen = options or ProviderOptions()
    key = vendors.read_key(chosen.key_variable or row.key_variable, environ)
    return Provider(row, chosen, key=key, clock=clock, prices=prices, embeds=embeds)


def _wire(name: str, clock: Clock) -> Wire:
    if name == "anthropic":
        return AnthropicWire(clock)
    if name == "ollama":
        return OllamaWire()
    if name == "openai":
        return OpenAIWire(clock)
    raise UsageError(f"unknown wire format {name}", hint="one of openai, anthropic, ollama")


def _is_whole(streamed: Streamed) -> bool:
    return streamed.headers.get("content-type", "").startswith("application/json")


def _is_success(status: int) -> bool:
    return 200 <= status < 300  # noqa: PLR2004 -- HTTP's range of success
