"""What tokens cost: prices in dollars per million tokens, costs in whole nano-dollars, rounded up."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import ROUND_CEILING, Decimal
from typing import TYPE_CHECKING, Any

from knowledge_system.domain.clock import SystemClock
from knowledge_system.domain.inference import EmbedCall, PriceUnknown
from knowledge_system.inference.tokens import input_bound, output_bound

if TYPE_CHECKING:
    from collections.abc import Mapping

    from knowledge_system.domain.clock import Clock
    from knowledge_system.domain.inference import Call, Usage

_NANO_PER_TOKEN = Decimal(1000)
"""A dollar per million tokens is 1,000 nano-dollars per token."""

_WRITE = Decimal("1.25")
_WRITE_HOUR = Decimal(2)
"""Cache writes cost 1.25 times the input price for five minutes and twice for an hour (Anthropic's published factors,
the highest in the field); used when a price does not name its own."""


@dataclass(frozen=True, slots=True)
class Price:
    """Dollars per million tokens. A cache price that is None follows from `input`; `output` None: embeddings only.

    `tiers` are the whole prices that apply above a number of input tokens, in rising order.
    """

    input: Decimal
    output: Decimal | None = None
    cache_read: Decimal | None = None
    cache_write: Decimal | None = None
    cache_write_hour: Decimal | None = None
    per_request: Decimal = Decimal(0)
    tiers: tuple[tuple[int, Price], ...] = ()

    def at(self, tokens: int) -> Price:
        """Return the price that applies to a request with this many input tokens."""
        return next((price for start, price in reversed(self.tiers) if tokens > start), self)


FREE = Price(Decimal(0), Decimal(0))
"""Of what runs on the user's own machine: stated, not the absence of a price."""


def price(input_price: float | str | Decimal, output_price: float | str | Decimal | None = None) -> Price:
    """Return a price from dollars per million tokens, as configured."""
    output = None if output_price is None else Decimal(str(output_price))
    return Price(Decimal(str(input_price)), output)


def cost_nano(usage: Usage, rate: Price) -> int:
    """Return what `usage` costs in nano-dollars. The provider's own figure is believed, zero included."""
    if usage.cost_nano is not None:
        return usage.cost_nano
    read, write = usage.cache_read, usage.cache_write
    rate = rate.at(usage.input + read + write + usage.cache_write_hour)
    return _nano(
        usage.input * rate.input
        + usage.output * (rate.output or 0)
        + read * (rate.input if rate.cache_read is None else rate.cache_read)
        + write * (rate.input * _WRITE if rate.cache_write is None else rate.cache_write)
        + usage.cache_write_hour
        * (rate.input * _WRITE_HOUR if rate.cache_write_hour is None else rate.cache_write_hour),
        rate,
    )


def worst_case_nano(call: Call | EmbedCall, rate: Price, context: int | None = None) -> int:
    """Return the most an attempt at `call` can cost in nano-dollars: the amount to reserve.

    Raises PriceUnknown when no bound exists: no output price, or content whose size is not in the request.
    """
    if rate == FREE:
        return 0
    tokens = input_bound(call, context)
    if tokens is None:
        raise PriceUnknown("the cost of this call cannot be bounded", hint="send text, or configure the context size")
    if isinstance(call, EmbedCall):
        return max(_nano(tokens * one.input, one) for one in _candidates(rate, tokens))
    if rate.output is None:
        raise PriceUnknown("the model has no output price", hint="configure inference.providers.<name>.price")
    explicit = "cache_control" in repr((call.messages, call.parameters))
    costs = (
        _nano(tokens * _input_rate(one, explicit=explicit) + output_bound(call) * (one.output or 0), one)
        for one in _candidates(rate, tokens)
    )
    return max(costs)


class PriceBook:
    """Prices by provider and model: overrides first, then the price library as of today.

    The library (`genai-prices`) is imported at the first question it has to answer, not before; it reads no network.
    """

    def __init__(self, overrides: Mapping[tuple[str, str], Price] | None = None, clock: Clock | None = None) -> None:
        self._overrides = dict(overrides or {})
        self._clock = clock or SystemClock()
        self._known: dict[tuple[str, str, str], Price | None] = {}

    def find(self, library_name: str | None, provider: str, model: str) -> Price | None:
        """Return the price of a model, None when nobody knows it. `library_name` None: not in the library."""
        if (provider, model) in self._overrides:
            return self._overrides[provider, model]
        if library_name is None:
            return None
        now = self._clock.now()
        key = (library_name, model, now.strftime("%Y-%m-%dT%H"))  # some prices depend on the hour
        if key not in self._known:
            if len(self._known) >= 256:  # noqa: PLR2004 -- names come from callers: bounded
                self._known.clear()
            self._known[key] = self._look_up(library_name, model)
        return self._known[key]

    def _look_up(self, library_name: str, model: str) -> Price | None:
        from genai_prices.data_snapshot import get_snapshot  # noqa: PLC0415 -- 0.2 s that most commands never need

        try:
            _, found = get_snapshot().find_provider_model(model, None, library_name, None)
        except LookupError:
            return None
        return _from_library(found.get_prices(self._clock.now()))


def _candidates(rate: Price, tokens: int) -> list[Price]:
    """Return the prices that could apply to at most `tokens` input tokens."""
    return [rate, *(tier for start, tier in rate.tiers if tokens > start)]


def _input_rate(rate: Price, *, explicit: bool) -> Decimal:
    """Return the dearest way one input token can be billed; `explicit`: the call asks for cache writes itself."""
    rates = [rate.input, rate.cache_write or Decimal(0)]
    if explicit:
        rates += [rate.input * _WRITE, rate.input * _WRITE_HOUR, rate.cache_write_hour or Decimal(0)]
    return max(rates)


def _nano(dollars_per_million: Decimal, rate: Price) -> int:
    amount = dollars_per_million * _NANO_PER_TOKEN + rate.per_request * 1_000_000_000
    return int(amount.to_integral_value(rounding=ROUND_CEILING))


_FIELDS = {
    "input": "input_mtok",
    "output": "output_mtok",
    "cache_read": "cache_read_mtok",
    "cache_write": "cache_write_mtok",
    "cache_write_hour": "cache_write_1h_mtok",
}


def _from_library(found: Any) -> Price | None:
    values = {name: getattr(found, key) for name, key in _FIELDS.items()}
    reasoning = found.output_reasoning_mtok
    if values["input"] is None:
        return None
    per_request = (found.requests_kcount or Decimal(0)) / 1000
    starts = sorted({tier.start for value in values.values() for tier in getattr(value, "tiers", ())})
    base = replace(_price_at(values, 0, reasoning), per_request=per_request)
    return replace(
        base,
        tiers=tuple((s, replace(_price_at(values, s + 1, reasoning), per_request=per_request)) for s in starts),
    )


def _price_at(values: Mapping[str, Any], tokens: int, reasoning: Any) -> Price:
    flat: dict[str, Any] = {name: _flat(value, tokens) for name, value in values.items()}
    if flat["output"] is not None and reasoning is not None:
        flat["output"] = max(flat["output"], _flat(reasoning, tokens) or Decimal(0))  # billed as output: the dearer one
    return Price(input=flat.pop("input") or Decimal(0), **flat)


def _flat(value: Any, tokens: int) -> Decimal | None:
    if value is None or isinstance(value, Decimal):
        return value
    applying = [tier.price for tier in value.tiers if tokens > tier.start]
    return Decimal(applying[-1] if applying else value.base)
