"""The path layer: files that hold credentials are known by their names, whatever is in them.

========================================================================================  ============
`~/.ssh/*` and `id_*` private keys, `*.p12 *.pfx *.jks *.keystore *.kdbx *.ppk *.key`,     secret
`~/.gnupg`, `/etc/shadow`, `master.key`, vault password files
`.env .env.* *.pem .netrc .pgpass .my.cnf .npmrc .pypirc .git-credentials .htpasswd`,      confidential
`~/.aws ~/.azure ~/.kube ~/.docker/config.json`, gcloud credentials, `kubeconfig`,
`secrets.y*ml`, `credentials*`, `service-account*.json`, `*.tfvars *.tfstate`
========================================================================================  ============

Public halves (`*.pub`, `known_hosts`) and templates (`.env.example`, `*.sample`) are ordinary files.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from knowledge_system.domain.sensitivity import Sensitivity
from knowledge_system.sensitivity.reading import word_set

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_EXEMPT = re.compile(
    r"\.pub\Z|known_hosts|\.(?:example|sample|template|tmpl|dist|defaults?|schema|md|py|ts|js|go|rs"
    r"|d\.ts)\Z|[._-]example\b",
    re.IGNORECASE,
)
_SECRET = re.compile(
    r"(?:^|/)\.ssh/(?!config\Z|authorized_keys\Z)[\w.-]+\Z|(?:^|/)id_(?:rsa|dsa|ecdsa|ed25519)[\w.-]*\Z"
    r"|\.(?:p12|pfx|jks|keystore|kdbx|ppk|key)\Z"
    r"|(?:^|/)\.gnupg/|^/etc/(?:shadow|gshadow)\Z|(?:^|/)\.?vault[_-]pass\w*",
    re.IGNORECASE,
)
_CONFIDENTIAL = re.compile(
    r"(?:^|/)\.env(?:\.[\w.-]+|rc)?\Z|\.env\Z|\.pem\Z|(?:^|/)[._]netrc\Z|(?:^|/)\.(?:pgpass|my\.cnf"
    r"|npmrc|pypirc|git-credentials|htpasswd|dockercfg|boto|s3cfg)\Z"
    r"|(?:^|/)\.aws/(?:credentials|config)\Z|(?:^|/)\.azure/|(?:^|/)\.kube/config|kubeconfig[\w.-]*\Z"
    r"|(?:^|/)\.docker/config\.json\Z|application_default_credentials"
    r"|(?:^|/)secrets?(?:[._-][\w.-]+)?\.(?:ya?ml|json|toml|env|ini|properties|enc)\Z|(?:^"
    r"|/)(?:db[_-]?)?credentials(?:\.(?:json|ya?ml|xml|ini|csv|toml))?\Z"
    r"|service[_-]?account[\w.-]*\.json\Z|\.tf(?:vars|state)(?:\.json|\.backup)?\Z|(?:^|/)\.ssh/",
    re.IGNORECASE,
)
_SETTINGS = re.compile(r"(?:^|/)\.env(?:\.[\w.-]+)?\Z|\.env\Z", re.IGNORECASE)
_PIECE = re.compile(r"[\w.~/@%+:\\-]{3,300}")
_PATH_KEYS = word_set(
    "file_path filepath path paths file files filename notebook_path target_file "
    "relative_workspace_path uri command cmd script args arguments code"
)
_LONGEST = 16_384
_HINTS = (
    "env",
    "pem",
    "netrc",
    "pgpass",
    ".cnf",
    "npmrc",
    "pypirc",
    "credential",
    "htpasswd",
    "dockercfg",
    "boto",
    "s3cfg",
    ".aws",
    ".azure",
    "kube",
    ".docker",
    "secret",
    "account",
    ".tf",
    ".ssh",
    "id_",
    "p12",
    "pfx",
    "jks",
    "keystore",
    "kdbx",
    "ppk",
    ".key",
    "gnupg",
    "shadow",
    "vault",
)


def path_level(paths: Iterable[str]) -> Sensitivity | None:
    """Return the strictest level that a path among `paths` asks for, or None."""
    found: Sensitivity | None = None
    for path in paths:
        normal = path.replace("\\", "/").rstrip(".,:;)'\"")
        if _EXEMPT.search(normal):
            continue
        if _SECRET.search(normal):
            return Sensitivity.SECRET
        if _CONFIDENTIAL.search(normal):
            found = Sensitivity.CONFIDENTIAL
    return found


def holds_settings(paths: Iterable[str]) -> bool:
    """Whether one of `paths` is a file of `NAME=value` credentials."""
    return any(_SETTINGS.search(path) and not _EXEMPT.search(path) for path in paths)


def paths_in(text: str) -> list[str]:
    """Return what looks like paths in a tool's input: a command, or the path-like fields of a JSON object."""
    low = text.lower()
    if not any(hint in low for hint in _HINTS):
        return []
    sources = [text]
    if text[:1] in "{[":
        try:
            sources = list(_path_fields(json.loads(text), inside=False))
        except (ValueError, RecursionError):
            sources = [text]
    return [piece for source in sources for piece in _PIECE.findall(source[:_LONGEST])]


def _path_fields(value: Any, *, inside: bool) -> Iterator[str]:
    if isinstance(value, str) and inside:
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _path_fields(item, inside=inside)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _path_fields(item, inside=key.lower() in _PATH_KEYS)
