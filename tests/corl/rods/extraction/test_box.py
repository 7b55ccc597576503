"""Finding a page's box and reading it: names, layouts, damage, and input made to stall a parser."""

import time

import pytest

from corl.rods.extraction.box import BREAK, MAX_BOX, Box, choose_box, read_box
from corl.rods.extraction.wikitext import find_templates, remove_noise


def read(text: str) -> Box | str | None:
    text = remove_noise(text)
    template, kind = choose_box(text, find_templates(text))
    if template is None:
        return None
    if not kind:
        return f"unsupported:{template.name}"
    return "unbalanced" if template.end is None else read_box(text, template, kind)


def values(text: str) -> dict[str, str]:
    box = read(text)
    assert isinstance(box, Box), box
    return {name: value for name, value, _ in box.parameters if value}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("Infobox medical condition", "disease"), ("infobox_medical_condition_(new)", "disease"),
        ("INFOBOX Medical Condition (New)", "disease"), ("Template:Infobox disease", "disease"),
        ("Infobox drug", "drug"), ("drugbox", "drug"), ("Infobox symptom", "symptom"),
    ],
)  # fmt: skip
def test_names_match_whatever_their_case(name: str, kind: str) -> None:
    box = read(f"{{{{{name}\n| name = Glarn\n| symptoms = moxin\n}}}}")
    assert isinstance(box, Box)
    assert box.kind == kind


def test_any_box_with_english_parameters_is_read() -> None:
    drug = "{{Ficha de moxina|tradename=Glarn|legal_US=Rx|bioavailability=5%|excretion=Renal}}"
    disease = "{{Vandolkasten\n|symptoms=a\n|complications=b\n|medication=c\n|prognosis=d\n}}\nText\n== X ==\n"
    assert (read(drug).kind, read(disease).kind) == ("drug", "disease")  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{Infobox person|name=Glarn|birth_date=1}}", "unsupported:Infobox person"),
        ("{{\u054f\u0565\u0572\u0565\u056f\u0561\u0584\u0561\u0580\u057f\n|\u0561=1\n|\u0562=2\n}}",
         "unsupported:\u054f\u0565\u0572\u0565\u056f\u0561\u0584\u0561\u0580\u057f"),
        ("{{\u0540\u056b\u057e\n|\u0561\u0561=1\n|\u0562=2\n|\u0563=3\n|\u0564=4\n}}\n",
         "unsupported:\u0540\u056b\u057e"),
        ("{{Infobox medical condition|\u0561\u0561=1|\u0562=2}}", "unsupported:Infobox medical condition"),
        ("{{cite web|title=a|url=b|date=c|author=d}} text", None),
        ("no template at all", None),
    ],
)  # fmt: skip
def test_what_is_not_read(text: str, expected: str | None) -> None:
    assert read(text) == expected


def test_noise_between_parameters() -> None:
    text = (
        "{{Infobox drug|tradename=Glarn<!-- Names -->|class=<!-- a | b = c -->[[Moxin]]"
        "<ref name=x|y=z>{{cite|a=b}}</ref>"
        '\n<!-- Clinical -->|legal_US=Rx<ref name="k"/>|uses=[[Vandol]]\n\n}}'
    )
    told = {name: value.replace("\x03", "") for name, value in values(text).items()}
    assert told == {"tradename": "Glarn", "class": "[[Moxin]]", "legal us": "Rx", "uses": "[[Vandol]]"}


def test_lists_of_every_kind() -> None:
    text = """{{Infobox medical condition
| name = Glarn
| symptoms = {{Plainlist|
* [[Moxin]]
* vandol
}}
| causes = {{ubl|one|[[two]]}}
| risks = {{hlist|a b|c d}}
| treatment = x<br>y<br />z
| complications =
* first
* second
}}"""
    told = {name: [part.strip() for part in value.split(BREAK) if part.strip()] for name, value in values(text).items()}
    assert told["symptoms"] == ["[[Moxin]]", "vandol"]
    assert told["causes"] == ["one", "[[two]]"]
    assert told["risks"] == ["a b", "c d"]
    assert told["treatment"] == ["x", "y", "z"]
    assert told["complications"] == ["first", "second"]


