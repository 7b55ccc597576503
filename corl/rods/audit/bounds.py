"""What holds of a file as a whole: its bounds, each with its value and its limit."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from corl.data.items import Item
from corl.rods.audit.facts import Facts
from corl.rods.audit.judge import Finding, Verdict
from corl.rods.audit.shortcut import Shortcut, option_only

ANSWER_SHARE = 0.02
RARE_SHARE = 0.5
SINGLE_CLUE = 0.6
OPTION_ONLY = 0.03
FEATURES = ("characters", "words", "degree", "aliases", "rarity")


@dataclass(frozen=True, slots=True)
class Bound:
    name: str
    value: str
    limit: str
    holds: bool
    note: str = ""


def file_bounds(items: Sequence[Item], verdicts: Sequence[Verdict], facts: Facts) -> tuple[list[Bound], list[Finding]]:
    """The bounds in the order of the last line, then the others; and the findings they come from."""
    duplicates = _duplicates(items, verdicts)
    findings = [finding for verdict in verdicts for finding in verdict.findings] + duplicates
    bounds = [_items_with(findings, "ambiguous"), _items_with(findings, "leak", "leaks")]
    bounds += [*_option_only(items, verdicts, facts), _single_clue(verdicts), _letters(items), _rare(verdicts, facts)]
    bounds += [_answer_share(verdicts, facts), _count(duplicates, "duplicate_id", "duplicate ids")]
    bounds += [_count(duplicates, "duplicate", "duplicate questions")]
    return bounds, findings


def _items_with(findings: Sequence[Finding], kind: str, name: str = "") -> Bound:
    count = len({finding.id for finding in findings if finding.kind == kind})
    return Bound(name or kind, str(count), "0", count == 0)


def _count(findings: Sequence[Finding], kind: str, name: str) -> Bound:
    count = sum(finding.kind == kind for finding in findings)
    return Bound(name, str(count), "0", count == 0)


def _option_only(items: Sequence[Item], verdicts: Sequence[Verdict], facts: Facts) -> list[Bound]:
    """The bound, on the features' sizes; and, told only, what their ranks within the item give away.

    A file may be level in every size and still have a key that is never the longest nor the shortest.
    """
    # What is no single letter is a finding already and has no key to learn.
    rows = [row for row, item in enumerate(items) if item.answer in item.options]
    if not rows:
        return [Bound("option_only", "-/-", "no item with one key", False)]
    features = [_option_features(items[row], verdicts[row], facts) for row in rows]
    keys = [list(items[row].options).index(items[row].answer) for row in rows]
    answers = [_answer_name(items[row], verdicts[row], facts) for row in rows]
    result = option_only(features, keys, answers, FEATURES, points=OPTION_ONLY)
    note = _telling(result)
    if result.allowance > OPTION_ONLY:
        above = f"{100 * result.allowance:.1f} points are 2.33 standard errors of guessing"
        note += f"; {above}, more than {100 * OPTION_ONLY:.0f}"
    holds = result.accuracy <= result.chance + result.allowance
    limit = _percent(result.chance + result.allowance)
    by_rank = option_only(features, keys, answers, FEATURES, by_rank=True)
    told = Bound("option_only by ranks", _over_chance(by_rank), "none, told", True, _telling(by_rank))
    return [Bound("option_only", _over_chance(result), limit, holds, note), told]


def _over_chance(result: Shortcut) -> str:
    return f"{_percent(result.accuracy)}/{_percent(result.chance)}"


def _telling(result: Shortcut) -> str:
    telling = sorted(result.weights, key=lambda name: -abs(result.weights[name]))[:3]
    return "weights " + ", ".join(f"{name} {result.weights[name]:+.2f}" for name in telling)


def _option_features(item: Item, verdict: Verdict, facts: Facts) -> list[list[float]]:
    graph, rows = facts.graph, []
    for text, nodes in zip(item.options.values(), verdict.options, strict=True):
        row = [float(len(text)), float(len(text.split()))]
        if nodes:
            aliases = graph.aliases_zh if item.lang == "zh" else graph.aliases_en
            row += [float(graph.degrees[nodes[0]]), float(len(aliases[nodes[0]])), facts.rarity(nodes[0])]
        else:
            row += [0.0, 0.0, 0.5]
        rows.append(row)
    return rows


def _answer_name(item: Item, verdict: Verdict, facts: Facts) -> str:
    return facts.graph.names[verdict.answer] if verdict.answer >= 0 else item.options.get(item.answer, item.answer)


def _single_clue(verdicts: Sequence[Verdict]) -> Bound:
    chances = [verdict.best_single for verdict in verdicts if verdict.best_single is not None]
    rate = sum(chances) / len(chances) if chances else 0.0
    note = f"over {len(chances)} items with two clues or more"
    return Bound("single_clue", _percent(rate), _percent(SINGLE_CLUE), rate <= SINGLE_CLUE, note)


def _letters(items: Sequence[Item]) -> Bound:
    """Within each number of options, over all its letters: those that never are the key too."""
    tables: dict[int, Counter[str]] = defaultdict(Counter)
    for item in items:
        tables[len(item.options)].update(dict.fromkeys(item.options, 0))
        tables[len(item.options)][item.answer] += 1
    gap = max(max(table.values()) - min(table.values()) for table in tables.values())
    note = "; ".join(
        f"{size} options: " + " ".join(f"{letter} {count}" for letter, count in sorted(table.items()))
        for size, table in sorted(tables.items())
    )
    return Bound("letters", str(gap), "1", gap <= 1, note)


def _rare(verdicts: Sequence[Verdict], facts: Facts) -> Bound:
    count = sum(verdict.answer >= 0 and facts.rare(verdict.answer) for verdict in verdicts)
    rate = count / len(verdicts)
    return Bound("rare", _percent(rate), f"{_percent(RARE_SHARE)} or more", rate >= RARE_SHARE)


def _answer_share(verdicts: Sequence[Verdict], facts: Facts) -> Bound:
    limit = max(1, int(ANSWER_SHARE * len(verdicts) + 1e-9))
    counts = Counter(verdict.answer for verdict in verdicts if verdict.answer >= 0)
    most = max(counts.values(), default=0)
    often = [f"{facts.graph.names[node]!r} {count}" for node, count in counts.most_common(5) if count > limit]
    return Bound("most items of one answer", str(most), str(limit), most <= limit, ", ".join(often))


def _duplicates(items: Sequence[Item], verdicts: Sequence[Verdict]) -> list[Finding]:
    """Ids, question texts and contents (clues, what is asked, answer; whatever the language) that an item repeats."""
    findings: list[Finding] = []
    ids: set[str] = set()
    texts: dict[str, str] = {}
    contents: dict[tuple[object, ...], str] = {}
    for item, verdict in zip(items, verdicts, strict=True):
        if item.id in ids:
            findings.append(Finding(item.id, "duplicate_id", "an earlier item has this id"))
        ids.add(item.id)
        text = " ".join(item.question.casefold().split())
        content: tuple[object, ...] = ()
        if (claim := verdict.claim) is not None:
            content = (claim.shape, frozenset(claim.clues), claim.asked, claim.excluded, claim.contrast, verdict.answer)
        if text in texts:
            findings.append(Finding(item.id, "duplicate", f"the text of {texts[text]}"))
        elif content and content in contents:
            findings.append(Finding(item.id, "duplicate", f"clues, what is asked and answer of {contents[content]}"))
        texts.setdefault(text, item.id)
        contents.setdefault(content, item.id)
    return findings


def _percent(rate: float) -> str:
    return f"{100 * rate:.1f}"
