"""Real pages beside the checkout: the triples they must give and those they must not. Their text stays outside."""

from pathlib import Path

import pytest

from corl.rods.extraction.extract import extract
from corl.rods.graph import NODE_TYPES, load_graph

PAGES = Path(__file__).resolve().parents[5] / "shared" / "data" / "wiki"

pytestmark = pytest.mark.skipif(not PAGES.is_dir(), reason="the real pages are not beside the checkout")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("graph")
    extract(PAGES, out)
    return out


EXPECTED = {
    "Candidiasis": {
        "has_symptom": {"White patches", "Vaginal discharge", "Itchy"},
        "caused_by": {"Candida"},
        "treated_with_drug": {"Clotrimazole", "Nystatin", "Fluconazole"},
        "has_risk_factor": {"Immunosuppression", "Diabetes", "Corticosteroid", "Antibiotic therapy"},
        "in_specialty": {"Infectious diseases"},
    },
    "Alfuzosin": {
        "in_drug_class": {"\u0391" + "1 adrenergic receptor blocker"},
        "indicated_for": {"Benign prostatic hyperplasia"},
        "has_side_effect": {"Lightheadedness", "Tiredness", "Headache"},
        "metabolised_by": {"Liver"},
    },
    "Trifluoperazine": {
        "in_drug_class": {"Typical antipsychotic"},
        "indicated_for": {"Schizophrenia", "Generalized anxiety disorder", "Nausea"},
        "has_side_effect": {"Movement disorders", "Sleepiness", "Blurry vision", "Dry mouth", "Low blood pressure"},
    },
    "Rh disease": {
        "has_symptom": {"Low red blood cells", "Jaundice"},
        "has_complication": {
            "Stillbirth", "Hydrops fetalis", "Intellectual disability", "Hearing loss", "Vision loss"
        },
        "prevented_by": {"Rho(D) immune globulin"},
        "treated_by": {"Blood transfusions", "Phototherapy", "Intravenous immunoglobulin"},
    },
    "Autism": {
        "differential_of": {"Reactive attachment disorder", "Intellectual disability", "Schizophrenia"},
        "treated_by": {"Occupational therapy", "Speech therapy", "Psychotropic medication"},
        "caused_by": {"Genetic and environmental factors"},
    },
    "Penciclovir": {"metabolised_by": {"Viral thymidine kinase"}},
    "Dexmetilfenidato": {"metabolised_by": {"Liver"}},
}  # fmt: skip
ABSENT = {
    "Candidiasis": {"Yeast", "HIV/AIDS", "Antibiotic", "Oral candidiasis"},
    "Alfuzosin": {"Alpha-1 adrenergic receptor", "Receptor antagonist", "BPH", "CYP3A4"},
    "Rh disease": {"None", "Mother", "Baby"},
    "Autism": {"Heritability of autism", "Spoken language", "Spoken languag e", "Nonverbal communication",
               "Interpersonal relationship", "Based on behavior"},
}  # fmt: skip


@pytest.mark.parametrize("head", EXPECTED)
def test_strong_triples_are_these(folder: Path, read_back, head: str) -> None:
    strong = read_back(folder).strong
    for relation, tails in EXPECTED[head].items():
        assert {t for h, r, t in strong if (h, r) == (head, relation)} == tails


@pytest.mark.parametrize("head", ABSENT)
def test_nothing_stands_to_what_a_trap_would_give(folder: Path, read_back, head: str) -> None:
    assert not {tail for h, _, tail, _ in read_back(folder).edges if h == head} & ABSENT[head]


def test_no_node_is_nothing(folder: Path, read_back) -> None:
    nodes = read_back(folder).types
    assert set(nodes.values()) <= set(NODE_TYPES)
    assert not {name.casefold() for name in nodes} & {
        "none",
        "unknown",
        "others",
        "other",
        "variable",
        "based on symptoms",
    }
    assert (nodes["Encephalitozoon intestinalis"], nodes["Eravacycline chembox"]) == ("pathogen", "drug")
    assert (nodes["Candida"], nodes["Omaveloxolone"]) == ("pathogen", "drug")


def test_every_page_is_accounted_for(folder: Path, read_back) -> None:
    got = read_back(folder)
    assert got.skipped == {
        "README.txt": "not_wiki_or_xml", "infobox_params.tsv": "not_wiki_or_xml", "Albedo": "no_box",
        "Austin (disambiguation)": "disambiguation", "Ada": "disambiguation", "Assistive technology": "no_box",
        "Anatomy": "no_box", "HarlequinIchthyosis": "no_box",
    }  # fmt: skip
    pages = got.manifest["pages"]
    assert (pages["seen"], pages["read"], pages["redirects"]) == (38, 12, 20)
    load_graph(folder)


def test_revisions_attributes_and_other_names(folder: Path, read_back) -> None:
    got = read_back(folder)
    assert {row["revision"] for row in got.rows("edges.tsv") if row["title"] == "Autism"} == {"717042201", "1067928275"}
    told = {(r["node"], r["attribute"], r["value"], r["unit"], r["population"]) for r in got.rows("attributes.tsv")}
    assert ("Penciclovir", "bioavailability", "1.5", "%", "oral") in told
    assert ("Rh disease", "frequency", ">350000", "per year", "") in told
    assert {("Alfuzosin", "Uroxatral"), ("Benign prostatic hyperplasia", "BPH"), ("Candida", "Candida (fungus)")} <= (
        got.aliases
    )
    assert [row["qualifier"] for row in got.rows("qualifiers.tsv")] == ["Baby", "Baby"]
