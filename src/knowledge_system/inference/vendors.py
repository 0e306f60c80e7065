"""The providers as rows of a table (`vendors.json`), where their keys are read, and what counts as local."""

from __future__ import annotations

import ipaddress
import json
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from knowledge_system.domain.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

WireName = Literal["openai", "anthropic", "ollama"]
LOCAL = "local"
"""Name of the only row whose provider may count as local."""

_NEVER_LOCAL = ("ollama.com", "ollama.ai")
"""Hosts that serve models of others, whatever a configuration declares."""


@dataclass(frozen=True, slots=True)
class Vendor:
    """One row: facts about a provider that code must not hold.

    `contexts` gives the context tokens of known models, `context_tokens` of every other (None: unknown). `prices` is
    the provider's name in the price library. `tells_cost`: its usage carries the cost in dollars, which is believed.
    `caps_price`: the request carries our price as a ceiling. `fixed_temperature`: prefixes of models that reject one.
    """

    name: str
    wire: WireName
    base_url: str
    key_variable: str | None
    model: str
    embedding_model: str | None = None
    embedding_encoding: str = "base64"
    contexts: Mapping[str, int] = field(default_factory=dict)
    context_tokens: int | None = None
    prices: str | None = None
    tells_cost: bool = False
    caps_price: bool = False
    max_tokens_field: str = "max_tokens"
    fixed_temperature: tuple[str, ...] = ()
    timeout_seconds: float = 60.0
    body: Mapping[str, Any] = field(default_factory=dict)


@cache
def vendors() -> Mapping[str, Vendor]:
    """Return every row by name."""
    text = resources.files(__package__).joinpath("vendors.json").read_text("utf-8")
    return {name: _vendor(name, row) for name, row in json.loads(text).items()}


def vendor(name: str) -> Vendor:
    """Return the row of a provider. Raises UsageError that names the known ones."""
    row = vendors().get(name)
    if row is None:
        raise UsageError(f"unknown provider {name[:40]!r}", hint=f"known providers: {', '.join(vendors())}")
    return row


def known_model(provider: str, model: str) -> str:
    """Return `model` when the table knows it, else `other`: a bounded value for metric labels."""
    row = vendors().get(provider)
    known = row is not None and (model in row.contexts or model in {row.model, row.embedding_model})
    return model if known else "other"


def read_key(variable: str | None, environ: Mapping[str, str]) -> str | None:
    """Return the key in `variable` or in the file named by `variable`_FILE; None when there is none.

    Raises UsageError when the file cannot be read or the key holds characters that no header may carry.
    """
    if not variable:
        return None
    value = environ.get(variable, "").strip()
    if not value and (named := environ.get(f"{variable}_FILE")):
        value = _key_file(variable, Path(named))
    if not value:
        return None
    if not value.isascii() or not value.isprintable() or " " in value:
        raise UsageError(
            f"{variable} is not a key: it holds spaces, control characters or signs beyond ASCII",
            hint="copy the key again",
        )
    return value


def is_loopback(url: str) -> bool:
    """Tell whether `url` names this machine by `localhost` or a loopback address; nothing is looked up."""
    host = _host(url)
    address = _address(host)
    return address.is_loopback if address else host == "localhost" or host.endswith(".localhost")


def is_local(url: str, declared: tuple[str, ...] = ()) -> bool:
    """Tell whether what is sent to `url` stays with the user: on this machine, or on a `declared` host.

    A private address is no promise: it may be anybody's in the same network. Names are not looked up: what a name
    server says decides nothing about privacy. A provider's own host never counts.
    """
    host = _host(url)
    remote = (*_NEVER_LOCAL, *(_host(row.base_url) for row in vendors().values() if row.name != LOCAL))
    if not host or any(host == name or host.endswith(f".{name}") for name in remote):
        return False
    address = _address(host)
    here = is_loopback(url) or (address is not None and address.is_unspecified)
    return here or host in {name.strip("[].").lower() for name in declared}


def is_cloud_model(model: str) -> bool:
    """Tell whether an Ollama model name (`gpt-oss:120b-cloud`, `glm:cloud`) is run by the vendor, not here."""
    name = model.strip().lower()
    return name.endswith(("-cloud", ":cloud")) or any(name.startswith(f"{host}/") for host in _NEVER_LOCAL)


def wire_of(row: Vendor, base_url: str) -> WireName:
    """Return the wire format: a local server whose URL ends in `/v1` speaks the OpenAI protocol."""
    speaks_openai = row.name == LOCAL and urlsplit(base_url).path.rstrip("/").endswith("/v1")
    return "openai" if speaks_openai else row.wire


def _vendor(name: str, row: dict[str, Any]) -> Vendor:
    values: dict[str, Any] = {
        _snake(key): tuple(value) if isinstance(value, list) else value for key, value in row.items()
    }
    return Vendor(name=name, **values)


def _snake(key: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in key)


def _key_file(variable: str, path: Path) -> str:
    try:
        return path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        problem = UsageError(f"cannot read the file named by {variable}_FILE", hint="check its path and permissions")
    raise problem


def _host(url: str) -> str:
    try:
        return (urlsplit(url).hostname or "").rstrip(".").lower()
    except ValueError:
        return ""


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    return address.ipv4_mapped or address if isinstance(address, ipaddress.IPv6Address) else address
