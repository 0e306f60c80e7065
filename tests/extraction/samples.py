"""Exchanges written for the tests: some for types of knowledge, some for kinds of junk."""

from __future__ import annotations

from dataclasses import replace

from tests.extraction.episodes import BUG, edit, episode, run

from knowledge_system.domain.knowledge import Episode, KnowledgeType

KNOWLEDGE: list[tuple[set[KnowledgeType], Episode]] = [
    ({KnowledgeType.BUG_SOLUTION}, BUG),
    (
        {KnowledgeType.BUG_SOLUTION},
        episode(
            "photos are rotated after upload from iphones",
            "The resize step drops the EXIF block, and with it the orientation flag, because `Image.save()` writes"
            " no metadata"
            " unless it is handed over. I apply `ImageOps.exif_transpose()` before resizing in `photos/resize.py`,"
            " so the"
            " pixels themselves are upright. 31 tests pass, with a portrait photo as a new case.",
            "thanks, works",
            tools=[edit("photos/resize.py"), run("pytest", "31 passed")],
        ),
    ),
    (
        {KnowledgeType.ARCHITECTURAL_DECISION},
        episode(
            "should we put the audit trail in the main database or in its own store?",
            "I recommend the main database, in a schema of its own. A separate store would scale further, but then"
            " the write"
            " is no longer in the same transaction, and an audit that can miss entries is worth little. The"
            " drawback is that"
            " backups grow; partitioning by quarter keeps that under control. If volume exceeds a few thousand"
            " rows per"
            " second, an outbox to a separate store is the better option.",
            "agreed, go with that",
        ),
    ),
    (
        {KnowledgeType.TOOL_USAGE},
        episode(
            "what is the difference between docker stop and docker kill?",
            "`docker stop` sends SIGTERM and only after ten seconds SIGKILL, so the process can finish its work;"
            " `--time`"
            " changes the wait. `docker kill` sends SIGKILL at once, or another signal with `--signal`. A shell as"
            " process 1"
            " does not forward SIGTERM, which is why `exec` in the entry point matters.",
            "good to know",
        ),
    ),
    (
        {KnowledgeType.OPTIMIZATION},
        episode(
            "the product list takes 4 seconds, can it be faster?",
            "The list ran one query per product for its price: 240 queries. I load all prices in one query with"
            " `WHERE product_id = ANY(...)` and cache the exchange rate for a minute. Response time went from 4.1"
            " s to 180 ms,"
            " measured with 50 requests. All tests pass.",
            "wow, commit",
            tools=[edit("shop/prices.py"), run("pytest", "301 passed")],
        ),
    ),
    (
        {KnowledgeType.TEST_STRATEGY},
        episode(
            "how do I test the code that talks to the mail server?",
            "Start a small SMTP server in the test with `aiosmtpd` on a free port instead of mocking `smtplib`: a"
            " mock only"
            " repeats the calls you wrote, while the server checks the real message, its encoding and its headers."
            " The fixture"
            " collects messages in a list, and each test asserts on recipients and body. It starts in about 20 ms.",
            "nice, do it",
        ),
    ),
    (
        {KnowledgeType.REFACTORING},
        episode(
            "OrderView does everything, please split it",
            "Split `OrderView` into `OrderQuery`, which loads and filters, and `OrderTable`, which only renders"
            " rows. The"
            " filter code existed twice and is shared now, so the export shows the same rows as the page."
            " Behaviour is"
            " unchanged: 88 tests pass without edits, and the class went from 710 to 130 lines.",
            "great",
            tools=[edit("views/order.py"), run("pytest", "88 passed")],
        ),
    ),
    (
        {KnowledgeType.IMPLEMENTATION_STRATEGY, KnowledgeType.INTEGRATION_PATTERN},
        episode(
            "users should be able to import contacts from a vcard file",
            "Added the import. `contacts/vcard.py` parses versions 3 and 4 line by line, so a file with 50,000"
            " cards needs no"
            " more memory than one. Duplicates are found by e-mail address and merged: empty fields are filled,"
            " others stay."
            " The upload runs as a background job and reports how many were added, merged and skipped. 19 new"
            " tests, all green.",
            "perfect",
            tools=[edit("contacts/vcard.py"), run("pytest", "211 passed")],
        ),
    ),
    (
        {KnowledgeType.DEPLOYMENT_APPROACH},
        episode(
            "how do we keep the old containers running until the new release is healthy?",
            "Set `order: start-first` in the update configuration of the stack and give the service a health"
            " check. Swarm then"
            " starts the new container, waits until the check passes and stops the old one; with `failure_action:"
            " rollback`"
            " a release that never becomes healthy is undone. Both versions run side by side for a moment, so"
            " migrations must"
            " be compatible with the release before.",
            "thanks, deployed",
            tools=[edit("deploy/stack.yml"), run("docker stack deploy -c deploy/stack.yml shop")],
        ),
    ),
]

JUNK: dict[str, Episode] = {
    "chore": episode("commit this and push", "Committed as `a1b2c3d` and pushed to `main`. The working tree is clean."),
    "status": episode(
        "how far are you?", "Three of five pages are done. Open are the profile and the help page. I'll go on."
    ),
    "plan": episode(
        "make a plan for the relaunch",
        "# Plan\n\n## Phase 1\n- Design\n- Content\n\n## Phase 2\n- Build the pages\n- Tests\n\nShall I create the"
        " tickets?",
        "yes",
    ),
    "interrupted": replace(BUG, exchange=replace(BUG.exchange, facts=replace(BUG.exchange.facts, interrupted=True))),
    "empty": episode("why does it crash?", ""),
    "guess": episode(
        "the printer is not found",
        "It might be the driver or possibly the network. Try reinstalling the driver, maybe restart the spooler as"
        " well.",
        "no, still not found",
    ),
    "undone": replace(BUG, following=episode("", "", "revert that, please").following),
    "chit-chat": episode(
        "good morning!", "Good morning! What shall we work on today? I'm happy to help with anything."
    ),
    "question back": episode(
        "fix the form", "Which form do you mean, the one for login or the one for orders?", "orders"
    ),
    "no access": episode(
        "check the server", "I don't have access to the server. Could you paste the last lines of the log?"
    ),
    "wording": episode("make the title shorter", "Changed the title of the page to 'Orders'.", "ok"),
    "interim": episode(
        "find the leak", "Let me look at the allocations first.\n\nNow I'll run the profiler on the worker:"
    ),
    "generic": episode(
        "how do I get better at programming?",
        "Practice every day, read other people's code, write tests, and build small projects that you enjoy. Don't"
        " give up!",
    ),
    "paperwork": episode(
        "add it to the changelog",
        "I added two entries to the `[Unreleased]` section of `CHANGELOG.md` and corrected the date in `README.md`.",
        "thanks",
    ),
}
