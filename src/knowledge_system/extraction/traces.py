"""What the work touched: kinds of files, commands, code blocks and names, which show what an exchange is about."""

from __future__ import annotations

import re
from math import log1p
from typing import TYPE_CHECKING

from knowledge_system.extraction.statements import ranked

if TYPE_CHECKING:
    from collections.abc import Iterable

    from knowledge_system.extraction.signals import Signals

_FILES = {
    "test": re.compile(r"(?i)(?:^|[/_.-])(?:tests?|specs?|e2e|fixtures?|conftest|__tests__|mocks?)(?:[/_.-]|$)"),
    "deploy": re.compile(
        r"(?i)dockerfile|docker-compose|compose\.ya?ml|\.github/|\.gitlab-ci|jenkinsfile|\.circleci|azure-pipelines"
        r"|kubernetes|k8s|helm|\.tf$|terraform|procfile|fly\.toml|vercel\.json|netlify|render\.yaml|cloudbuild"
        r"|ansible"
        r"|nginx|systemd|\.service$|goreleaser|(?:^|/)(?:deploy|release|publish)"
    ),
    "document": re.compile(r"(?i)\.(?:mdc?|txt|rst|adoc)$|changelog|readme"),
    "config": re.compile(
        r"(?i)\.(?:ya?ml|toml|ini|cfg|conf|env|json|properties|plist)$|(?:^|/)\.[a-z]+rc$|makefile|justfile|(?:^"
        r"|/)\.env"
    ),
}
_RUNS = {
    "tests": re.compile(r"\b(?:pytest|unittest|tox|jest|vitest|mocha|ctest|rspec|phpunit|nextest|playwright"
    r"|cypress)\b|\btest\b"),
    "deploy": re.compile(r"\b(?:docker|kubectl|helm|terraform|gh (?:workflow|run|release)|aws|gcloud|az|vercel"
    r"|fly|flyctl|heroku|netlify|wrangler|ansible|npm publish|twine|goreleaser)\b"),
    "git": re.compile(r"\bgit \w"),
    "measure": re.compile(r"\b(?:time |hyperfine|perf |bench|profile|pprof|du -|EXPLAIN|cProfile|py-spy|wrk"
    r"|ab -n|k6)"),
}  # fmt: skip
_SHELL = frozenset(["bash", "sh", "zsh", "shell", "console", "terminal", "powershell", "ps1", "fish", "cmd", "bat"])
_CONFIG = frozenset(
    ["yaml", "yml", "toml", "json", "ini", "dockerfile", "docker", "nginx", "hcl", "env", "xml", "conf"]
)
_COMMAND = re.compile(
    r"`(?:sudo |\$ )?(?:git|npm|npx|pnpm|yarn|bun|pip|uv|poetry|go|cargo|rustup|docker|kubectl|gh|brew|apt|make"
    r"|cmake|curl|ssh|scp"
    r"|systemctl|journalctl|python3?|node|deno|java|mvn|gradle|dotnet|terraform|aws|gcloud|az|psql|sqlite3"
    r"|redis-cli|tmux|vim"
    r"|code|chmod|export|source|find|grep|sed|awk|jq|tar|rsync|launchctl|xcodebuild|adb|claude|codex|aider"
    r"|cursor)\b[^`\n]*`"
)
_FLAG = re.compile(r"(?<![\w-])--?[a-z][\w-]+")
_CALL = re.compile(r"\b\w+\(\)?|\b[a-z]+[A-Z]\w+|\b[a-z]\w*_\w+")
_SETTING = re.compile(
    r"\b[A-Z][A-Z0-9]*_[A-Z0-9_]+\b|\b(?:settings?|preferences|options?) ?(?:>|->|→)|~/\.\w"
    r"|\b[Ee]nvironment variables?"
)
_MEASURE = re.compile(
    r"(?i)\b\d+(?:[.,]\d+)? ?(?:ms|µs|us|ns|s|sec(?:ond)?s?|min(?:ute)?s?|kb|mb|gb|kib|mib|gib|tokens|qps|rps|fps"
    r"|req/s|ops/s|queries)\b"
    r"|\b\d+(?:\.\d+)?(?:x|×|-fold)(?!\w)|\b\d+(?:\.\d+)? ?%"
)
_CHANGE = re.compile(
    r"(?i)\b(?:from|down|instead of|faster|slower|smaller|reduc\w+|cut|drop\w*|sav(?:es|ed|ing)|was|versus|vs)\b"
)
_WEB = re.compile(
    r"(?i)https?://|\b(?:GET|POST|PUT|PATCH|DELETE) /|\b(?:40[0-9]|50[0-4]|200|201|302)\b(?= |$)|\bwebhooks?\b"
    r"|\boauth\b|\bendpoints?\b"
    r"|\bAPIs?\b|\bSDK\b|\bheaders?\b|\btokens?\b|\bcallbacks?\b|\bMCP\b|\bscopes?\b|\bclient\b|\bpayloads?\b"
    r"|\bprovider\b|\bprotocol\b"
)
_OPTION = re.compile(
    r"(?i)\b(?:option|approach|alternative|choice) (?:\d|[a-d]\b|one|two)|\bpros\b|\bcons\b|\btrade-?offs?\b"
    r"|\brecommend\w*|\bdownsides?\b|\brather than\b"
    r"|\bin favou?r of\b|\bi(?:'d| would) (?:go|choose|pick|keep|prefer)|\bbetter\b|\bsimpler\b|\bcleaner\b"
    r"|\bsource of truth\b|\bseparation\b|\bcoupl\w+"
)
_MOVE = re.compile(
    r"(?i)\b(?:moved?|moving|renam\w+|extract\w+|split|merg\w+|consolidat\w+|replac\w+|remov\w+|delet\w+|inlin\w+"
    r"|dedup\w+|refactor\w+|simplif\w+|shared"
    r"|duplicat\w+|unused|dead code)\b|`[^`]+` ?(?:→|->|=>) ?`"
)
_SHAPE = re.compile(
    r"(?i)\b(?:syntax|idiom\w*|operator|keyword|type (?:hint|alias|guard|parameter|annotation)s?|generics?"
    r"|decorator|closure|lambda|enum|interface|struct|trait"
    r"|null(?:able)?|None|undefined|immutable|async|await|promise|iterator|comprehension|regex\w*|format string"
    r"|naming|convention|helper|signature|property|method|class)\b"
)
_BUILT = re.compile(
    r"(?i)\b(?:added?|implement\w+|creat\w+|new|supports?|introduc\w+|built|wired|extended|now (?:shows?|supports?"
    r"|accepts?|lets|handles?)|feature"
    r"|flow|steps?|algorithm|pipeline|logic)\b"
)
_REPAIR = re.compile(
    r"(?i)\b(?:fix(?:ed|es)?|root cause|caused?|because|bug|culprit|broke[n]?|crash\w*|fail(?:s|ed|ing|ure)?"
    r"|errors?|regression|race|missing|wrong|mismatch|the (?:issue|problem))\b"
)
_PROOF = re.compile(
    r"(?i)\b(?:tests?|asserts?|assert\w+|mock\w*|stub\w*|fixtures?|coverage|verif\w+|regression test|isolat\w+|e2e"
    r"|suite|covers?)\b"
)
_SHIP = re.compile(
    r"(?i)\b(?:ci|cd|workflows?|pipelines?|runners?|deploy\w*|releas\w+|publish\w*|images?|containers?|docker\w*"
    r"|registry|staging|production|rollback|artifacts?"
    r"|secrets?|permissions?|hosting|cluster|packag\w+|build step|github actions?)\b"
)
_SAID = {
    "flags": _FLAG, "calls": _CALL, "settings": _SETTING, "web": _WEB, "options": _OPTION, "moves": _MOVE,
    "shapes": _SHAPE, "built": _BUILT, "repair": _REPAIR, "proof": _PROOF, "ship": _SHIP,
}  # fmt: skip
TRACES = (
    *(f"files_{kind}" for kind in _FILES),
    *(f"ran_{kind}" for kind in _RUNS),
    *(f"said_{kind}" for kind in (*_SAID, "commands", "measures")),
    *("block_shell", "block_config", "block_code", "files", "failures"),
)
"""Names of the traces."""
KEY_STATEMENTS = 6
"""The statements with the most points say what the exchange is about; narration does not."""


