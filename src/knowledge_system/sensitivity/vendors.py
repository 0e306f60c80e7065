"""Credentials recognisable by their own form: the prefixes, alphabets and lengths that services publish.

Every format has literal anchors; its expression runs only on texts that contain one, so a text without credentials
costs one substring search an anchor. Every expression is a bounded run behind a literal: linear time.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from knowledge_system.domain.sensitivity import Finding
from knowledge_system.sensitivity.shapes import entropy, is_filler, is_sequence

if TYPE_CHECKING:
    from collections.abc import Iterator

    from knowledge_system.sensitivity.reading import Reading

_LEFT = r"(?<![A-Za-z0-9])(?<![A-Za-z0-9][_-])"
_RIGHT = r"(?![A-Za-z0-9])"


class Format(NamedTuple):
    """A published token format: its slug, the literals it contains, its expression, the least entropy in bits."""

    kind: str
    anchors: tuple[str, ...]
    expression: re.Pattern[str]
    entropy: float = 2.0


def _format(kind: str, anchors: str, expression: str, entropy: float = 2.0) -> Format:
    return Format(kind, tuple(anchors.split()), re.compile(expression), entropy)


def _prefixed(kind: str, prefixes: str, body: str, entropy: float = 2.0) -> Format:
    alternatives = "|".join(re.escape(prefix) for prefix in prefixes.split())
    return Format(kind, tuple(prefixes.split()), re.compile(f"{_LEFT}(?:{alternatives}){body}"), entropy)


_FORMATS = (
    # cloud platforms
    _format(
        "aws-key",
        "AKIA ASIA ABIA ACCA A3T",
        _LEFT + r"(?:(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}|A3T[A-Z0-9]{17})" + _RIGHT,
    ),
    _format("aws-key", "amzn.mws.", r"amzn\.mws\.[0-9a-z]{8}-(?:[0-9a-z]{4}-){3}[0-9a-z]{12}"),
    _format("aws-key", "ABSK bedrock-api-key-", _LEFT + r"(?:ABSK|bedrock-api-key-)[A-Za-z0-9+/]{80,300}={0,2}"),
    _format("google-key", "AIza", _LEFT + r"AIza[\w-]{35}"),
    _format("google-token", "ya29.", _LEFT + r"ya29\.[\w-]{20,2000}"),
    _format("google-secret", "GOCSPX-", _LEFT + r"GOCSPX-[\w-]{20,40}"),
    _format(
        "google-client", ".apps.googleusercontent.com", r"\b\d{8,21}-[a-z0-9]{16,40}\.apps\.googleusercontent\.com"
    ),
    _format("azure-key", "8Q~", r"(?<![\w~.-])[\w~.-]{3}8Q~[\w~.-]{31,36}"),
    _format("azure-key", "JQQJ9", r"(?<![A-Za-z0-9+/])[A-Za-z0-9+/]{40,64}JQQJ9[A-Za-z0-9+/]{16,40}={0,2}"),
    _format("azure-key", "==", r"[A-Za-z0-9+/](?<![A-Za-z0-9+/][A-Za-z0-9+/])[A-Za-z0-9+/]{85}==", 4.5),
    _prefixed("alibaba-key", "LTAI", r"[A-Za-z0-9]{12,24}" + _RIGHT, 3.0),
    _prefixed("digitalocean-token", "dop_v1_ doo_v1_ dor_v1_", r"[0-9a-f]{40,64}"),
    _prefixed("heroku-key", "HRKU-", r"[\w-]{30,70}"),
    _prefixed("akamai-token", "akab- akaa-", r"[a-z0-9]{12,20}-[a-z0-9]{12,20}", 3.0),
    _prefixed("yandex-token", "t1. y0_ AQVN", r"[\w-]{20,}={0,2}(?:\.[\w-]{60,100}={0,2})?", 3.5),
    # source and package hosts
    _prefixed("github-token", "ghp_ gho_ ghu_ ghs_ ghr_", r"[A-Za-z0-9]{30,255}"),
    _prefixed("github-token", "github_pat_", r"[A-Za-z0-9_]{36,255}"),
    _prefixed(
        "gitlab-token",
        "glpat- gloas- gldt- glrt- glcbt- glptt- glft- glimt- glagent- glsoat- glffct- glwt- GR1348941",
        r"[\w-]{16,320}(?:\.[\w]{2,20}){0,3}",
    ),
    _format("gitlab-token", "_gitlab_session=", r"(?<=_gitlab_session=)[0-9a-z]{24,64}"),
    _prefixed("atlassian-token", "ATATT3x ATCTT3x ATBB", r"[\w\-]{20,300}(?:(?:\\?=|%3[dD])[0-9A-F]{8})?", 3.5),
    _prefixed("npm-token", "npm_", r"[A-Za-z0-9]{30,64}"),
    _prefixed("pypi-token", "pypi-AgE pypi-AgEI", r"[\w-]{50,400}"),
    _prefixed("package-token", "rubygems_ CLOJARS_ crates_io_ cio", r"[0-9a-f]{32,64}"),
    _prefixed("docker-token", "dckr_pat_ dckr_oat_", r"[\w-]{20,60}"),
    _prefixed("docker-token", "SWMTKN-1- SWMKEY-1-", r"[A-Za-z0-9]{25,60}(?:-[a-z0-9]{20,30})?", 3.0),
    _prefixed("jfrog-key", "cmVmdGtu cmVmd", r"[A-Za-z0-9]{40,80}", 3.0),
    # language models
    _prefixed(
        "model-key", "sk-ant- sk-proj- sk-svcacct- sk-admin- sk-or-v1- sk-lf- sk-", r"[A-Za-z0-9_-]{20,240}", 3.3
    ),
    _prefixed(
        "model-key", "pplx- xai- gsk_ nvapi- r8_ llx- tgp_v1_ lsv2_pt_ lsv2_sk_ pcsk_ fw_ csk-", r"[\w-]{30,200}", 3.3
    ),
    _prefixed("model-key", "hf_ api_org_", r"[A-Za-z]{30,40}", 3.0),
    # chat, mail, telephony
    _prefixed(
        "slack-token",
        "xoxb- xoxp- xoxa- xoxo- xoxr- xoxs- xoxe- xoxe. xoxc- xoxd- xapp-",
        r"[A-Za-z0-9.%-]{16,400}",
        2.2,
    ),
    _format(
        "webhook", "hooks.slack.com/", r"hooks\.slack\.com/(?:services|workflows|triggers)/([A-Za-z0-9+/]{24,120})"
    ),
    _format("webhook", "/api/webhooks/", r"discord(?:app)?\.com/api/webhooks/(\d{15,20}/[\w-]{40,90})"),
    _format("webhook", ".webhook.office.com", r"\.webhook\.office\.com/webhookb2/([\w@/-]{80,240})"),
    _format("discord-token", "M N O", r"[MNO](?<![\w.-][MNO])[\w-]{23,27}\.[\w-]{6}\.[\w-]{27,38}(?![\w.-])", 4.0),
    _format("telegram-token", ":AA", r"(?<!\d)\d{8,10}:AA[\w-]{33}(?![\w-])"),
    _format("sendgrid-key", "SG.", _LEFT + r"SG\.[\w=-]{16,30}\.[\w=-]{16,50}"),
    _format("mailgun-key", "key-", _LEFT + r"key-[0-9a-f]{32}" + _RIGHT),
    _format(
        "mailgun-key",
        "-",
        r"[0-9a-f](?<![0-9a-f-][0-9a-f])[0-9a-f]{31}-[0-9a-f]{8}-[0-9a-f]{8}(?![0-9a-f-])",
    ),
    _format("mailchimp-key", "-us", _LEFT + r"[0-9a-zA-Z]{32}-us\d{1,2}" + _RIGHT, 3.0),
    _format("twilio-key", "SK AC", _LEFT + r"(?:SK|AC)[0-9a-f]{32}" + _RIGHT),
    # money and shops
    _prefixed(
        "stripe-key", "sk_live_ sk_test_ rk_live_ rk_test_ pk_live_ pk_test_ whsec_", r"[A-Za-z0-9_]{16,250}", 2.5
    ),
    _format("square-token", "sq0 EAAA", _LEFT + r"(?:sq0[a-z]{3}-[\w-]{20,50}|EAAA[\w-]{56,70})", 3.0),
    _format("paypal-token", "access_token$", r"access_token\$(?:production|sandbox)\$[0-9a-z]{16}\$[0-9a-f]{32}"),
    _prefixed("shopify-token", "shpat_ shpca_ shppa_ shpss_ shptka_", r"[0-9a-fA-F]{32}"),
    _format(
        "plaid-token",
        "access-",
        r"\baccess-(?:production|sandbox|development)-[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}",
    ),
    # infrastructure and observability
    _format("vault-token", "hvs. hvb. hvr.", _LEFT + r"hv[sbr]\.[\w.-]{20,300}"),
    _format("terraform-token", ".atlasv1.", r"(?<![\w.])[A-Za-z0-9]{10,20}\.atlasv1\.[\w=-]{50,80}"),
    _prefixed(
        "infrastructure-token",
        "pul- pnu_ pnb_ dapi dnkey- tskey-auth- tskey-api- sm_aat_ sm_pat_ rdme_ dp.pt. dp.st.",
        r"[\w=.-]{16,120}",
        3.0,
    ),
    _prefixed("database-token", "pscale_tkn_ pscale_pw_ pscale_oauth_ sbp_ nap_", r"[\w=.-]{24,120}", 3.0),
    _prefixed(
        "monitoring-token",
        "sntrys_ sntryu_ glc_ glsa_ phc_ phx_ phs_ phr_ pha_ phe_ dt0c01. dt0s01. dt0s16.",
        r"[\w.+/=-]{24,400}",
        3.0,
    ),
    _format("grafana-key", "eyJrIjoi", r"eyJrIjoi[A-Za-z0-9+/]{40,400}={0,2}"),
    _format(
        "newrelic-key",
        "NRAK- NRII- NRJS- NRBR- NRIQ- NRRA- NRSP-",
        _LEFT + r"NR(?:AK|II|JS|BR|IQ|RA|SP)-[\w-]{16,40}",
        2.5,
    ),
    _format("newrelic-key", "NRAL", _LEFT + r"[0-9a-zA-Z]{32,41}NRAL" + _RIGHT),
    _prefixed(
        "workspace-token",
        "lin_api_ lin_oauth_ ntn_ figd_ figo_ tfp_ sgp_ sgp_local_ sgp_local- PMAK- vcp_ vck_ vca_ ops_",
        r"[\w=.-]{28,2000}",
        3.2,
    ),
    _prefixed("beamer-token", "b_", r"[\w=-]{44}", 3.5),
    _format("openshift-token", "sha256~", r"\bsha256~[\w-]{43}"),
    _format("octopus-key", "API-", _LEFT + r"API-[A-Z0-9]{26}" + _RIGHT, 3.2),
    _format("adobe-secret", "p8e-", _LEFT + r"p8e-[0-9a-zA-Z]{32}" + _RIGHT),
    _format("mapbox-token", "pk. sk.", _LEFT + r"[ps]k\.[A-Za-z0-9]{50,100}\.[\w-]{20,30}"),
    _format("dropbox-token", "AAAAAAAAAA", r"(?<![\w-])[\w-]{9,13}A{10}[\w-]{40,50}(?![\w-])"),
    _format("twitter-token", "AAAAAAAAAAAAAAAAAAAA", r"(?<![A-Za-z0-9+/])A{20,24}[A-Za-z0-9%]{60,140}", 3.0),
    # formats of keys themselves
    _format(
        "jwt",
        "eyJ",
        r"(?<![\w-])eyJ[\w-]{8,2000}\.(?:eyJ|[A-Za-z0-9_-]{8})[\w-]{4,8000}(?:\.[\w-]{4,2000})?(?<!\.)",
        3.0,
    ),
    _format("nkey-seed", "S", r"S(?<![A-Za-z0-9+/_.-]S)[ACNOPUX][A-Z0-9]{54,58}(?![A-Za-z0-9+/=_])", 3.5),
    _format("age-key", "AGE-SECRET-KEY-1", r"AGE-SECRET-KEY-1[0-9A-Z]{50,62}"),
    _format("otp-secret", "otpauth://", r"otpauth://[^\s\"'<>]{0,200}?[?&]secret=([A-Za-z2-7]{12,128})"),
    _format(
        "signed-url", "sig= Signature=", r"(?<=[?&;])(?:X-Amz-Signature|Signature|sig)=([A-Za-z0-9%+/_-]{32,200}={0,2})"
    ),
)


_LEGACY_JFROG = _format(
    "jfrog-key",
    "AKC AP",
    r"A(?<![\w-]A)(?:KC[A-Za-z0-9]{10,80}"
    r"|P[0-9A-F](?=[A-Za-z0-9]*[a-z])(?=[A-Za-z0-9]*[0-9x])[A-Za-z0-9]{10,80})" + _RIGHT,
    0.1,
)
_WEAK = 2
_IN_TOKEN = re.compile(r"[\w.+=~%-]+\Z")
_SIGNS = ("_", "-", ".")
_TAIL = 2


def _tail(anchor: str) -> str:
    """Return the last letters that stand between signs before the sign at the end of `anchor`, if they tell enough."""
    sign = anchor[-1]
    _, led, last = anchor[:-1].rpartition(sign)
    return last[-_TAIL:] if sign in _SIGNS and last and (led or len(last) >= _TAIL) else ""


_IN_TOKENS = tuple(
    (anchor, index) for index, form in enumerate(_FORMATS) for anchor in form.anchors if _IN_TOKEN.match(anchor)
)
_ANCHORS = tuple((anchor, index) for anchor, index in _IN_TOKENS if not _tail(anchor))
_SIGNED_ANCHORS = {
    sign: {
        tail: tuple((anchor, index) for anchor, index in _IN_TOKENS if anchor[-1] == sign and _tail(anchor) == tail)
        for tail in {_tail(anchor) for anchor, _ in _IN_TOKENS if anchor[-1] == sign} - {""}
    }
    for sign in _SIGNS
}
_WIDE_ANCHORS = tuple(
    (anchor, index) for index, form in enumerate(_FORMATS) for anchor in form.anchors if not _IN_TOKEN.match(anchor)
)


def vendor_findings(reading: Reading) -> Iterator[Finding]:
    """Yield the credentials that are recognisable without knowing what stands around them."""
    if "AKC" in reading.text or "AP" in reading.text:
        yield from _matches(reading.text, _LEGACY_JFROG)
    tokens, text = reading.tokens, reading.text
    found = sorted(_anchored(tokens)) if tokens else []
    found += [index for anchor, index in _WIDE_ANCHORS if anchor in text]
    for index in dict.fromkeys(found):
        form = _FORMATS[index]
        if len(form.anchors[0]) > _WEAK or form.expression.search(tokens):
            yield from _matches(text, form)


def _anchored(tokens: str) -> set[int]:
    """Return the formats that have an anchor in `tokens`. Two in three anchors end with a sign: few are looked for."""
    found = {index for anchor, index in _ANCHORS if anchor in tokens}
    for sign, anchors in _SIGNED_ANCHORS.items():
        tails = {part[-_TAIL:] for part in tokens.split(sign)}
        for tail in tails & anchors.keys():
            found.update(index for anchor, index in anchors[tail] if anchor in tokens)
    return found


def _matches(text: str, form: Format) -> Iterator[Finding]:
    for match in form.expression.finditer(text):
        start, end = match.span(match.lastindex or 0)
        if _is_real(text[start:end], form.entropy):
            yield Finding(start, end, "secret", form.kind)


def _is_real(value: str, least: float) -> bool:
    """Whether the token is more than a drawing of its form (`ghp_xxxx`, `AKIAIOSFODNN7EXAMPLE`)."""
    if least < 1:
        return True
    body = value[4:]
    if value.startswith(("AKIA", "ASIA")) and value.endswith("EXAMPLE"):
        return False
    if "YOUR" in value or "_HERE" in value or "####" in value:
        return False
    return entropy(body) >= least and not (is_filler(body) or is_sequence(body))
