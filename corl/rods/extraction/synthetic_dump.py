"""A MediaWiki dump of any size with invented content in the real layouts, the same bytes for the same seed.

Diseases come in families that share most of their findings and differ in a few, so that the extracted graph yields
questions. Around them: drugs, pathogens, redirects, disambiguations and pages that have nothing to do with medicine.
"""

import bz2
from collections.abc import Iterator
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np

from corl.rods.extraction.titles import words

FAMILY = 12  # diseases that share findings
SHARED = 12  # symptoms that a family draws its members' from
_SYLLABLES = words(
    """
    ba be bi bo bu da de di do ga go ka ke ki ko la le li lo lu ma me mi mo na ne ni no pa pe pi po ra re ri ro sa se
    si so ta te ti to va ve vi vo za zo
    """
)
_HEAD = """<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.10/" version="0.10" xml:lang="en">
  <siteinfo>
    <sitename>Wikipedia</sitename>
    <dbname>enwiki</dbname>
  </siteinfo>
"""
_REF = '<ref name="a|b=c">{{cite journal|title=An invented paper|year=2001|pages=1-2}}</ref>'


def write_dump(path: str | Path, *, diseases: int, others: int = 0, seed: int = 0) -> int:
    """Write a dump with `diseases` disease pages; .bz2 where the name says so. Returns the number of pages.

    A disease brings about seven further entities: its own signs, drugs, a pathogen. `others`: as many further pages
    that have nothing to do with medicine. Raises ValueError for no diseases.
    """
    if diseases < 1:
        raise ValueError(f"diseases is {diseases}; give at least 1")
    path = Path(path)
    pages = 0
    opener = bz2.open if path.suffix == ".bz2" else open
    with opener(path, "wb") as file:  # type: ignore[operator]
        file.write(_HEAD.encode())
        for number, page in enumerate(_pages(diseases, others, seed), 1):
            file.write(page(number).encode())
            pages = number
        file.write(b"</mediawiki>\n")
    return pages


class _Page:
    def __init__(self, title: str, text: str = "", redirect: str = "") -> None:
        self.title, self.text, self.redirect = title, text, redirect

    def __call__(self, number: int) -> str:
        target = f'\n    <redirect title="{escape(self.redirect)}" />' if self.redirect else ""
        text = f"#REDIRECT [[{self.redirect}]]" if self.redirect else self.text
        return (
            f"  <page>\n    <title>{escape(self.title)}</title>\n    <ns>0</ns>\n    <id>{number}</id>{target}\n"
            f"    <revision>\n      <id>{1_000_000 + number}</id>\n      <timestamp>2024-01-01T00:00:00Z</timestamp>\n"
            f'      <text xml:space="preserve">{escape(text)}</text>\n    </revision>\n  </page>\n'
        )


def word(number: int, salt: int) -> str:
    """An invented word, another for every number: a bijection of the number spelled in syllables."""
    size = len(_SYLLABLES)
    scrambled = (number * 7919 + salt * 104_729) % size**4  # 7919 is coprime to 53: no two numbers below size**4 meet
    parts = []
    for _ in range(4):
        scrambled, place = divmod(scrambled, size)
        parts.append(_SYLLABLES[place])
    return "".join(parts)


