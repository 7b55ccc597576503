"""A parameter's value as a list of things: what is an entity, what is a phrase around one, what is nothing.

The rule that keeps the graph right: a link is the thing named only where it is the whole item, or the item without a
parenthesis or a word of degree. "Inability to sleep after [[childbirth]]" is a phrase; childbirth is not its object.
"""

import re
from dataclasses import dataclass

from corl.rods.extraction.box import BREAK
from corl.rods.extraction.titles import split_disambiguator, title_key
from corl.rods.extraction.wikitext import NOTE

MAX_WORDS = 8  # of a phrase; longer ones are sentences
MAX_PIECE = 1000  # characters between two commas; beyond it nothing is a list


@dataclass(frozen=True, slots=True)
class ListItem:
    """One thing of a list. `target` is the linked article's title key, "" where the item is a phrase of its own.

    `whole`: the item is that link or phrase and nothing besides. `alias`: an acronym in parentheses behind it.
    `note`: whose symptom it is ("Baby"), where the list said so.
    """

    text: str
    target: str = ""
    whole: bool = True
    alias: str = ""
    italic: bool = False
    note: str = ""


_LINK = re.compile(r"\[\[([^\[\]|]*)(?:\|([^\[\]]*))?\]\]([a-z]*)")
_LABEL = re.compile(r"^\s*(?:'''+([^':\n\[\]]{1,40}?):?'''+\s*:?|([A-Z][^':,;\[\]\n()]{1,30}):)(?=\s|\[|$)")
_WORD_AND = re.compile(r"\s+(?:and/or|and|or|&|as well as)\s+", re.I)
_LEADING = re.compile(
    r"^(?:and/or|and|or|&|as well as|also|e\.g\.|i\.e\.|including|include|includes|may include|such as|usually|often|"
    r"sometimes|typically|commonly|rarely|occasionally|generally|mainly|mostly|primarily|possibly|possible|"
    r"potential|potentially|especially|particularly|initially|later|at first|certain|some|various|"
    r"the|an?)(?![\w-])[\s:,]+(?=\S)",
    re.I,
)
_DEGREE = re.compile(
    r"\b(?:severe|mild|moderate|frequent|occasional|recurrent|persistent|routine|sudden|gradual|progressive|intense|"
    r"extreme|slight|long-term|short-term|oral|topical|intravenous|iv|im|inhaled|injected|systemic|other|use of|"
    r"initial|first-line|second-line|therapeutic|usual|common|rare|by (?:injection|mouth|inhalation))\b",
    re.I,
)
_NOTHING = re.compile(
    r"^(?:none|no|unknown|unclear|uncertain|variable|varies|various|varied|others?|many|multiple|several|numerous|any|"
    r"etc\.?|n/?a|not applicable|not known|not specified|unspecified|yes|see text|see below|see article|all|both|"
    r"(?:often|usually|typically|generally|frequently|mostly|early)?\s*(?:none|unknown|asymptomatic|"
    r"variable)(?: known)?|"
    r"(?:depends?|depending|dependent|varies|varying|variable|based) (?:on|up|with|by)\b.*|see .*|"
    r"(?:no|not|none|without|un)\s.*|"
    r"(?:signs?|symptoms?|signs and symptoms|medication|drugs?|treatment|cause|causes|diagnosis|risk|risk factors?|"
    r"complications?|types?|side effects?|interactions?|prevention|symptomatic|supportive|specific)|"
    r"(?:an?|the)?\s*(?:others?|unknown|variable|different|similar|same)\s+(?:cause|causes|reasons?|factors?|"
    r"conditions?|drugs?|medications?|types?|symptoms?|disorders?|diseases?|treatments?|ones?)|"
    r"among others|and others|others? causes?|desconocid[ao]|ningun[ao]|otr[ao]s|ninguno|otros)$",
    re.I,
)
_FRAGMENT = re.compile(
    r"^(?:due to|because|which|that|when|where|who|if|from|of|in|on|by|with|for|to|at|as|than|but|then|is|are|was|"
    r"be|has|have|may|can|will|after|before|during|caused|associated|related|resulting|leading|affecting|followed|"
    r"unlike|rather|instead|except|ruling out|rule out|exclusion of|excluding)\b",
    re.I,
)
_BASED_ON = re.compile(
    r"^(?:usually |often |typically |generally )?(?:based (?:up)?on|by|clinical(?:ly)?,? by)\b\s*", re.I
)
_DEFICIT = re.compile(
    r"^(?:trouble|difficulty|difficulties|problems?|impairments?|deficits?|inability|loss|lack|changes?|impaired|"
    r"decreased ability)\b",
    re.I,
)
_GOVERNED = re.compile(r"^(?:trouble|difficulty|difficulties|problems?|impairments?|deficits?)\s+(?:with|in)\s", re.I)
_PREPOSITION = re.compile(r"\b(?:of|in|with|to|from|after|before|during|for|by|on|at|between|due|than)\b", re.I)
_ADJECTIVE = re.compile(
    r"(?:ic|al|ous|ive|ary|ular|oid|ent|ant|able|ible|ed|ile|atic|tory)$|^(?:red|dry|hot|cold|weak|blue|dark|pale|low|"
    r"high|fast|slow|rapid|poor|bad|good|early|late|left|right|upper|lower|small|large|type|pre|post|short|long|old|"
    r"young|male|female|lung|heart|skin|eye|ear|nose|oral|genital|nasal)$",
    re.I,
)
_SEPARATORS = ";\u3001\uff0c\uff1b\u2022\u00b7"
_CHARACTERS = {0xA0: " ", 0x2009: " ", 0x202F: " ", 0x3000: " ", 0xB5: "\u03bc"}
_MARKUP = re.compile(r"\{\{|\}\}|\[\[|\]\]|https?:|\||=|\x02")


