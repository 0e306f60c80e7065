"""What prompts of each kind usually say, in English and, by stems, German, Spanish, Portuguese, French, Chinese.

Cues only propose: how much each counts, and for what, is fitted (`bench/train_intents.py`).
"""

from __future__ import annotations

import re
from typing import Final

_PATTERNS: Final[dict[str, str]] = {
    "trouble": (
        r"\b(?:errors?|exceptions?|fail(?:s|ed|ing|ure|ures)?|bugs?|buggy|broke|broken|breaks|crash\w*"
        r"|wrong(?:ly)?|incorrect(?:ly)?|hangs?|hung|stuck|freez\w+|frozen|traceback|segfault|regression"
        r"|denied|refused|invalid|corrupt\w*|undefined|null|nan|leak\w*|timed? ?out|glitch\w*|weird|strange"
        r"|odd|unexpected(?:ly)?|disappear\w*|lost|vanish\w*|missing)\b|\bfehler|kaputt|falsch|funktioniert"
        r" nicht|geht nicht|\berror\b|falla|no funciona|erreur|ne marche pas|ne fonctionne|не работает|ошибк"
        r"|\berro\b|não funciona|报错|错误|失败|不工作|不能用|异常|崩溃|白屏|エラー"
    ),
    "not-working": (
        r"(?:n't|\bnot|\bno longer|\bnever|\bstopped)\s+(?:\w+ ){0,2}?(?:work|works|working|show|showing"
        r"|appear|load|loading|open|start|starting|run|running|update|updating|respond|find|found|happen"
        r"|compile|build|being|render|trigger|fire|connect)\w*\b|\bnothing (?:happens|happened|changed|shows"
        r"|is)\b|\bexits? (?:immediately|with)\b"
    ),
    "again": (
        r"\b(?:still|again|same (?:error|problem|issue|thing|result)|that didn't|didn't help|no luck|keeps?"
        r"|it happened|another error)\b|immer noch|sigue|toujours|还是|仍然"
    ),
    "i-get": (
        r"\bi(?:'m| am)? (?:\w+ )?(?:get|got|getting|see|seeing|saw|ran|run|tried|noticed?|receive)\b|\bit"
        r" (?:says|gives|shows|returns|throws)\b|\bwhen (?:i|running|you|starting|clicking|opening)\b|me sale"
        r"|bekomme|j'ai\b"
    ),
    "cause": (
        r"\b(?:root cause|the cause|find out (?:what|why)|figure out (?:what|why)|what(?:'s| is| went)?"
        r" (?:going )?(?:wrong|on|happening|broke)|why (?:is|are|did|does|do|was|were)\b.{0,60}\b(?:fail|not"
        r"|n't|wrong|null|empty|missing|break|broken|error|slow|stuck|twice))|ursache|causa\b|原因"
    ),
    "repair": (
        r"\b(?:fix(?:es|ed|ing)?|solve|resolve|repair|debug|troubleshoot|diagnose|correct (?:it|this|that))\b"
        r"|beheb|reparier|arregl|corrig|répar|修复|解决|修一下"
    ),
    "test-work": (
        r"\b(?:add|write|run|create|extend|cover|update|execute|need|more|missing|increase|tighten"
        r"|parametri[sz]e|have|want|regression)\b[^.?!\n]{0,40}\b(?:(?:unit|integration|smoke|e2e|end-to-end"
        r"|regression|snapshot)[ -]tests?|tests?|test cases?|coverage|specs|fixtures?|mocks?|qa)\b"
        r"|\b(?:(?:unit|integration|smoke|e2e|end-to-end|regression|snapshot)[ -]tests?|tests?|test cases?"
        r"|coverage|specs|fixtures?|mocks?|qa)\b[^.?!\n]{0,30}\b(?:for|cover\w*|exist|missing|pass)"
        r"|\btested\b|\b(?:un|go |npm |cargo |py)test\w*\b|pruebas|\btests? (?:de|für|pour)\b|测试|テスト"
    ),
    "tests-named": (
        r"\b(?:(?:unit|integration|smoke|e2e|end-to-end|regression|snapshot)[ -]tests?|tests?|test cases?"
        r"|coverage|specs|fixtures?|mocks?|qa)\b|\btesting\b|\b(?:pytest|vitest|jest|playwright|cypress"
        r"|junit)\b"
    ),
    "test-fails": r"\btests?\b[^.?!\n]{0,30}\b(?:fail|broke|broken|red|error|flak)|\bfail\w*\b[^.?!\n]{0,20}\btests?\b",
    "verify": (
        r"\b(?:verify|validate|check that|confirm that|make sure (?:it|that|everything) works|double[- ]check"
        r"|try it (?:out|with)|simulate|by hand|smoke|prove|sanity)\b|überprüf|verifica|vérifi|验证"
    ),
    "docs-work": (
        r"\b(?:add|write|update|create|make|improve|extend|revise|rewrite|draft|fix|correct|put|generate"
        r"|prepare|include|append|amend|translate|shorten|mention|finish)\b[^.?!\n]{0,60}\b(?:read\s?me|docs?"
        r"|documentation|change\s?log|comments?|docstrings?|jsdoc|markdown|release notes?|notes?|wiki|guide"
        r"|tutorial|manual|runbook|adr|spec(?:ification)?s?|roadmap|pr (?:description|body|text|message)"
        r"|description|summary|section|paragraph|wording|diagram|proposal|report|task file|[\w-]+\.mdc?)\b"
        r"|\b(?:document|documented|docs?) (?:it|this|that|the|how|all|in|what)\b"
        r"|\bsummari[sz]e\b[^.?!\n]{0,40}\b(?:changes|session|pr|pull request|we)\b|\b(?:write|record|note"
        r"|put) (?:\w+ ){0,3}(?:down|in|into) |dokumentier|documenta\b|rédige|文档|注释|说明书"
    ),
    "docs-named": (
        r"\b(?:read\s?me|docs?|documentation|change\s?log|comments?|docstrings?|jsdoc|markdown|release notes?"
        r"|notes?|wiki|guide|tutorial|manual|runbook|adr|spec(?:ification)?s?|roadmap|pr (?:description|body"
        r"|text|message)|description|summary|section|paragraph|wording|diagram|proposal|report|task file"
        r"|[\w-]+\.mdc?)\b"
    ),
    "speed": (
        r"\b(?:slow(?:er|ly|ness)?|fast(?:er|est)?|quick(?:er)|perform(?:ance|ant)|optimi[sz]\w*|speed(?:s"
        r"|ing)?|latency|throughput|bottleneck|profil(?:e|er|ing)|benchmark\w*|(?:in)?efficien(?:t|cy|tly)"
        r"|memory|ram|cpu|gpu|footprint|overhead|expensive|cheap(?:er)?|costs?|token (?:usage|count|budget)"
        r"|fewer tokens|number of tokens|cach(?:e|ing)|parallel\w*|concurren\w+|batch(?:es|ing)?|lazy|lazily"
        r"|debounce|throttle|n\+1|o\(n|quadratic|milliseconds?|\d+ ?ms|p9[59]|smaller|shrink|compress\w*"
        r"|lighthouse|takes? (?:too|so|ages|forever|an? hour|\d+ (?:s|sec|min|hour)))\b|langsam|schneller"
        r"|speicherverbrauch|lent[oa]?\b|rendimiento|plus rapide|mémoire|优化|性能|太慢|内存|加速"
    ),
    "restructure": (
        r"\b(?:refactor\w*|renam(?:e|es|ed|ing)|restructur\w*|reorgani[sz]\w*|extract|split|dedup\w*"
        r"|duplicat\w*|redundan\w*|unused|dead code|clean(?:ed|ing)? ?up|tidy|simplif\w*|consolidat\w*|unify"
        r"|decoupl\w*|inline|modulari[sz]\w*|move|moved|moving|hard-?coded|legacy|migrat\w+|port|convert"
        r"|replac(?:e|es|ed|ing)|swap|switch(?:ing)? (?:from|to)|get rid of|remove|delete|drop|instead of"
        r"|rather than|in favou?r of|backward compatib\w+|abstract\w*|dry|share|shared|belongs?|lives?"
        r"|constants?)\b|umbenenn|aufteil|verschieb|refactori[sz]|renombr|mueve|renomme|déplace|重构|拆分|重命名|移动"
    ),
    "build": (
        r"\b(?:add|implement(?:ing|ation)?|create|build|support|allow|enable|introduc\w+|integrat\w+|set ?up"
        r"|wire|hook up|feature|new|develop|generate|scaffold|make (?:it|the|me|a|sure)|i(?:'d| would)?"
        r" (?:want|like|need)|we (?:need|want|should)|should (?:be|have|show|also|now)|let(?:'s)? (?:add"
        r"|build|have|make)|display|show|option|setting|button|page|screen|form|endpoint|command|flag)\b|füge"
        r"|hinzu|implementier|agreg|añad|crea\b|implementa|ajoute|crée|adicion|添加|增加|实现|新增|开发|加一个"
    ),
    "explore": (
        r"\b(?:review|look (?:at|around|into|through)|take a look|overview|analy[sz]e|analysis|investigat\w*"
        r"|research|compare|options|alternatives|find (?:all|out|any|similar)|list (?:all|the)|scan|explor\w*"
        r"|thoughts|what do you think|opinion|audit|assess|evaluat\w*|brainstorm|backlog|ambigu\w*|gaps?|pros"
        r" and cons|get familiar|study|survey|where (?:are|were|did) we|what(?:'s| is) (?:next|left|remaining"
        r"|the (?:state|status))|is there (?:any|already|a|something|anything)|are there (?:any|other)|do we"
        r" (?:have|already|ever)|any (?:ideas?|other|others|plans?)|which files?|identify|suggest(?:ions)?"
        r"|recommend\w*|open (?:tasks?|questions?|issues?|todos?)|what (?:tasks|else|other)|state of)\b"
        r"|überblick|schau dir|revisa|opciones|résumé|analyse le|看一下|分析|对比|有哪些|查看"
    ),
    "explain": (
        r"\b(?:explain|what(?:'s| is| are| does| do|s) |what does|how (?:do|does|can|would|is|are|to|many"
        r"|much|often|long|come)|difference|mean(?:s|ing)?|understand|why (?:do|does|is|are|did|would|not)"
        r"|right\?|correct\?|tell me|teach|wondering|curious|question|walk me|in simple|is it (?:true"
        r"|possible|safe|ok)|does (?:it|this|that|the)|do (?:i|we|you) (?:need|have)|can i|should i|which|who"
        r"|where|when)\b|was ist|wie funktioniert|unterschied|warum|qué (?:es|hace)|cómo|por qué|comment"
        r"|pourquoi|c'est quoi|什么|为什么|怎么|如何|解释"
    ),
    "approve": (
        r"\A\W*(?:(?:ok(?:ay)?|yes|yep|yeah|sure|great|perfect|nice|cool|good|thanks?|thank you|lgtm|go(?:"
        r" ahead| on| for it)?|do it|continue|proceed|approved?|sounds good|looks good|works?|please|now|and"
        r"|then|that|sorry|weiter|ja|danke|s[ií]|oui|继续|好的?)\b[\s,.!]*)+\W*\Z"
    ),
    "chore": (
        r"\A\W*(?:(?:ok(?:ay)?|yes|great|nice|perfect|thanks|looks good|sounds good|please|now|and|then|can"
        r" you|could you|let's)[\s,.!]+)*(?:commit|push|pull|merge|rebase|squash|stage|checkout|check out"
        r"|switch (?:to|branch)|open (?:a |the )?(?:pr|pull)|create (?:a |the )?(?:pr|pull request|branch"
        r"|commit)|amend|tag|stash|start over|back to)\b"
    ),
    "work-in-tree": r"\b(?:code ?base|repo(?:sitory)?|project|directory|folder)\b",
    "plan": (
        r"\b(?:implement (?:the|this) (?:following )?plan|phase \d|milestone|step \d|acceptance criteria"
        r"|requirements?)\b"
    ),
    "which-side": r"\b(?:where should|should (?:this|it|that|\W?\w+\W?) (?:be|live|go)|belongs? in|right place)\b",
}

CUES: Final[dict[str, re.Pattern[str]]] = {name: re.compile(pattern) for name, pattern in _PATTERNS.items()}
"""Patterns over lower-case text; none backtracks more than a constant times the length of a sentence."""
