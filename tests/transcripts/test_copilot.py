"""VS Code Copilot chat exports."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from tests.transcripts.samples import Result

from knowledge_system.transcripts import documents

if TYPE_CHECKING:
    from collections.abc import Callable


def _export(*requests: Any, **more: Any) -> str:
    return json.dumps({"responderUsername": "GitHub Copilot", "initialLocation": "panel", "requests": requests, **more})


def _request(text: Any = "why?", *parts: Any, number: int = 1, **more: Any) -> dict[str, Any]:
    return {
        "requestId": f"request_{number}", "message": {"text": text, "parts": []}, "response": list(parts),
        "result": {"metadata": {}}, "timestamp": 1772710200000, "modelId": "copilot/gpt-5.1", **more,
    }  # fmt: skip


def _tool(tool: str, key: str, **more: Any) -> dict[str, Any]:
    return {
        "kind": "toolInvocationSerialized",
        "toolId": tool,
        "toolCallId": key,
        "pastTenseMessage": {"value": "Did"},
        **more,
    }


def test_every_request_is_an_exchange(read: Callable[..., Result]) -> None:
    result = read(_export(_request("a", {"value": "1"}), _request("b", {"value": "2"}, number=2)))
    assert (result.prompts, result.answers) == (["a", "b"], ["1", "2"])
    first = result.exchanges[0]
    assert (first.session.id, first.session.agent, first.session.project) == ("request_1", "copilot", "shop")
    assert first.timestamp == datetime.fromtimestamp(1772710200, UTC)
    assert first.facts.model == "copilot/gpt-5.1"


def test_a_sentence_in_pieces_is_put_together(read: Callable[..., Result]) -> None:
    link = {"kind": "inlineReference", "inlineReference": {"path": "/home/dana/shop/src/Price.tsx", "scheme": "file"}}
    symbol = {
        "kind": "inlineReference",
        "name": "render",
        "inlineReference": {"location": {"uri": {"path": "/x/y.ts"}}},
    }
    parts = ({"value": "Look at "}, link, {"value": ", mostly "}, symbol, {"value": "."})
    assert read(_export(_request("a", *parts))).answers == ["Look at `Price.tsx`, mostly `render`."]


def test_text_after_a_tool_is_a_new_paragraph(read: Callable[..., Result]) -> None:
    parts = ({"value": "First."}, {"kind": "thinking", "value": "hidden"}, _tool("search", "t1"), {"value": "Second."})
    assert read(_export(_request("a", *parts))).answers == ["First.\n\nSecond."]


def test_calls_get_their_arguments_and_results_from_the_rounds(read: Callable[..., Result]) -> None:
    metadata = {
        "toolCallRounds": [{"toolCalls": [{"id": "t1", "name": "readFile", "arguments": '{"filePath":"/x"}'}]}],
        "toolCallResults": {"t1": {"content": [{"value": "Error calling tool 'readFile'"}, {"value": "more"}]}},
    }
    exchange = read(_export(_request("a", _tool("copilot_readFile", "t1"), result={"metadata": metadata}))).exchanges[0]
    (tool,) = exchange.tools
    assert (tool.name, tool.input) == ("copilot_readFile", '{"filePath": "/x"}')
    assert (tool.output, tool.is_error) == ("Error calling tool 'readFile'\n\nmore".replace("\n\n", "\n"), True)


def test_results_in_the_invocation_itself(read: Callable[..., Result]) -> None:
    details = {"input": '{"q": 1}', "output": [{"value": "found"}], "isError": False}
    (tool,) = read(_export(_request("a", _tool("find", "t1", resultDetails=details)))).exchanges[0].tools
    assert (tool.input, tool.output) == ('{"q": 1}', "found")


def test_terminal_commands_and_edited_files(read: Callable[..., Result]) -> None:
    special = {"kind": "terminal", "commandLine": {"original": "npm test"}}
    edit = {"kind": "textEditGroup", "uri": {"path": "/home/dana/shop/src/a.ts"}, "edits": []}
    facts = (
        read(_export(_request("a", _tool("run_in_terminal", "t", toolSpecificData=special), edit))).exchanges[0].facts
    )
    assert (facts.commands, facts.files) == (("npm test",), ("/home/dana/shop/src/a.ts",))


@pytest.mark.parametrize(
    "more", [{"isCanceled": True}, {"result": {"errorDetails": {"code": "canceled", "message": "Canceled"}}}]
)
def test_a_cancelled_request_is_interrupted(read: Callable[..., Result], more: dict[str, Any]) -> None:
    facts = read(_export(_request("a", {"value": "I will"}, **more))).exchanges[0].facts
    assert (facts.interrupted, facts.notes) == (True, ())


def test_a_failed_request_says_why(read: Callable[..., Result]) -> None:
    failed = {"errorDetails": {"code": "failed", "message": "Server error."}}
    facts = read(_export(_request("a", result=failed))).exchanges[0].facts
    assert (facts.interrupted, facts.notes) == (False, ("Server error.",))


def test_a_hand_made_file_of_prompts_and_completions(read: Callable[..., Result]) -> None:
    result = read(json.dumps({"requests": [{"prompt": "p", "completion": "c"}]}, indent=1))
    assert (result.prompts, result.answers) == (["p"], ["c"])


def test_the_attached_files_in_the_rendered_message_are_not_the_prompt(read: Callable[..., Result]) -> None:
    rendered = {"metadata": {"renderedUserMessage": [{"text": "x" * 600_000}]}}
    (exchange,) = read(_export(_request("short question", result=rendered))).exchanges
    assert exchange.user == "short question"
    assert len(repr(exchange)) < 2000


def test_a_file_that_breaks_off_gives_what_it_holds(read: Callable[..., Result]) -> None:
    whole = _export(_request("a", {"value": "1"}), _request("b", {"value": "2"}, number=2))
    result = read(whole[: whole.index('"b"') + 20])
    assert result.prompts == ["a", "b"]
    assert "requests[1]: the JSON breaks off here" in result.reasons


def test_requests_that_are_none(read: Callable[..., Result]) -> None:
    result = read(_export(_request("a"), None, 5, ["x"]))
    assert result.prompts == ["a"]
    assert "requests[1]: a request that is no JSON object was skipped (3 times)" in result.reasons


def test_bytes_that_are_no_utf8_are_replaced(read: Callable[..., Result]) -> None:
    raw = _export(_request("caf\u00e9")).encode().replace(b"caf\\u00e9", b"caf\xe9")
    assert read(raw).prompts == ["caf\ufffd"]


def test_a_request_too_large_ends_the_reading_with_a_warning(
    read: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "ELEMENT_LIMIT", 300_000)
    result = read(_export(_request("a", {"value": "1"}), _request("b", {"value": "x" * 900_000})))
    assert result.prompts == ["a"]
    assert "requests[1]: a request of more than" in result.reasons


def test_a_growing_export_is_read_whole_again(read: Callable[..., Result]) -> None:
    state = read(_export(_request("a"))).state
    assert (state.format, state.resume) == ("copilot_chat_json", {})
