"""What kind of work the user asks for: the verbs and turns of phrase of a request, whatever its subject."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from knowledge_system.extraction.asks import Ask

_TURNS: dict[str, str] = {
    "repair": r"fix\w*|debug\w*|troubleshoot\w*|repair\w*|solve|resolve|diagnos\w*|figure out why|what(?:'s"
    r"| is) wrong"
    r"|(?:is|are|does|do|did|can|could|was)(?: ?n[o']t|n't)|not working|fail(?:s|ed|ing|ure)?|errors?|broken|crash\w*"
    r"|bugs?|wrong(?:ly)?|incorrect\w*|unexpected\w*|instead of|should(?:n't| not)|regression|hangs?|stuck",
    "build": r"add(?:ing)?|implement\w*|creat(?:e|ing)|build(?:ing)?|make (?:it|a|an|the)|support(?: for)?"
    r"|introduc\w+|enhanc\w+|extend\w*"
    r"|generat\w+|new (?:feature|command|page|option|endpoint|screen|field|button|tab|flag)|(?:i|we)(?:'d"
    r"| would)? (?:want|like|need)"
    r"|should (?:also |be able|support|allow|show|have)|allow|let users?|features?|so (?:that )?(?:we|i|users?"
    r"|you) can",
    "restructure": r"refactor\w*|renam\w+|mov(?:e|ing)|extract\w*|split\w*|clean ?-?up|cleanup|simplif\w+"
    r"|de-?dup\w+|duplicat\w+|consolidat\w+"
    r"|remov(?:e|ing)|delete|get rid|drop|replac\w+|reorgani[sz]\w+|inlin\w+|convert\w*|migrat\w+|unif(?:y|ied)"
    r"|restructur\w+|dead code"
    r"|reus\w+|shared?|where should|belongs?|untangle|decoupl\w+|rewrite",
    "test": r"tests?|testing|tested|testable|coverage|mock\w*|stub\w*|e2e|fixtures?|assert\w*|unit[- ]tests?"
    r"|specs?|flaky"
    r"|verif(?:y|ied)|reproduc\w+",
    "speed": r"fast(?:er)?|slow(?:er|ly)?|speed\w*|performan\w+|memory|optimi[sz]\w+|latency|throughput"
    r"|too (?:long|big|large|much|many|expensive)"
    r"|takes (?:\w+ ){0,3}(?:seconds?|minutes?|hours?|forever|long)|cheaper|costs?|profil\w+|benchmark\w*"
    r"|cach(?:e|ing)|efficien\w+",
    "ship": r"deploy\w*|releas\w+|publish\w*|ci|cd|pipelines?|workflows?|docker\w*|compose|kubernetes|k8s|helm"
    r"|host(?:ed|ing)|packag\w+"
    r"|github actions?|actions?|runners?|staging|production|prod|artifacts?|registry|versions? bump|installer"
    r"|terraform",
    "howto": r"how (?:do|does|can|could|to|would|should)|can (?:i|we|you|it)|is (?:there|it possible)|what (?:does"
    r"|do|is|are|command|flag)|which (?:command|flag|file|option)"
    r"|where (?:is|are|does|do|can)|what's the|possible to|does it|do i (?:need|have)",
    "choose": r"should (?:we|i|it|this)|or|better|best|vs\.?|versus|alternativ\w+|options?|what do you think"
    r"|your (?:opinion|take|thoughts?)"
    r"|thoughts|recommend\w*|suggest\w*|trade-?offs?|why (?:not|do we|did (?:you|we)|are we|would)|approach(?:es)?"
    r"|design\w*|architect\w+"
    r"|decid\w+|decision|prefer\w*|pros|cons|(?:doesn't|does not|wouldn't) (?:it|this|that) make"
    r"|makes? (?:more )?sense|instead|rather|worth it|overkill",
    "connect": r"integrat\w+|connect\w*|hooks?|webhooks?|apis?|oauth|auth\w*|sdk|clients?|providers?|mcp"
    r"|third[- ]party|login|sso|tokens?|keys?"
    r"|smtp|grpc|rest|sockets?|bluetooth|broker|queue|subscri\w+|callback\w*|endpoints?|stripe|slack|cors|proxy",
    "explain": r"explain\w*|understand\w*|why|what (?:does|do|is|are|happens)|difference|mean(?:s|ing)?|purpose"
    r"|walk me|tell me|learn\w*|curious"
    r"|right\?|correct\?|confus\w+",
    "survey": r"look (?:at|into|through|over)|review|check (?:if|whether|the|that)|is there (?:a|any)"
    r"|are there any|do we (?:have|ever|already)"
    r"|find|search|list|show me|summar\w+|where are we|what(?:'s| is) (?:left|next|the status)|go (?:over"
    r"|through)|explain @?\w+\.\w+|overview|analy[sz]\w+|analysis|identify",
    "document": r"readme|docs?|document\w*|changelog|comments?|docstrings?|wording|rephrase|spec(?:ification)?"
    r"|ticket|issues?|write[- ]?up|guide|notes?|markdown"
    r"|tasks?|description|plan",
}  # fmt: skip
_PATTERNS = {kind: re.compile(rf"(?i)(?<![\w-])(?:{words})(?![\w-])") for kind, words in _TURNS.items()}
REQUEST_KINDS = tuple(_TURNS)
MOST_TURNS = 3


def request_kinds(ask: Ask) -> dict[str, float]:
    """Return, by `req:<kind>`, how strongly the ask has the turns of that kind of request, in [0, 1]."""
    text = f"{ask.title}. {ask.text}" if ask.title else ask.text
    return {f"req:{kind}": min(MOST_TURNS, len(p.findall(text))) / MOST_TURNS for kind, p in _PATTERNS.items()}