def test_damaged_links() -> None:
    told = values(
        "{{Infobox medical condition\n| name = Glarn\n| treatment = [[NHS about \u00a310\n"
        "| symptoms = [[Spok\nen|verbal]],"
        " [[Moxin|a\nb]]\n|| medication = [[Vandol]]\n| causes = x [http://a.b c d] y\n}}"
    )
    assert "NHS" in told["treatment"]
    assert told["symptoms"] == "verbal, [[Moxin|a b]]"
    assert told["medication"] == "[[Vandol]]"
    assert told["causes"] == "x  c d y"


def test_boxes_in_a_box_are_one() -> None:
    told = values("{{Infobox drug|tradename=Glarn|module={{Infobox drug|embed=yes|class=[[Moxin]]}}}}")
    assert told == {"tradename": "Glarn", "embed": "yes", "class": "[[Moxin]]"}
    told = values("{{Chembox|Name=Glarn|Section6={{Chembox Pharmacology|ATCCode_prefix=J01|ATCCode_suffix=AA9}}}}")
    assert told == {"name": "Glarn", "atccode prefix": "J01", "atccode suffix": "AA9"}


def test_quantities_in_templates() -> None:
    told = values(
        "{{Infobox drug|tradename=G|bioavailability={{val|5|u=%}}|elimination_half-life={{convert|3|to|4|h}}"
        "|excretion={{nowrap|Renal}} 5&nbsp;%|metabolism=<20%}}"
    )
    assert (told["bioavailability"], told["elimination half-life"]) == ("5 %", "3\u20134 h")
    assert (told["excretion"], told["metabolism"]) == ("Renal 5\u00a0%", "<20%")


def test_unbalanced_and_deep_boxes_are_refused() -> None:
    assert read("{{Infobox drug|class=a {{b|uses=c}}") == "unbalanced"
    assert read("{{Infobox drug|tradename=" + "{{a|" * 1000 + "}}" * 1000 + "}}") == "box_too_deep"
    assert read("{{Infobox drug|tradename=" + "x" * MAX_BOX + "}}") == "box_too_long"
    assert isinstance(read("text {{ stray\n{{Infobox drug|tradename=Glarn}}"), Box)


@pytest.mark.parametrize(
    "unit",
    ["[[", "{{", "}}", "[[a|", "[http://a ", "<div>", "<ref>", "<ref name=a>", "<!--", "{{{", "'''a''b", "|a=",
     "\n{|\n|-\n|", "&amp", "[[a|{{b|<i>", "\n== ", "(", "((a)", "a, ", "<br>", "|" + " " * 50, "{{a|b}}",
     "{{a|{{b}}}}", "and ", "\x1e", "[[a]]", "{{Infobox drug|", "1,000 ", "{{" + " " * 50],
)  # fmt: skip
@pytest.mark.parametrize("closed", [True, False])
def test_nothing_stalls_it(unit: str, closed: bool) -> None:
    from corl.rods.extraction.facts import read_page
    from corl.rods.extraction.page import Page

    value = unit * (40_000 // len(unit))
    box = f"{{{{Infobox drug|tradename=Glarn|uses={value}|metabolism={value[:2000]}|excretion={value[:5000]}"
    prose = f"{{{{Infobox drug|tradename=Glarn}}}}\n== Side effects ==\n{value}\n=="
    started = time.process_time()
    read_page(Page("Glarn", "1", 0, "", box + "}}" if closed else box, "f"))
    read_page(Page("Glarn", "1", 0, "", prose + "}}\n|}\n[[x]]" if closed else prose, "f"))
    assert time.process_time() - started < 5
