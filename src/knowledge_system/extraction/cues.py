"""Words that tell the ten types apart: the domain an exchange is about, in the vocabulary of any stack."""

from __future__ import annotations

import re
from collections import Counter
from math import log1p
from typing import TYPE_CHECKING

from knowledge_system.domain.knowledge import KnowledgeType
from knowledge_system.extraction.wording import words_of

if TYPE_CHECKING:
    from knowledge_system.extraction.signals import Signals

ASK_WEIGHT = 3
"""What the user asks for says more about the kind than the words of the answer."""

_CUES: dict[KnowledgeType, str] = {
    KnowledgeType.BUG_SOLUTION: """
        error errors exception bug bugs crash crashes crashed broken fails failing failed fix fixed fixes cause
        traceback stack wrong issue regression race deadlock leak null undefined
    """,
    KnowledgeType.ARCHITECTURAL_DECISION: """
        architecture architectural option options trade-off tradeoff tradeoffs alternative alternatives
        recommend recommendation decide decision decided design approach approaches pros cons coupling boundary
        boundaries monolith service services should versus vs rationale why scale
    """,
    KnowledgeType.IMPLEMENTATION_STRATEGY: """
        implement implemented implementation feature add added adds new support algorithm steps flow handler
        endpoint screen form button page schema field parser command dialog users now
    """,
    KnowledgeType.CODING_PATTERN: """
        idiom idiomatic pattern syntax convention conventions naming style generic generics type types typed
        decorator closure enum interface trait lambda operator language constant constants immutable helper
        signature return returns null-safe regex snippet
    """,
    KnowledgeType.TOOL_USAGE: """
        command commands flag flags git shell terminal cli config configure setting settings option install
        installed editor extension plugin undo rebase branch cache environment variable version path directory
        keyboard shortcut prune what does mean
    """,
    KnowledgeType.OPTIMIZATION: """
        slow slower fast faster speed performance perf memory latency throughput cache caching cached cost costs
        tokens size smaller profile profiled profiling benchmark seconds ms milliseconds mb gb inefficient
        optimize optimise optimized quadratic n+1 batch batching index
    """,
    KnowledgeType.INTEGRATION_PATTERN: """
        webhook webhooks oauth api apis sdk client provider protocol callback redirect token tokens auth
        authentication endpoint third-party gateway queue broker subscription events handshake integration
        integrate mcp http rest grpc dns origin origins credentials secret header payload
    """,
    KnowledgeType.REFACTORING: """
        refactor refactored refactoring rename renamed move moved extract extracted duplicate duplicated
        duplication deduplicate consolidate consolidated split dead unused cleanup clean simplify simplified
        shared reuse module inline readability maintainability constant
    """,
    KnowledgeType.TEST_STRATEGY: """
        test tests testing tested mock mocks mocked mocking fixture fixtures assert asserts assertion assertions
        coverage e2e unit integration regression spec suite stub stubs fake fakes isolation flaky snapshot
        property-based testable
    """,
    KnowledgeType.DEPLOYMENT_APPROACH: """
        deploy deployed deployment deploys ci cd workflow workflows pipeline pipelines release releases publish
        published staging production docker container image registry kubernetes helm hosting runner runners
        build artifact artifacts rollout rollback secrets permissions environment actions tag tags
    """,
}
_OF_WORD: dict[str, list[KnowledgeType]] = {}
for _type, _words in _CUES.items():
    for _one in _words.split():
        _OF_WORD.setdefault(_one, []).append(_type)


def cues(signals: Signals) -> dict[str, float]:
    """Return, by `cue:<type>`, how strongly the words of ask and answer point to each type (share of all cues)."""
    exchange = signals.exchange
    counts: Counter[KnowledgeType] = Counter()
    for word, number in Counter(words_of(signals.ask.text)).items():
        for kind in _OF_WORD.get(word, ()):
            counts[kind] += ASK_WEIGHT * min(number, 2)
    for word, number in signals.vocabulary.items():
        for kind in _OF_WORD.get(word, ()):
            counts[kind] += min(number, 3)
    total = sum(counts.values()) + 5
    found = {f"cue:{kind}": 10 * counts[kind] / total for kind in KnowledgeType}
    test_files = sum(1 for path in exchange.facts.files if re.search(r"(?i)test|spec", path))
    return {**found, "test_files": log1p(test_files)}
