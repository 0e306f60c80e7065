"""Texts that speak to whoever reads them instead of about the work: no model is shown them, and none is stored.

Patterns find what attacks have in common; they cannot find every one (another language, a cipher, a plain lie). So they
are one line of several: see `docs/learning-with-a-model.md` for what is guaranteed and what is not.
"""

from __future__ import annotations

import re
import unicodedata

_ORDER = re.compile(
    r"(?i)\b(?:ignor\w*|disregard\w*|forget|overrid\w*|bypass)\b[^\n]{0,60}"
    r"\b(?:instructions?|prompts?|guidelines|rules? (?:above|before)|(?:above|previous|prior|earlier)\b(?! version))"
    r"|\b(?:new|updated|real) (?:system )?instructions?\s*:|\bsystem (?:prompt|message|override)\b"
    r"|</?(?:system|instructions?|assistant|human|user)>|\[/?INST\]|<\|\w+\|>|^[ \t]*(?:system|assistant)[ \t]*:"
    r"|<<<[^\n]{0,80}\b(?:exchange|prompt|answer|end|pair|older|newer)\b|\bknowledge extract(?:or|ion)\b"
    r"|\bto the (?:model|ai|llm)\b"
    r"|\b(?:mark|save|store|record|classify|remember|keep) (?:this|the) (?:exchange|conversation|item)\b"
    r"|\byou are (?:now )?(?:an?|the) [^\n]{0,40}\b(?:extractor|assistant|model|ai)\b"
    r"|[\"']?(?:worth|relation)[\"']?\s*:\s*(?:true|false|[\"'](?:same|supersedes|different))"
    r"|\bconfidence[\"']?\s*[:=]\s*[01]?\.\d|\bconfidence[\"']?\s*[:=]\s*1\b"
    r"|\b(?:ignorier\w*|missachte\w*|vergiss)\b[^\n]{0,40}\b(?:anweisung|vorgabe|regel)\w*"
    r"|\b(?:ignor\w*|olvida\w*|oubli\w*|esquece\w*|dimentica\w*)\b[^\n]{0,40}"
    r"\b(?:instruc\w+|instruz\w+|istruz\w+|consignes|anteriores|precedent\w*)"
    r"|игнорир\w*[^\n]{0,40}(?:инструкц|указани|правил)|(?:忽略|无视|無視)[^\n]{0,12}(?:指令|指示|规则|規則|提示)"
    r"|(?:指示|命令)[^\n]{0,8}無視",
    re.MULTILINE,
)
_READER = r"assistants?|agents?|llms?|language models?|chatbots?|claude|codex|copilot|cursor|gemini|chatgpt"
_TOLD = re.compile(
    rf"(?i)\b(?:{_READER})\b[^\n.]{{0,30}}"
    r"\b(?:must|should|shall|ha(?:s|ve) to|needs? to|(?:is|are) (?:required|instructed|allowed) to"
    r"|will (?:now|always|never))\b"
    r"|\b(?:do not|don't|never|without) (?:tell|inform|ask|mention|alert|notif|reveal|warn)\w*[^\n.]{0,30}"
    r"\b(?:users?|humans?|developers?|operators?|anyone|anybody)\b"
    r"|\b(?:reading|retrieving|seeing|shown|given|loading) (?:this|these) (?:note|item|memory|message|text|entry)\b"
    r"|\bfrom now on\b|\b(?:in|for) (?:all|every|any) (?:future|subsequent|later) "
    r"(?:sessions?|conversations?|tasks?|answers?|responses?|requests?)\b"
    r"|\bexfiltrat\w*|\b(?:upload|send|post|forward|leak|e-?mail)\b[^\n.]{0,40}"
    r"(?:\b(?:private keys?|ssh keys?|environment variables?|all (?:secrets|tokens|credentials))\b|(?<!\w)\.env\b)"
)


def holds_orders(text: str) -> bool:
    """Tell whether something in the text speaks to whoever reads it rather than of the work."""
    read = plain(text)
    return _ORDER.search(read) is not None or _ORDER.search(" ".join(read.split())) is not None


def instructs(text: str) -> bool:
    """Tell whether a text that is to become knowledge gives orders to the agent that will read it."""
    return holds_orders(text) or _TOLD.search(plain(text)) is not None


# Letters of other alphabets that look like Latin ones: Cyrillic and Greek, small and capital.
_LOOKALIKES = str.maketrans(
    "\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0456\u0458\u0455\u04bb\u0501\u051b\u051d\u043c\u043d\u043a\u0442"
    "\u0410\u0412\u0415\u041a\u041c\u041d\u041e\u0420\u0421\u0422\u0425\u0406\u0405"
    "\u03b1\u03b5\u03b9\u03bf\u03c1\u03c5\u03bd\u0391\u0392\u0395\u0399\u039a\u039c\u039d\u039f\u03a1\u03a4\u03a7\u0131",
    "aeopcyxijshdqwmhktABEKMHOPCTXISaeiopuvABEIKMNOPTXi",
)
_WORD = re.compile(r"\w+")
_LATIN, _ALIKE = re.compile("[a-zA-Z]"), re.compile("[\u0370-\u052f\u0131]")
_SPACED = re.compile(r"(?<!\w)(?:[^\W\d_][ .*_-]){3,}[^\W\d_](?!\w)")
_UNSEEN = frozenset({"Mn", "Me", "Cf", "Co", "Cs"})


def plain(text: str) -> str:
    """Return what a reader takes `text` for: no invisible or combining characters, no lookalikes, no s p a c i n g."""
    if not text.isascii():
        apart = unicodedata.normalize("NFD", unicodedata.normalize("NFKC", text))
        seen = "".join(one for one in apart if one.isascii() or unicodedata.category(one) not in _UNSEEN)
        text = _WORD.sub(_unmasked, seen)
    return _SPACED.sub(lambda word: re.sub(r"[ .*_-]", "", word.group()), text)


def _unmasked(word: re.Match[str]) -> str:
    """Return a word of two alphabets in one of them; a word of one alphabet is what it looks like."""
    said = word.group()
    mixed = not said.isascii() and _LATIN.search(said) and _ALIKE.search(said)
    return said.translate(_LOOKALIKES) if mixed else said
