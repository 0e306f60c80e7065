"""What a sentence does: states a cause, a reason, a change, a result; narrates, hedges, plans, asks back.

The phrases belong to how people and agents talk about work in any stack; none names a technology. Matching is one
dictionary look-up a word, linear in the sentence.
"""

from __future__ import annotations

import re

_WORD = re.compile(r"[\w'-]+")

_PHRASES: dict[str, str] = {
    "narration": """
        let me find; let me check; let me look; let me read; let me run; let me verify; let me try; let me fix; let me
        see; let me search; let me update
    """,
    "cause": """
        because; root cause; caused by; due to; the cause; the culprit; culprit; the reason; the issue is; the
        issue was; the problem is; the problem was; the bug is; the bug was; the error is; the error was; the
        error occurs; the error occurred; the error comes; the issue here; the problem here; the issue occurs;
        the real issue; the real problem; the actual issue; the actual problem; the key issue; happens when;
        happens because; happened because; occurs when; occurs because; fails when; fails because; failed
        because; fails since; failing because; broke because; breaks because; breaks when; that's why; which is
        why; this is why; which means; which caused; which causes; causing; causes; which breaks; turned out;
        turns out; it turned out; stems from; comes from; came from; as a result of; result of; a result of;
        leads to; led to; mismatch; race condition; off by one; was never; were never; is never; wasn't being;
        weren't being; isn't being; was missing; were missing; was still; were still; were not; was not; didn't;
        overwrites; overwrote; shadowed; clobbered; collides; conflicts with; out of sync; stale; swallowed;
        silently; leaked; leaks; defaulted to; defaults to; hardcoded; hard-coded; wrongly; incorrectly; instead
        of the
    """,
    "reason": """
        because; so that; to avoid; to prevent; to ensure; in order to; this ensures; this avoids; this
        prevents; this keeps; this lets; this means; this way; ensures; avoids; prevents; guarantees; trade-off;
        tradeoff; trade-offs; tradeoffs; the downside; downside; advantage; benefit; better than; safer;
        simpler; cheaper; cleaner; faster than; more reliable; preferred; prefer; intentional; intentionally; by
        design; on purpose; deliberately; since the; since it; since we; no need; isn't needed; not needed;
        unnecessary; redundant; rationale; why; keeps; without having; hence; therefore; otherwise; at the cost
        of; worth; makes it; allows
    """,
    "choice": """
        instead of; rather than; in favor of; in favour of; over; recommend; recommended; recommendation; i'd
        recommend; i'd go; go with; went with; going with; decided; decision; chose; choose; choosing; opted;
        option; options; alternative; alternatives; approach; either; trade-off; tradeoff; trade-offs;
        tradeoffs; pros; cons; versus; vs; better; best; single source of truth; source of truth
    """,
    "fact": """
        by default; only works; only when; only if; unless; must be; must not; never; always; does not; doesn't;
        do not; don't; cannot; can't; won't; requires; required; needs to be; respects; ignores; returns;
        expects; accepts; treats; means that; refers to; stands for; equivalent to; same as; supports; unlike;
        inherits; resolves to; evaluates; is called; runs before; runs after; takes precedence; built-in; reads;
        writes; stores; stored; encodes; converts; even if; even though; even when; as long as; whereas
    """,
    "result": """
        fixed; resolved; solved; works now; now works; now work; works correctly; working now; now passes; now
        pass; tests pass; test passes; tests passed; tests are passing; all pass; all passing; all green;
        passed; is green; verified; confirmed; verification; build passes; build succeeds; builds cleanly;
        compiles; succeeds; succeeded; no longer; 0 errors; no errors; zero errors; lint clean; clean build;
        type-checks; typechecks; checks pass; back to normal; went from; dropped from; drops from; reduced from;
        down from; goes from
    """,
    "hedge": """
        might; maybe; perhaps; possibly; likely; probably; could be; may be; may need; might be; seems; seem;
        appears to; i think; i assume; i assumed; i guess; not sure; unsure; unclear; try; trying; guess;
        speculate; suspect; should work; should fix; should resolve; should help; should now; hopefully;
        assuming; if that doesn't; if it still; if this doesn't; still doesn't; one of the following; several
        reasons; few reasons; hard to say; hard to tell; don't know; not certain; potentially; presumably; would
        need to see; possibilities; possible causes; possible reasons; following possibilities; troubleshooting;
        to diagnose; might help; can help; narrow it down; narrows it down; to confirm; theory; hypothesis;
        let's see if; see if; see whether
    """,
    "plan": """
        plan; plans; planned; planning; phase; phases; milestone; next steps; next step; todo; todos; to-do;
        roadmap; backlog; sprint; ticket; tickets; proposal; proposed; i would; we would; we could; i'll; we'll;
        i will; upcoming; remaining; ready to; ready for
    """,
    "offer": """
        let me know; would you like; want me to; shall i; should i; do you want; if you want; if you'd like; if
        you like; if you prefer; i can also; happy to; feel free; if you encounter; if you need; if you have; if
        you run into; say the word; anything else; you're welcome
    """,
    "status": """
        committed; pushed; commit; commits; pushed to; pull request; pr; pr created; created pr; merged;
        rebased; branch; working tree; up to date; pushed the; staged; tagged; issue created; created issue;
        closed; moved to; marked as; task marked; in progress; completed; saved; done; started; restarted;
        running now
    """,
    "refusal": """
        i can't; i cannot; i'm unable; i am unable; i was unable; i don't have access; api error; usage limit;
        rate limit; limit reached; no response requested; cancelled; canceled; request timed out; add these
        files; add the following files; to the chat; add it to the chat; let me know which; once you provide;
        once you add; paste the output; share a snippet; i need more; need more information; could you provide;
        can you provide; could you share; can you share; please provide; please share; please paste; i
        apologize; sorry; internal error; credit balance
    """,
    "assent": """
        you're right; you are right; you're absolutely right; good catch; good point; great question; good
        question; good idea; makes sense; my mistake; my bad; i apologize; apologies
    """,
}
_OPENINGS: dict[str, str] = {
    "narration": """
        let me; let's; i'll; i will; i'm going to; i am going to; i need to; i'm now; i should; i want to; i can
        see; running; checking; looking; reading; searching; starting; continuing; implementing; proceeding;
        exploring; examining; verifying; testing; updating; adding; creating; writing; fixing the; applying;
        time to; now i; now let; now update; now add; now fix; now run; now the; now check; now create; now
        that; first; next; then; finally; let us; we need to; we'll; going to; i've been; i have been; moving;
        on to; read; searched; listed; edited; ran; here's the; here is the; here are the; here's how; i see; i
        found; found; i notice; i noticed; wait; actually; hmm; okay; voy a; vamos a; vou; ich werde; je vais
    """,
    "done": """
        added; changed; removed; replaced; moved; renamed; updated; switched; extracted; introduced; created;
        implemented; refactored; rewrote; rewritten; fixed; deleted; dropped; split; merged; wrapped; converted;
        migrated; bumped; pinned; enabled; disabled; made; uses; used; configured; registered; guarded; cached;
        batched; inlined; consolidated; simplified; restored; wired; exposed; extended; enhanced; integrated; i
        added; i changed; i removed; i replaced; i moved; i renamed; i updated; i switched; i extracted; i
        implemented; i fixed; i made; i've added; i've changed; i've removed; i've replaced; i've moved; i've
        updated; i've switched; i've extracted; i've implemented; i've fixed; i've made; i've cleaned; i've
        extended; we now; it now; now uses; now returns; changed to; returns; now shows; now supports; both now;
        all now; applied; patched; reworked; corrected
    """,
    "advice": """
        the fix; fix; solution; the solution; add; change; remove; replace; move; rename; update; switch;
        extract; create; implement; refactor; rewrite; delete; drop; wrap; convert; set; set up; skip; keep;
        treat; pass; stop; use; make; run; put; define; call; check; ensure; avoid; configure; enable; disable;
        install
    """,
}
_FILLERS = frozenset(
    [
        "good",
        "great",
        "perfect",
        "ok",
        "okay",
        "so",
        "and",
        "also",
        "well",
        "right",
        "yes",
        "yep",
        "no",
        "sure",
        "got",
        "it",
        "alright",
        "excellent",
        "now",
        "then",
        "interesting",
        "indeed",
        "exactly",
        "absolutely",
        "done",
        "confirmed",
        "clean",
    ]
)
_FOREIGN: dict[str, str] = {
    "cause": """
        weil ursache wegen porque causa debido parce cause problème провал потому причина из-за 因为
        由于 原因 导致 問題 原因
    """,
    "reason": """
        damit sodass para_que afin para_evitar чтобы поэтому 以便 避免 为了 确保 所以 evitar éviter vermeide
    """,
    "choice": """
        statt anstatt en_lugar em_vez au_lieu вместо лучше 而不是 建议 推荐 mejor melhor besser plutôt
    """,
    "result": """
        behoben gelöst funktioniert corregido arreglado funciona corrigido resolvido corrigé
        résolu исправлено исправил работает проходят 已修复 修复 通过 已解决 成功 pasan passam
    """,
    "done": """
        hinzugefügt geändert ersetzt añadí añadido agregué cambié adicionei alterei ajouté
        remplacé добавил добавлен заменил изменил 添加 修改 替换 新增 删除 实现
    """,
    "hedge": """
        vielleicht möglicherweise quizás talvez peut-être возможно наверное 可能 也许 或许
    """,
    "refusal": """
        tut_mir_leid lo_siento desculpe désolé извините 抱歉 无法
    """,
}
"""Stems in German, Spanish, Portuguese, French, Russian, Chinese; `_` stands for a space."""


