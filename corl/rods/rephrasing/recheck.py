"""Whether a rephrased question still asks what was proven; a reason where it does not."""

import re
import unicodedata
from collections import Counter

from corl.data.checking.encoding import artefacts
from corl.data.items import Item
from corl.rods.audit.facts import Facts
from corl.rods.audit.judge import Judge
from corl.rods.audit.surfaces import Surfaces
from corl.rods.cot.checks.style import in_language, word_count
from corl.rods.graph import Graph
from corl.rods.prose.mentions import Mentions

_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_NEGATION = re.compile(
    r"\b(?:not|no|never|neither|nor|none|without|except|excluding|other than|least|unlike|avoid\w*|contraindicat\w*"
    r"|leav\w+ aside|apart from|barr\w+|rul\w+ out|must be avoided|rather than)\b|n't\b|不|除|非|无|未|没有|避免|禁",
    re.IGNORECASE,
)
_MARKUP = re.compile(r"</?\w+>|\*\*|\[\[|\{\{|^#|```|^[A-Z][.)] ", re.MULTILINE)
_SHORTEST, _LONGEST = 0.4, 2.5  # times the template's words


class Recheck:
    """The judges of one graph, made once."""

    def __init__(self, graph: Graph) -> None:
        self.graph, self.mentions = graph, Mentions(graph)
        self.judge = Judge(Facts(graph), Surfaces(graph))

    def problem(self, template: Item, rephrased: Item) -> str | None:
        """Why the rephrased item may not take the template's place; None where it may.

        The audit must find nothing that it did not find before: every clue named by name or alias, the answer neither
        named nor hinted at. Beyond that: no node that the template does not name, the same numbers, negation where it
        had one and only there, its language, about its length, one line of plain text.
        """
        old, new = template.question, rephrased.question
        if artefacts(new) or _MARKUP.search(new) or "\n" in new or not new.isprintable():
            return "not plain text on one line"
        if in_language(new, template.lang) is False:
            return "another language"
        if not _SHORTEST <= word_count(new) / max(1, word_count(old)) <= _LONGEST:
            return "much shorter or longer"
        if _numbers(old) != _numbers(new):
            return "other numbers"
        if bool(_NEGATION.search(old)) != bool(_NEGATION.search(new)):
            return "a negation more or less"
        options = [text.casefold() for text in template.options.values()]
        if any(text in new.casefold() and text not in old.casefold() for text in options):
            return "names an option"
        before = {(finding.kind, finding.detail) for finding in self.judge.judge(template).findings}
        after = [f for f in self.judge.judge(rephrased).findings if (f.kind, f.detail) not in before]
        if after:
            return f"{after[0].kind}: {after[0].detail}"
        if strangers := self._strangers(template, new):
            return f"names {', '.join(strangers)}"
        return None

    def _strangers(self, template: Item, question: str) -> list[str]:
        """Names in the new wording of nodes that the old one does not name and the item's clues do not hold."""
        told = {node for mention in self.mentions.find(template.question) for node in mention.nodes}
        told |= {self.graph.ids[name] for name in _named(template) if name in self.graph.ids}
        return [mention.surface for mention in self.mentions.find(question) if not told & set(mention.nodes)]


def _named(item: Item) -> list[str]:
    """The nodes that a stem may name: clues, the excluded one, the contrast."""
    meta = item.meta
    clues = [clue.get("node") for clue in meta.get("clues") or () if isinstance(clue, dict)]
    excluded = meta.get("excluded")
    names = [*clues, excluded.get("node") if isinstance(excluded, dict) else None, meta.get("contrast")]
    return [name for name in names if isinstance(name, str)]


def _numbers(text: str) -> Counter[str]:
    return Counter(_NUMBER.findall(unicodedata.normalize("NFKC", text)))
