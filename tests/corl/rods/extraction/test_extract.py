"""The whole way from pages to the graph's files, on invented pages in the real layouts."""

import bz2
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from corl.cli import main
from corl.rods.extraction.extract import extract
from corl.rods.extraction.synthetic_dump import write_dump
from corl.rods.graph import INVERSES, RELATIONS, load_graph

FILES = ("nodes.tsv", "aliases.tsv", "edges.tsv", "attributes.tsv", "qualifiers.tsv", "skipped.tsv", "manifest.json")


def disease(name: str, *parameters: str, rest: str = "") -> str:
    lines = "\n".join(f"| {parameter}" for parameter in parameters)
    return f"{{{{Infobox medical condition (new)\n| name = {name}\n{lines}\n}}}}\n'''{name}''' is invented.\n{rest}"


def drug(name: str, *parameters: str, rest: str = "") -> str:
    lines = "\n".join(f"| {parameter}" for parameter in parameters)
    return f"{{{{Drugbox\n| drug_name = {name}\n{lines}\n}}}}\n'''{name}''' is invented.\n{rest}"


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in FILES}


def page(title: str, text: str, *, redirect: str = "", ns: int = 0, revision: int = 7) -> str:
    from xml.sax.saxutils import escape

    target = f'<redirect title="{escape(redirect)}" />' if redirect else ""
    return (
        f"<page><title>{escape(title)}</title><ns>{ns}</ns><id>1</id>{target}<revision><id>{revision}</id>"
        f'<text xml:space="preserve">{escape(text)}</text></revision></page>\n'
    )


def dump(*pages: str) -> str:
    return "<mediawiki><siteinfo/>\n" + "".join(pages) + "</mediawiki>\n"


def test_a_disease_and_a_drug(extracted) -> None:
    got = extracted(
        {
            "en_mdwiki_Glarnosis.wiki": disease(
                "Glarnosis", "field = [[Glarn medicine]]", "symptoms = [[Fever]], wobbly legs",
                "causes = ''[[Vibbela]]''", "medication = [[Moxinol]]",
                "diagnosis = Based on symptoms, [[vandol test]]", "frequency = 8 per 100,000",
            ),
            "en_mdwiki_Vandolol.wiki": "{{Drugbox\n| drug_name =\n| tradename = Vandex, others\n"
            "| class = [[Beta blocker]]\n| uses = [[Glarnosis]]\n"
            "| side_effects = [[Dizziness]]\n| metabolism = [[Liver]] ([[CYP3A4]]-mediated)\n}}",
        }
    )  # fmt: skip
    assert got.strong == {
        ("Glarnosis", "in_specialty", "Glarn medicine"), ("Glarnosis", "has_symptom", "Fever"),
        ("Glarnosis", "has_symptom", "Wobbly legs"), ("Glarnosis", "caused_by", "Vibbela"),
        ("Glarnosis", "treated_with_drug", "Moxinol"), ("Glarnosis", "diagnosed_by", "Vandol test"),
        ("Vandolol", "in_drug_class", "Beta blocker"), ("Vandolol", "indicated_for", "Glarnosis"),
        ("Vandolol", "has_side_effect", "Dizziness"), ("Vandolol", "metabolised_by", "Liver"),
    }  # fmt: skip
    assert got.types["Vibbela"] == "pathogen"
    assert got.types["Vandol test"] == "lab_test"
    assert ("Vandolol", "Vandex") in got.aliases
    assert {row["name"]: row["rarity"] for row in got.rows("nodes.tsv")}["Glarnosis"] == "rare"
    row = next(row for row in got.rows("edges.tsv") if row["relation"] == "has_side_effect")
    assert list(row) == ["head", "relation", "tail", "strength", "title", "revision", "parameter"]
    assert (row["title"], len(row["revision"]), row["parameter"]) == ("Vandolol", 64, "side_effects")