def split_list(value: str, *, subject: str = "", dropped: list[str] | None = None) -> list[ListItem]:
    """The items of a list in their order. `subject` is the page's title; reasons for lost items go to `dropped`."""
    dropped = [] if dropped is None else dropped
    items: list[ListItem] = []
    value = convert_variants(value).replace(NOTE, "")
    for line in _lines(value):
        note = ""
        if label := _LABEL.match(line):
            note = " ".join((label.group(1) or label.group(2)).split())
            line = line[label.end() :]
        governed = based_on = False
        pieces = _pieces(line)
        for piece in pieces:
            if len(piece) > MAX_PIECE:
                dropped.append("phrase_too_long")
                continue
            if based := _BASED_ON.match(piece):
                based_on, piece = True, piece[based.end() :]
            for part in _split_and(piece, listed=len(pieces) > 1):
                item, reason = _item(part, subject)
                if item is None:
                    if reason:
                        dropped.append(reason)
                elif based_on and not item.target:
                    dropped.append("based_on")  # "based on symptoms": no test
                elif governed and not (item.target and item.whole) and "[[" in part:
                    dropped.append("governed")  # "trouble with [[speech]], [[x|verbal]] and [[y]]": more of the trouble
                else:
                    items.append(ListItem(item.text, item.target, item.whole, item.alias, item.italic, note))
            governed = bool(_GOVERNED.match(piece.strip())) and "[[" in piece
    return items


def convert_variants(text: str) -> str:
    """`-{zh-hans:A;zh-hant:B}-` as A, other `-{A}-` as A."""

    def chosen(match: re.Match[str]) -> str:
        variants = dict(part.split(":", 1) for part in match.group(1).split(";") if ":" in part)
        variants = {name.strip(): text for name, text in variants.items()}
        for name in ("zh-hans", "zh-cn", "zh"):
            if name in variants:
                return variants[name].strip()
        return next(iter(variants.values()), match.group(1)).strip()

    return re.sub(r"-\{([^{}]{0,500})\}-", chosen, text)


def _lines(value: str) -> list[str]:
    return [" ".join(line.split()) for line in re.split(rf"{BREAK}|\n\s*\n", value) if line.strip()]


def _pieces(line: str) -> list[str]:
    """Cut at commas and semicolons outside links and parentheses; "100,000" and "2,3-diol" stay whole."""
    pieces, depth, start, i = [], 0, 0, 0
    nested = line.count("(") + line.count("\uff08") == line.count(")") + line.count("\uff09")
    while i < len(line):
        if line.startswith("[[", i) and (end := line.find("]]", i)) > 0:
            i = end + 2
            continue
        c = line[i]
        if nested and c in "(\uff08":
            depth += 1
        elif nested and c in ")\uff09":
            depth = max(0, depth - 1)
        elif not depth and (c in _SEPARATORS or (c == "," and not _inside_number(line, i))):
            pieces.append(line[start:i])
            start = i + 1
        i += 1
    pieces.append(line[start:])
    return [piece.strip() for piece in pieces if piece.strip()]


def _inside_number(line: str, i: int) -> bool:
    return i > 0 and line[i - 1].isdigit() and line[i + 1 : i + 2].isdigit()


def _split_and(piece: str, *, listed: bool) -> list[str]:
    """The parts of "A and B" where both can stand alone; adjectives and prepositions bind them together."""
    piece = _strip_leading(piece)
    parts = _top_level_split(piece)
    if len(parts) == 1:
        return parts
    shown = [_shown(part) for part in parts]
    links = [_LINK.findall(part) for part in parts]
    alone = [
        len(found) == 1 and not re.sub(r"\W", "", _LINK.sub("", _cut_parentheses(part)[0]))
        for part, found in zip(parts, links, strict=True)
    ]
    for text in shown[:-1]:
        words = text.split()
        bare = len(words) == 1 and _ADJECTIVE.search(words[0])
        if bare and len(shown[-1].split()) > 1:
            return [piece]  # genetic and environmental factors
        if text.endswith("-") or not words:
            return [piece]
    if all(alone):
        return parts
    if any(_DEFICIT.match(text) or _PREPOSITION.search(text) for text in shown[:-1]):
        return [piece]
    if any(found and not whole for found, whole in zip(links, alone, strict=True)):
        return [piece]
    last = len(shown[-1].split())
    if last == 1 and max(len(text.split()) for text in shown[:-1]) > 1 and not listed and not alone[-1]:
        return [piece]  # trouble breathing and swallowing
    return parts


