from __future__ import annotations

from tests.extraction.samples import JUNK, KNOWLEDGE

from knowledge_system.extraction.extractor import EvidenceExtractor
from knowledge_system.extraction.plausible import PlausibleExtractor
from knowledge_system.extraction.with_model import ModelOptions


async def test_verdicts_are_those_of_the_extractor() -> None:
    episodes = [*JUNK.values(), *(found for _, found in KNOWLEDGE)]
    plain, told = await EvidenceExtractor().judge(episodes), await PlausibleExtractor().judge(episodes)
    assert [(one.exchange_id, one.candidates, one.reason) for one in plain] == [
        (one.exchange_id, one.candidates, one.reason) for one in told
    ]
    assert PlausibleExtractor().version == EvidenceExtractor().version


async def test_what_the_rules_exclude_and_chores_are_final_and_the_rest_has_a_probability() -> None:
    verdicts = dict(zip(JUNK, await PlausibleExtractor().judge(list(JUNK.values())), strict=True))
    for name in ("empty", "interrupted", "undone"):
        assert verdicts[name].plausibility is None, name
    assert (verdicts["chore"].plausibility or 0.0) < ModelOptions().lowest
    rest = [one.plausibility for one in verdicts.values() if one.plausibility is not None]
    assert rest
    assert all(0 <= one < 0.5 for one in rest)


async def test_an_item_needs_no_plausibility() -> None:
    verdicts = await PlausibleExtractor().judge([found for _, found in KNOWLEDGE])
    assert all(one.plausibility is None for one in verdicts if one.candidates)
    assert any(one.candidates for one in verdicts)