def test_titles_of_files(extracted) -> None:
    got = extracted(
        {
            "ja_Something_else.wiki": disease("Glarn disease", "symptoms = [[Fever]]"),
            "es_Vandolol.wiki": "{{Ficha de medicamento|tradename=A|legal_US=x|bioavailability=5%|excretion=Renal}}",
            "Moxi_ol.wiki": "{{drugbox|drug_name={{PAGENAME}}|tradename=B}}",
        }
    )
    assert {"Glarn disease", "Vandolol", "Moxi ol"} <= set(got.types)


def test_reasons_for_what_is_passed_over(extracted) -> None:
    box = "\u054f\u0565\u0572\u0565\u056f\u0561\u0584\u0561\u0580\u057f \u0570"
    got = extracted(
        {
            "hy_Glarn.wiki": f"{{{{{box}\n| \u0561\u0561 = 1\n| \u0562 = 2\n}}}}",
            "None.wiki": "Nothing to see.",
            "Lion.wiki": "{{Taxobox|regnum=[[Animalia]]|phylum=[[Chordata]]|binomial=''Leo glarn''}}",
            "Solvent.wiki": "{{Chembox|Name=Solvent|Section1={{Chembox Identifiers|CASNo=1}}}}",
            "Open.wiki": "{{Infobox drug|tradename=A|uses={{b|c}}",
            "notes.txt": "hello",
            "broken.xml": "<mediawiki><page><title>Bad</title><revision><text>a & {{Infobox drug}}</text>"
            "</revision></page>" + page("Talk:Glarn", "x", ns=1) + page("Set", "{{Disambiguation}}\n* [[a]]")
            + page("List of glarns", "[[a]]") + page("Town", "{{Infobox settlement|name=Town}}")
            + "<page><title>Cut</title>",
        }
    )  # fmt: skip
    assert got.skipped == {
        "notes.txt": "not_wiki_or_xml", "Glarn": f"unsupported_box:{box}", "None": "no_box",
        "Lion": "not_medical:Taxobox", "Solvent": "not_medical:Chembox", "Open": "unbalanced_box",
        "Bad": "malformed_xml",
        "Talk:Glarn": "other_namespace", "Set": "disambiguation", "List of glarns": "list_page",
        "Town": "unsupported_box:Infobox settlement", "Cut": "page_cut_off",
    }  # fmt: skip
    assert got.manifest["skipped"] == dict.fromkeys(sorted(got.skipped.values()), 1)


def test_redirects_aliases_and_disambiguation(extracted) -> None:
    got = extracted(
        {
            "d.xml": dump(
                page("Glarn tract infection",
                     disease("GTI", "symptoms = [[Wobble (sign)|wobble]], [[Sett]], [[moxin pains]]")),
                page("Glarn tract infections", "#REDIRECT [[Glarn tract infection]]", redirect="Glarn tract infection"),
                page("GTIs", "#REDIRECT [[Glarn tract infections]]", redirect="Glarn tract infections"),
                page("Old glarn", "#REDIRECT [[Glarn tract infection#Old]]", redirect="Glarn tract infection"),
                page("Glarn ward", "#REDIRECT [[Glarn tract infection]] {{R to section}}",
                     redirect="Glarn tract infection"),
                page("Loop", "#REDIRECT [[Pool]]", redirect="Pool"),
                page("Pool", "#REDIRECT [[Loop]]", redirect="Loop"),
                page("Sett", "{{disambiguation}}"),
                page("Moxin pain", disease("Moxin pain", "symptoms = [[Loop]]")),
                page("Vandolol", drug("", "uses = [[glarn_tract infections]], [[Old glarn]]",
                                      "class = [[Glarn ward]]")),
            )
        }
    )  # fmt: skip
    assert ("Vandolol", "indicated_for", "Glarn tract infection") in got.strong
    assert ("Glarn tract infection", "has_symptom", "Wobble") in got.strong
    assert ("Glarn tract infection", "has_symptom", "Moxin pain") in got.strong  # the plural of a page's title
    assert "Sett" not in got.types
    assert "Loop" not in got.types
    assert "Pool" not in got.types
    mine = {alias for name, alias in got.aliases if name == "Glarn tract infection"}
    assert {"Glarn tract infections", "GTI", "GTIs"} <= mine
    assert not mine & {"Old glarn", "Glarn ward", "glarn_tract infections"}
    assert ("Vandolol", "in_drug_class", "Glarn ward") in got.strong  # a section's redirect is not its page
    assert ("Wobble", "Wobble (sign)") in got.aliases


