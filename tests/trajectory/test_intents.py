"""What a prompt alone says about what is wanted."""

from __future__ import annotations

import importlib.util
import json
from importlib import resources
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.trajectory.sessions import edit, exchange, read

from knowledge_system.domain.errors import IntegrityFailure
from knowledge_system.domain.trajectory import Intent
from knowledge_system.trajectory.intents import NONE, parse_model, shipped_model
from knowledge_system.trajectory.prompts import read_prompt
from knowledge_system.trajectory.work import read_work

BENCH = Path(__file__).resolve().parent.parent.parent / "bench"

SAID = {
    "the invoice page throws a 500 when the address is empty": Intent.DEBUGGING,
    'Traceback (most recent call last):\n  File "a.py", line 3\nValueError: bad date': Intent.DEBUGGING,
    "add a button that copies the link": Intent.FEATURE_DEV,
    "Implement a login form with remember-me": Intent.FEATURE_DEV,
    "rename OrderThing to OrderLine in all files": Intent.REFACTORING,
    "extract the duplicated code into one function": Intent.REFACTORING,
    "write unit tests for the invoice module": Intent.TESTING,
    "run the test suite please": Intent.TESTING,
    "this endpoint is far too slow, speed it up": Intent.OPTIMIZATION,
    "reduce the memory that the importer needs": Intent.OPTIMIZATION,
    "update the readme with the new options": Intent.DOCUMENTATION,
    "add docstrings to the client": Intent.DOCUMENTATION,
    "what is a semaphore?": Intent.LEARNING,
    "explain how this regex works": Intent.LEARNING,
    "give me an overview of this repository": Intent.EXPLORATION,
    "review the changes and tell me what you think": Intent.EXPLORATION,
    "Schreibe bitte Tests f\u00fcr den Rechner": Intent.TESTING,
    "el servidor no arranca, me sale un error, \u00bfpuedes arreglarlo?": Intent.DEBUGGING,
    "\u66f4\u65b0\u4e00\u4e0b README \u6587\u6863": Intent.DOCUMENTATION,
    "yes": None,
    "commit and push": None,
    "go ahead": None,
    "thanks!": None,
    "2": None,
    "": None,
}


@pytest.mark.parametrize("prompt", SAID, ids=[f"prompt{at}" for at in range(len(SAID))])
def test_plain_prompts_are_understood(prompt: str) -> None:
    assert shipped_model().classify(prompt).intent == SAID[prompt]


def test_the_probabilities_are_those_of_all_classes_and_sum_to_one() -> None:
    guess = shipped_model().classify("add a test for the parser")
    assert set(guess.probabilities) == {*Intent, NONE}
    assert sum(guess.probabilities.values()) == pytest.approx(1)
    assert guess.confidence == pytest.approx(max(guess.probabilities.values()), abs=1e-4)


def test_a_short_unsure_prompt_is_read_in_the_light_of_what_came_before() -> None:
    model = shipped_model()
    alone = model.classify("and for the other one too")
    for before in (Intent.TESTING, Intent.REFACTORING):
        read_after = model.classify("and for the other one too", before)
        assert read_after.probabilities[before.value] > alone.probabilities[before.value]


def test_a_clear_prompt_and_an_approval_are_not_swayed_by_what_came_before() -> None:
    model = shipped_model()
    clear = "write unit tests for the invoice module"
    assert model.classify(clear, Intent.DEBUGGING) == model.classify(clear)
    assert model.classify("yes", Intent.DEBUGGING).intent is None


def test_what_the_tools_did_tips_the_scales() -> None:
    prompt = "please take care of the export"
    model = shipped_model()
    papers = read_work(exchange(0, prompt, tools=(edit("docs/export.md"),)))
    tests = read_work(exchange(0, prompt, tools=(edit("tests/test_export.py"),)))
    looked = read_work(exchange(0, prompt, tools=(read("export.py"),)))
    alone = model.classify(prompt).probabilities
    for work, intent in ((papers, "documentation"), (tests, "testing"), (looked, "exploration")):
        assert model.classify(prompt, work=work).probabilities[intent] > alone[intent]


def test_pasted_code_and_logs_are_not_what_the_user_says() -> None:
    pasted = "```python\nraise ValueError('add a test and document it')\n```"
    spoken = read_prompt(f"why does this happen?\n{pasted}\n2026-01-01 12:00:01 ERROR add button\n[12:00] refactor")
    assert spoken.text == "why does this happen?"
    assert {"code", "pasted", "ends-asking"} <= set(spoken.shape)


def test_what_a_tool_added_to_the_prompt_is_left_out() -> None:
    assert read_prompt("<system-reminder>write tests</system-reminder>go on").text == "go on"


@settings(max_examples=150, deadline=None)
@given(st.one_of(st.none(), st.sampled_from(list(Intent))), st.text())
def test_no_text_is_too_strange(before: Intent | None, text: str) -> None:
    guess = shipped_model().classify(text, before)
    assert 0 <= guess.confidence <= 1
    assert guess == shipped_model().classify(text, before)


@pytest.mark.parametrize(
    "piece", ["a", "a ", "\n", "`", "(", "at a:", "no ", "\u4f60", "/", "#", "<a>", "test "], ids=range(12)
)
def test_a_huge_prompt_is_read_in_part(piece: str) -> None:
    assert len(read_prompt(piece * 500_000).text) <= 2 * 2_400  # would not end in our lifetime if a pattern ran wild


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"{}", b"\xff", b'{"version": "1", "classes": ["none"], "bias": [0], "features": {}}'],
    ids=["empty", "list", "object", "bytes", "classes"],
)
def test_damaged_parameters_are_told(content: bytes) -> None:
    with pytest.raises(IntegrityFailure, match="intent classifier"):
        parse_model(content)


def test_the_package_ships_what_training_makes() -> None:
    spec = importlib.util.spec_from_file_location("train_intents", BENCH / "train_intents.py")
    assert spec is not None
    assert spec.loader is not None
    training = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(training)
    made = training.train(*training.written())
    shipped = json.loads(
        resources.files("knowledge_system.trajectory").joinpath("parameters/intents.json").read_bytes()
    )
    assert made["classes"] == shipped["classes"]
    assert made["features"].keys() == shipped["features"].keys()
    apart = [
        abs(a - b)
        for name, row in made["features"].items()
        for a, b in zip(row, shipped["features"][name], strict=True)
    ]
    assert max(apart) <= 20  # thousandths: another processor may round differently


def test_every_class_was_trained_on_enough_prompts() -> None:
    rows = [
        json.loads(line) for line in (BENCH / "training" / "intents.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    counts = {label: sum(row["intent"] == label for row in rows) for label in {*Intent, NONE}}
    assert min(counts.values()) >= 40
    assert len({row["text"] for row in rows}) > 0.98 * len(rows)