def traces(signals: Signals) -> dict[str, float]:
    """Return the traces by name: shares in [0, 1], counts on a logarithmic scale."""
    key = _key(signals)
    paths = signals.exchange.facts.files
    touched = {f"files_{kind}": _share(paths, pattern) for kind, pattern in _FILES.items()}
    runs = " \n".join(signals.work.commands)[:4000]
    ran = {f"ran_{kind}": float(pattern.search(runs) is not None) for kind, pattern in _RUNS.items()}
    words = max(12, len(key.split()))
    said = {f"said_{kind}": min(1.0, 8 * len(pattern.findall(key)) / words) for kind, pattern in _SAID.items()}
    measures = _MEASURE.findall(key)
    return {
        **touched,
        **ran,
        **_blocks(signals),
        **said,
        "said_commands": log1p(len(_COMMAND.findall(key))),
        "said_measures": log1p(len(measures)) * (0.5 + 0.5 * float(_CHANGE.search(key) is not None)),
        "files": log1p(len(paths)),
        "failures": log1p(len(signals.work.failures)),
    }


def _key(signals: Signals) -> str:
    told = sorted(ranked(signals), key=lambda one: -one.points)[:KEY_STATEMENTS]
    return "\n".join(one.sentence.text for one in told)


def _share(paths: Iterable[str], pattern: re.Pattern[str]) -> float:
    found = [pattern.search(path) is not None for path in paths]
    return sum(found) / len(found) if found else 0.0


def _blocks(signals: Signals) -> dict[str, float]:
    languages = [block.language.split(":")[0].lower() for block in signals.prose.code]
    shell, config = sum(one in _SHELL for one in languages), sum(one in _CONFIG for one in languages)
    code = sum(bool(one) and one not in _SHELL and one not in _CONFIG for one in languages)
    return {"block_shell": log1p(shell), "block_config": log1p(config), "block_code": log1p(code)}