def test_spellings_are_one_thing(extracted) -> None:
    got = extracted(
        {
            "a.wiki": disease("Glarnosis", "symptoms = [[Diarrhoea]], oedema, Headaches"),
            "b.wiki": disease("Vandolosis", "symptoms = diarrhea, [[edema]], [[headache]]"),
        }
    )
    symptoms = [{tail for head, _, tail in got.strong if head == name} for name in ("Glarnosis", "Vandolosis")]
    assert symptoms[0] == symptoms[1]
    assert len(symptoms[0]) == 3


def test_an_alias_of_two_nodes_belongs_to_none(extracted) -> None:
    got = extracted(
        {
            "a.wiki": disease("Glarnosis", "synonym = The shakes, Moxin fever", "symptoms = [[Fever]]"),
            "b.wiki": disease("Vandolosis", "synonym = The shakes, Glarnosis", "symptoms = [[Fever]]"),
        }
    )
    assert {alias for _, alias in got.aliases} == {"Moxin fever"}


def test_sections_give_weak_edges_without_negated_ones(extracted) -> None:
    got = extracted(
        {
            "a.wiki": disease(
                "Glarnosis", "symptoms = [[Fever]]",
                rest="<!-- Treatment -->\nMost take [[Moxinol]].\n== Signs and symptoms ==\nPeople have [[cough]]s. "
                "It is worse in people with old [[asthma]]. There is no [[rash]]."
                " Unlike [[Yawning]], it hurts.\n=== History ===\n[[Headache]] was told.\n== Treatment ==\n"
                "* [[Vandolol]]{{efn|[[Nausea]]}}\n[[Liver]] helps.\n== See also ==\n[[Pain]]",
            ),
            "b.wiki": drug("Vandolol", "uses = [[Moxin disease]]",
                           rest="== Contraindications ==\nNot to be given in [[asthma]]."),
            "c.wiki": drug("Moxinol", "side_effects = [[Cough]]"),
        }
    )  # fmt: skip
    weak = {edge[:3] for edge in got.edges if edge[3] == "W"}
    assert weak == {
        ("Glarnosis", "treated_with_drug", "Moxinol"), ("Glarnosis", "has_symptom", "Cough"),
        ("Glarnosis", "treated_with_drug", "Vandolol"), ("Vandolol", "contraindicated_in", "Asthma"),
    }  # fmt: skip
    assert {row["parameter"] for row in got.rows("edges.tsv") if row["strength"] == "W"} == {
        "section:Treatment", "section:Signs and symptoms", "section:Contraindications",
    }  # fmt: skip


def test_two_pages_that_agree_make_a_strong_edge(extracted) -> None:
    pages = {
        "a.wiki": disease("Glarnosis", "symptoms = [[Fever]]", rest="== Treatment ==\n[[Vandolol]] is used."),
        "b.wiki": drug("Vandolol", "class = [[Beta blocker]]", rest="== Medical uses ==\nIt is for [[Glarnosis]]."),
    }
    assert {("Glarnosis", "treated_with_drug", "Vandolol"), ("Vandolol", "indicated_for", "Glarnosis")} <= extracted(
        pages
    ).strong
    pages["b.wiki"] = drug("Vandolol", "class = [[Beta blocker]]")
    assert ("Glarnosis", "treated_with_drug", "Vandolol", "W") in extracted(pages).edges