def _pages(diseases: int, others: int, seed: int) -> Iterator[_Page]:
    families = -(-diseases // FAMILY)
    for family in range(families):
        draw = np.random.Generator(np.random.Philox(key=[seed, family]))
        members = range(family * FAMILY, min(diseases, (family + 1) * FAMILY))
        shared = [f"{word(family * SHARED + i, seed)} pain" for i in range(SHARED)]
        for number in members:
            yield _disease(number, shared, draw, seed, diseases)
            yield _drug(number, draw, seed)
            yield _pathogen(number, seed)
            yield _Page(f"{disease_name(number, seed)} (condition)", redirect=disease_name(number, seed))
        yield _Page(
            f"Mount {word(family, seed + 50).title()}",
            f"'''Mount {word(family, seed + 50).title()}''' is a mountain.{_REF} It is near [[Sea]].\n\n== Height ==\n"
            + "It is high. " * int(draw.integers(5, 60)) + "\n[[Category:Mountains]]\n",
        )  # fmt: skip
        for number in range(others * family // families, others * (family + 1) // families):
            yield _lake(number, seed)
        if family % 5 == 0:
            yield _Page(
                f"{word(family, seed + 60).title()}",
                f"'''{word(family, seed + 60).title()}''' may refer to:\n* [[{disease_name(members[0], seed)}]]\n"
                "* [[Sea]]\n\n{{disambiguation}}",
            )


def disease_name(number: int, seed: int) -> str:
    return f"{word(number, seed + 1).capitalize()} disease"


def drug_name(number: int, seed: int) -> str:
    return f"{word(number, seed + 2).capitalize()}vir"


def pathogen_name(number: int, seed: int) -> str:
    return f"{word(number, seed + 3).capitalize()}coccus"


def _disease(number: int, shared: list[str], draw: np.random.Generator, seed: int, diseases: int) -> _Page:
    name = disease_name(number, seed)
    common = [shared[int(i)] for i in sorted(draw.choice(SHARED, 5, replace=False))]
    own = [f"{word(number * 2 + i, seed + 4)} rash" for i in range(2)]
    siblings = [
        n for n in range(number - number % FAMILY, number - number % FAMILY + FAMILY) if n != number and n < diseases
    ]
    symptoms = ", ".join([f"[[{s.capitalize()}]]" for s in common] + own)
    other = f"[[{disease_name(siblings[number % len(siblings)], seed)}]]" if siblings else ""
    tests = f"[[{word(number // FAMILY, seed + 5).capitalize()} test]]"
    frequency = f"{1 + number % 9} per {(1000, 10_000, 100_000)[number % 3]:,}"
    box = f"""{{{{Infobox medical condition{" (new)" if number % 2 else ""}
| name            = {name}
| synonym         = {word(number, seed + 6).capitalize()} syndrome{_REF}
| image           = Invented.jpg
| field           = [[Infectious diseases (medical specialty)|Infectious disease]]
| symptoms        = {symptoms}{_REF}
| complications   = {word(number, seed + 7)} failure
| onset           = {10 + number % 60} years<!-- usual -->
| causes          = ''[[{pathogen_name(number, seed)}]]'' (a type of [[bacterium]])
| risks           = Exposure to {word(number, seed + 8)}
| diagnosis       = Based on symptoms, {tests}
| differential    = {other}
| treatment       = [[Bed rest]]
| medication      = [[{drug_name(number, seed)}]], [[{drug_name(number + 1 if siblings else number, seed)}]]
| frequency       = {frequency}
}}}}
"""
    prose = (
        f"<!-- Definition and symptoms -->\n'''{name}''' is an invented disease. "
        f"It is not linked to [[{drug_name(number + 7, seed)}]].\n\n"
        f"== Signs and symptoms ==\nPeople report [[{shared[number % SHARED].capitalize()}]].{_REF}\n\n"
        f"== Treatment ==\n[[{drug_name(number, seed)}]] is used.{_REF}\n\n"
        + "This sentence is here for its length. " * int(draw.integers(5, 40))
        + "\n\n{{Medical resources\n| ICD10 = {{ICD10|A|"
        + f"{number % 100:02d}"
        + "}}\n}}\n[[Category:Invented diseases]]\n"
    )
    return _Page(name, box + prose)


def _lake(number: int, seed: int) -> _Page:
    name = f"Lake {word(number, seed + 70).title()}"
    bays = "".join(f"* [[{word(number * 7 + i, seed + 71).title()}]] bay\n" for i in range(40))
    box = f"{{{{Infobox body of water\n| name = {name}\n| type = [[Lake]]\n| depth = {number % 90} m\n}}}}\n"
    return _Page(name, f"{box}'''{name}''' is an invented lake.{_REF}\n\n== Bays ==\n{bays}[[Category:Lakes]]\n")


def _drug(number: int, draw: np.random.Generator, seed: int) -> _Page:
    name = drug_name(number, seed)
    box = f"""{{{{Drugbox
| verifiedrevid = {number}
| tradename = {word(number, seed + 9).capitalize()}, others
| class = [[{word(number // (FAMILY * 4), seed + 10).capitalize()} inhibitor]]
| uses = [[{disease_name(number, seed)}]]{_REF}
| side_effects = [[{word(number // FAMILY * SHARED, seed)} pain]], {word(number % 97, seed + 11)} ache
| pregnancy_AU = {"ABCDX"[number % 5]}
| legal_US = Rx-only
| bioavailability = {10 + number % 80}%
| metabolism = [[Liver]] ([[CYP3A4]]-mediated)
| elimination_half-life = {1 + number % 30} hours
| ATC_prefix = J{number % 100:02d}
| ATC_suffix = AB{number % 90 + 10}
}}}}
"""
    prose = (
        f"'''{name}''' is an invented drug.\n\n== Contraindications ==\n"
        f"It should not be given in [[{disease_name(number + 5, seed)}]].\n"
        + ("It comes as a tablet. " * int(draw.integers(3, 20)))
    )
    return _Page(name, box + prose + "\n[[Category:Invented drugs]]\n")


def _pathogen(number: int, seed: int) -> _Page:
    name = pathogen_name(number, seed)
    return _Page(
        name,
        f"{{{{Taxobox\n| name = {name}\n| regnum = [[Bacteria]]\n| genus = ''{name}''\n"
        f"| binomial = ''{name} {word(number, seed + 12)}''\n}}}}\n"
        f"'''''{name}''''' is an invented bacterium. "
        f"It can cause [[{disease_name(number, seed)}]].\n[[Category:Bacteria]]\n",
    )