def _top_level_split(piece: str) -> list[str]:
    spans = [m.span() for m in _LINK.finditer(piece)] + [m.span() for m in re.finditer(r"\([^()]*\)", piece)]
    parts, start = [], 0
    for word in _WORD_AND.finditer(piece):
        if not any(a < word.end() and word.start() < b for a, b in spans):
            parts.append(piece[start : word.start()])
            start = word.end()
    parts.append(piece[start:])
    return [part.strip() for part in parts if part.strip()] or [piece]


def _strip_leading(text: str) -> str:
    text = text.strip()
    while True:
        shorter = _LEADING.sub("", text, count=1).strip()
        if shorter == text or not shorter:
            return shorter
        text = shorter


def _item(part: str, subject: str) -> tuple[ListItem | None, str]:
    italic = part.lstrip().startswith("''") and not part.lstrip().startswith("'''")
    part = re.sub(r"'{2,}", "", part)
    core, aside = _cut_parentheses(part)
    core = _strip_leading(core.strip(' .:*\u2013-"\u201c\u201d'))
    links = [(title_key(m.group(1)), m) for m in _LINK.finditer(core)]
    text = _clean(_shown(core))
    if not text or _NOTHING.match(text):
        return None, "stop_list" if text else ""
    alias = _acronym(aside, text)
    if len(links) == 1 and links[0][0]:
        key, match = links[0]
        rest = _LINK.sub("", core).strip(" .,:;\u2013-\"'")
        shown = _clean((match.group(2) or match.group(1)) + match.group(3))
        if not rest or not re.sub(r"[\W_]", "", _DEGREE.sub("", rest)):
            if _NOTHING.match(shown):
                return None, "stop_list"
            if _is_about_subject(key, shown, subject):
                return _phrase(shown, alias, italic)
            base = split_disambiguator(key)[0]
            return ListItem(shown or base, key, not rest, alias, italic), ""
    return _phrase(text, alias, italic)


def _phrase(text: str, alias: str, italic: bool) -> tuple[ListItem | None, str]:
    if _MARKUP.search(text):
        return None, "leftover_markup"
    if _FRAGMENT.match(text):
        return None, "fragment"
    if len(text.split()) > MAX_WORDS or len(text) > 80:
        return None, "phrase_too_long"
    if sum(c.isalpha() for c in text) < 2 or re.match(
        r"^[~<>\u2248]?\s*\d[\d.,%\s\u2013-]*(?:%|per|in|years?|days?)", text
    ):
        return None, "no_words"
    return ListItem(text, "", True, alias, italic), ""


def _is_about_subject(key: str, shown: str, subject: str) -> bool:
    """[[Heritability of X|Genetic]] on the page X: an article about X, not the thing that is meant."""
    name = split_disambiguator(subject)[0].casefold()
    return len(name) >= 3 and name in key.casefold() and key.casefold() != name and name not in shown.casefold()


def _cut_parentheses(text: str) -> tuple[str, str]:
    """(text without parentheses that stand behind a space, what stood in the last of them); links keep theirs."""
    aside, kept, at = "", [], 0
    spans = [m.span() for m in _LINK.finditer(text)]
    text = text.replace("\uff08", " (").replace("\uff09", ")") if "\uff08" in text else text
    for found in re.finditer(r"(?:\s|(?<=\]\])|^)\(((?:[^()]|\([^()]*\))*)\)", text):
        if any(a < found.start() < b for a, b in spans):
            continue
        kept.append(text[at : found.start()])
        aside, at = found.group(1), found.end()
    kept.append(text[at:])
    return " ".join("".join(kept).split()), aside


def _acronym(aside: str, text: str) -> str:
    """The aside where it abbreviates the text: letters of the acronym in order among the initials' words."""
    aside = _clean(_shown(aside))
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9/\-]{1,9}", aside) or sum(c.isupper() for c in aside) < 2:
        return ""
    letters = [c.casefold() for c in aside if c.isalpha()]
    initials = [word[0].casefold() for word in re.split(r"[\s\-]+", text) if word]
    return aside if letters[0] == initials[0] and set(letters) & set(initials[1:] or initials) else ""


def _shown(text: str) -> str:
    return _LINK.sub(lambda m: (m.group(2) if m.group(2) else m.group(1).lstrip(":")) + m.group(3), text)


def _clean(text: str) -> str:
    text = (
        text.replace("''", "")
        .replace("_", " ")
        .translate({0xA0: " ", 0x2009: " ", 0x202F: " ", 0x3000: " ", 0xB5: "\u03bc"})
    )
    return " ".join(text.split()).strip(' .,;:*"\u201c\u201d\u2013-')