def test_contradictions_are_dropped_and_counted(extracted) -> None:
    got = extracted(
        {
            "a.wiki": disease("Glarnosis", "medication = [[Vandolol]], [[Moxinol]]"),
            "b.wiki": drug("Vandolol", "uses = [[Glarnosis]]", rest="== Contraindications ==\nAlso in [[Glarnosis]]."),
        }
    )
    assert {edge[:3] for edge in got.edges} == {("Glarnosis", "treated_with_drug", "Moxinol")}
    assert got.manifest["lost"]["contradiction"] == 1


def test_contradicted_attributes_are_marked(extracted) -> None:
    box = disease("Glarnosis", "symptoms = [[Fever]]", "frequency = @", "onset = 5 years")
    got = extracted(
        {
            "d.xml": dump(page("Glarnosis", box.replace("@", "6%"), revision=1)),
            "e.xml": dump(page("Glarnosis", box.replace("@", "7%"), revision=2)),
            "f.wiki": drug("Vandolol", "pregnancy_AU = B2", "pregnancy_US = C"),
        }
    )
    marked = {(row["attribute"], row["text"]): row["contradicted"] for row in got.rows("attributes.tsv")}
    assert marked == {
        ("frequency", "6%"): "1", ("frequency", "7%"): "1", ("onset", "5 years"): "0",
        ("pregnancy_au", "B2"): "0", ("pregnancy_us", "C"): "0",
    }  # fmt: skip
    assert [row["revision"] for row in got.rows("edges.tsv")] == ["1", "2"]


def test_qualifiers_stand_beside_the_edges(extracted) -> None:
    got = extracted({"a.wiki": disease("Glarnosis", "symptoms = '''Baby''': [[Fever]]<br>'''Mother''': None")})
    assert got.strong == {("Glarnosis", "has_symptom", "Fever")}
    assert [row["qualifier"] for row in got.rows("qualifiers.tsv")] == ["Baby"]


def test_types_that_do_not_fit_are_dropped(extracted) -> None:
    got = extracted(
        {
            "a.wiki": disease("Glarnosis", "symptoms = [[Vandolol]], [[Fever]]", "specialty = [[Spleel]]"),
            "b.wiki": drug("Vandolol", "class = [[Beta blocker]]"),
            "c.xml": dump(page("Spleel", "{{Infobox anatomy|Name=Spleel}}")),
        }
    )
    assert {edge[:3] for edge in got.edges} == {
        ("Glarnosis", "has_symptom", "Fever"), ("Vandolol", "in_drug_class", "Beta blocker"),
    }  # fmt: skip
    lost = got.manifest["lost"]
    assert (lost["type_does_not_fit:has_symptom"], lost["type_does_not_fit:in_specialty"]) == (1, 1)


def test_a_pathogen_page(extracted) -> None:
    got = extracted(
        {
            "a.wiki": "{{Taxobox\n| regnum = [[Bacteria]]\n| binomial = ''Vibbela glarni''\n}}\n"
            "'''''Vibbela glarni''''' can cause [[glarnosis]]. It does not cause [[Asthma]].",
            "b.wiki": disease("Glarnosis", "causes = ''[[A]]''"),
        }
    )
    assert got.types["A"] == "pathogen"
    assert [edge for edge in got.edges if edge[0] == "Glarnosis"] == [("Glarnosis", "caused_by", "A", "S")]


def test_dumps_compressed_or_not_give_the_same_for_any_number_of_workers(tmp_path: Path, read_back) -> None:
    write_dump(tmp_path / "enwiki-20240102-pages.xml", diseases=40, seed=3)
    plain = (tmp_path / "enwiki-20240102-pages.xml").read_bytes()
    middle = len(plain) // 2
    (tmp_path / "multi.xml.bz2").write_bytes(bz2.compress(plain[:middle]) + bz2.compress(plain[middle:]))
    first = extract(tmp_path / "enwiki-20240102-pages.xml", tmp_path / "a")
    extract(tmp_path / "enwiki-20240102-pages.xml", tmp_path / "b", workers=2)
    extract(tmp_path / "multi.xml.bz2", tmp_path / "c")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    named = {"manifest.json": b"", "skipped.tsv": b""}  # these two name the source's file
    assert contents(tmp_path / "a") | named == contents(tmp_path / "c") | named
    assert read_back(tmp_path / "a").manifest["dump_date"] == "2024-01-02"
    assert sum(first.nodes.values()) > 40 * 7
    assert not (tmp_path / "a" / ".unfinished").exists()
    graph = load_graph(tmp_path / "a")
    assert len(graph.names) == sum(first.nodes.values())