def _table(source: dict[str, str]) -> dict[str, list[tuple[list[str], str]]]:
    found: dict[str, list[tuple[list[str], str]]] = {}
    for mark, phrases in source.items():
        for phrase in phrases.split(";"):
            words = phrase.split()
            found.setdefault(words[0], []).append((words[1:], mark))
    return found


_ANYWHERE = _table(_PHRASES)
_AT_START = _table(_OPENINGS)
_FOREIGN_STEMS = [(stem.replace("_", " "), mark) for mark, stems in _FOREIGN.items() for stem in stems.split()]


def words_of(text: str) -> list[str]:
    """Return the lower-case words of `text`, apostrophes kept (`don't`)."""
    return _WORD.findall(text.lower().replace("\u2019", "'"))


def marks(text: str) -> frozenset[str]:
    """Return what the sentence does; `question` when it ends in a question mark, empty for plain statements."""
    words = words_of(text)
    found = {"question"} if text.rstrip("\"')*_` ").endswith(("?", "\uff1f")) else set()
    for position, word in enumerate(words):
        if phrases := _ANYWHERE.get(word):
            _collect(words, position + 1, phrases, found)
    for position, word in enumerate(words[:4]):
        if phrases := _AT_START.get(word):
            _collect(words, position + 1, phrases, found)
        if word not in _FILLERS:
            break
    if not text.isascii():
        lowered = text.lower()
        found.update(mark for stem, mark in _FOREIGN_STEMS if stem in lowered)
    return frozenset(found)


def _collect(words: list[str], start: int, phrases: list[tuple[list[str], str]], found: set[str]) -> None:
    for rest, mark in phrases:
        if not rest or words[start : start + len(rest)] == rest:
            found.add(mark)