def test_every_edge_fits_the_schema(tmp_path: Path, read_back) -> None:
    write_dump(tmp_path / "d.xml", diseases=12, seed=1)
    extract(tmp_path / "d.xml", tmp_path / "g")
    got = read_back(tmp_path / "g")
    assert len(got.edges) > 200
    for head, relation, tail, _ in got.edges:
        if relation in INVERSES:
            head, relation, tail = tail, INVERSES[relation], head
        assert got.types[head] in RELATIONS[relation].domain
        assert got.types[tail] in RELATIONS[relation].range


def test_bare_page_and_hostile_xml(tmp_path: Path, read_back) -> None:
    bomb = '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>'
    text = (
        bomb
        + page("Glarnosis", disease("Glarnosis", "symptoms = [[Fever]]"))
        + page("B", "&b;").replace("&amp;b;", "&b;")
    )
    big = "<page><title>Big</title>" + "{{" * (3 << 20) + "</page>"
    (tmp_path / "one.xml").write_text(text + big + page("Vandosis", disease("Vandosis", "symptoms = [[Fever]]")))
    extract(tmp_path / "one.xml", tmp_path / "g")
    got = read_back(tmp_path / "g")
    assert {"Glarnosis", "Vandosis"} <= set(got.types)
    assert got.skipped["Big"] == "page_too_large"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("d.zip", b"x", "unpack it"),
        ("d.xml.bz2", bz2.compress(b"<mediawiki>" + os.urandom(4000).hex().encode())[:-9], "damaged or ends early"),
        ("d.xml.bz2", b"no bzip", "damaged or ends early"),
        ("missing.xml", None, "does not exist"),
        ("empty", None, "does not exist"),
    ],
)
def test_errors_are_one_clear_line(tmp_path: Path, capsys, name: str, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(SystemExit) as stopped:
        main(["rods", "extract", str(tmp_path / name), "--out", str(tmp_path / "g")])
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert not list((tmp_path / "g").glob("*.tsv"))


def test_a_missing_library_says_what_to_install(tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "mwparserfromhell", None)
    (tmp_path / "a.wiki").write_text("x")
    with pytest.raises(SystemExit):
        main(["rods", "extract", str(tmp_path), "--out", str(tmp_path / "g")])
    assert "pip install" in capsys.readouterr().err


def test_the_folder_of_results_is_no_source(tmp_path: Path) -> None:
    (tmp_path / "a.wiki").write_text(disease("Glarnosis", "symptoms = [[Fever]]"))
    extract(tmp_path, tmp_path / "g")
    first = contents(tmp_path / "g")
    extract(tmp_path, tmp_path / "g")
    assert contents(tmp_path / "g") == first


@pytest.mark.slow
def test_killed_anywhere_and_started_again(tmp_path: Path) -> None:
    write_dump(tmp_path / "d.xml", diseases=60, seed=2)
    extract(tmp_path / "d.xml", tmp_path / "whole")
    command = [
        sys.executable,
        "-m",
        "corl.cli",
        "rods",
        "extract",
        str(tmp_path / "d.xml"),
        "--out",
        str(tmp_path / "g"),
    ]
    for delay in (0.3, 0.6, 0.9, 1.2):
        child = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(delay)
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        if (tmp_path / "g" / "manifest.json").exists():
            assert contents(tmp_path / "g") == contents(tmp_path / "whole")
        else:
            assert not list((tmp_path / "g").glob("*.tsv"))
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=120)
    assert contents(tmp_path / "g") == contents(tmp_path / "whole")
    assert sorted(path.name for path in (tmp_path / "g").iterdir()) == sorted(FILES)
