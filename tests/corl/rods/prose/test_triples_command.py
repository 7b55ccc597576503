"""`corl rods triples`: what a teacher reads in prose, and what of it the text, the aliases and the schema let stand."""

import json
from pathlib import Path

import pytest

from corl.cli import main
from corl.rods.graph import load_graph

NODES = """name\ttype\tname_zh
Alpha disease\tdisease\t甲病
Beta disease\tdisease\t乙病
tremor\tsymptom\t震颤
rigidity\tsign\t强直
gammacillin\tdrug\t丙西林
deltastatin\tdrug\t丁他汀
scan\timaging\t扫描
biopsy\tprocedure\t活检
"""
ALIASES = "name\talias\tlang\ngammacillin\tGC-7\ten\n"
EDGES = """head\trelation\ttail\tstrength\ttitle\trevision\tparameter
Alpha disease\thas_symptom\ttremor\tW\tAlpha disease\t1\tSymptoms
Beta disease\thas_sign\trigidity\tS\tBeta disease\t2\tsymptoms
Beta disease\tgold_standard_test\tscan\tS\tBeta disease\t2\tdiagnosis
"""
PROSE = [
    ("Alpha disease", "11", "Alpha disease needs gammacillin. It causes rigidity, but not blindness."),
    ("Tremor", "12", "A tremor is a hallmark of alpha disease. GC-7 helps in alpha disease."),
    ("Beta disease", "13", "Beta disease is not treated with deltastatin. Biopsy settles it in beta disease."),
    ("Biopsies", "14", "The gold standard for Beta disease is a biopsy."),
    ("Nothing", "15", "This page names nothing of the kind."),
]


def fact(head: str, relation: str, tail: str, evidence: str) -> dict[str, str]:
    return {"head": head, "relation": relation, "tail": tail, "evidence": evidence}


ANSWERS = {
    "Alpha disease": [
        fact("Alpha disease", "treated_with_drug", "gammacillin", "Alpha disease needs gammacillin."),
        fact("Alpha disease", "has_sign", "rigidity", "It causes rigidity"),
        fact("Alpha disease", "has_sign", "rigidity", "it produces rigidity"),
        fact("Alpha disease", "treated_with_drug", "tremor", "Alpha disease needs gammacillin."),
        fact("Alpha disease", "cures", "gammacillin", "Alpha disease needs gammacillin."),
        fact("Alpha disease", "has_symptom", "blindness", "It causes rigidity"),
        fact("Alpha disease", "treated_with_drug", "deltastatin", "Alpha disease needs gammacillin."),
        fact("Alpha disease", "has_sign", "rigidity", "Alpha disease needs gammacillin."),
        "gammacillin",
    ],
    "Tremor": [
        fact("alpha disease", "has_symptom", "Tremor", "A tremor is a hallmark of alpha disease."),
        fact("GC-7", "indicated_for", "Alpha disease", "GC-7 helps in alpha disease."),
    ],
    "Beta disease": [
        fact("Beta disease", "treated_with_drug", "deltastatin", "Beta disease is not treated with deltastatin."),
        fact("Beta disease", "gold_standard_test", "biopsy", "Biopsy settles it in beta disease."),
    ],
    "Biopsies": [
        fact("Beta disease", "gold_standard_test", "biopsy", "The gold standard for Beta disease is a biopsy.")
    ],
}


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("g").mkdir()
    for name, text in (("nodes", NODES), ("aliases", ALIASES), ("edges", EDGES)):
        Path(f"g/{name}.tsv").write_text(text)
    lines = [json.dumps({"title": title, "revision": revision, "text": text}) for title, revision, text in PROSE]
    Path("prose.jsonl").write_text("\n".join(lines) + "\n")
    return tmp_path


def reply(body, _):
    title = body["messages"][1]["content"].partition("Page: ")[2].partition("\n")[0]
    return f"<think>[x]</think>```json\n{json.dumps(ANSWERS[title])}\n```"


def triples(chat, *more: str) -> list[str]:
    command = ["rods", "triples", "prose.jsonl", "--graph", "g", "--out", "out", "--teacher", chat.url, "--model", "m"]
    return [*command, "--retries", "0", *more]


def test_what_stands_becomes_edges_and_the_rest_has_a_reason(here, serve_chat, capsys) -> None:
    chat = serve_chat(reply)
    main(triples(chat))
    said = capsys.readouterr().out
    assert "out: 4 new edges (2 S, 2 W) of 14 triples; 8 rejected, 0 known; passages: 1 no two nodes, 4 read" in said
    lines = Path("out/edges.tsv").read_text().splitlines()
    assert lines[0] == "head\trelation\ttail\tstrength\ttitle\trevision\tparameter\tevidence"
    assert lines[1:4] == [line + "\t" for line in EDGES.splitlines()[1:]]
    assert lines[4:] == [
        # Two pages, one of them by an alias and the relation's other name.
        "Alpha disease\ttreated_with_drug\tgammacillin\tS\tAlpha disease\t11\tprose\tAlpha disease needs gammacillin.",
        "Alpha disease\thas_sign\trigidity\tW\tAlpha disease\t11\tprose\tIt causes rigidity",
        # One page more than the weak edge has.
        "Alpha disease\thas_symptom\ttremor\tS\tTremor\t12\tprose\tA tremor is a hallmark of alpha disease.",
        # Two pages, but the relation allows one strong tail, and there is one.
        "Beta disease\tgold_standard_test\tbiopsy\tW\tBeta disease\t13\tprose\tBiopsy settles it in beta disease.",
    ]  # fmt: skip
    fates = [json.loads(line)["outcome"] for line in Path("out/prose.jsonl").read_text().splitlines()]
    assert fates == [
        "S", "W", "rejected: evidence is not in the text",
        "rejected: 'tremor' is not named in the text",
        "rejected: unknown relation", "rejected: 'blindness' is no name of the graph",
        "rejected: 'deltastatin' is not named in the text", "rejected: the evidence does not name both ends",
        "rejected: malformed", "S", "S", "rejected: negated", "W", "W",
    ]  # fmt: skip
    graph = load_graph("out")
    assert graph.tails_of("Alpha disease", "treated_with_drug", strong=True) == ["gammacillin"]
    assert len(chat.bodies) == 4
    main(triples(chat))
    assert len(chat.bodies) == 4 and Path("out/edges.tsv").read_text().splitlines() == lines


def test_the_teacher_sees_only_what_could_be_said(here, serve_chat) -> None:
    chat = serve_chat(reply)
    main(triples(chat, "--concurrency", "1"))
    asked = chat.bodies[0]["messages"][1]["content"]
    assert "has_sign: disease -> " in asked and "caused_by" in asked and "metabolised_by" not in asked
    assert "gammacillin (drug)" in asked and "deltastatin" not in asked and asked.endswith(PROSE[0][2])


@pytest.mark.parametrize(
    "answer", ["", "I cannot.", "[", "{}", "[1, null, []]", "[[[" * 5000, '[{"head": 3}]'], ids=range(7)
)
def test_answers_that_are_no_triples(here, serve_chat, answer, capsys) -> None:
    main(triples(serve_chat(lambda *_: answer)))
    assert "out: 0 new edges" in capsys.readouterr().out
    assert Path("out/edges.tsv").read_text().splitlines()[1] == EDGES.splitlines()[1] + "\t"


def test_failures_are_accounted_for_and_asked_again(here, serve_chat, capsys) -> None:
    chat = serve_chat(lambda body, count: reply(body, count) if count or "Tremor\n" not in str(body) else (500, {}, {}))
    chat.reply = lambda body, count: (500, {}, {}) if "Page: Tremor" in str(body) and not count else reply(body, count)
    main(triples(chat))
    outcomes = [p["outcome"] for p in json.loads(Path("out/prose.report.json").read_text())["passages"]]
    assert [outcome.partition(":")[0] for outcome in outcomes] == ["read", "failed", "read", "read", "no two nodes"]
    main(triples(chat))
    assert len(chat.bodies) == 5 and "4 read" in capsys.readouterr().out


def test_a_budget_stops_it_with_exit_1(here, serve_chat, capsys) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(triples(serve_chat(reply), "--token-budget", "10"))
    assert stopped.value.code == 1 and "4 budget" in capsys.readouterr().out


def test_an_embedded_graph_s_columns_are_kept(here, serve_chat) -> None:
    edges = "head\trelation\ttail\tstrength\tsource\nBeta disease\thas_sign\trigidity\tS\tunsourced\n"
    Path("g/edges.tsv").write_text(edges)
    main(triples(serve_chat(reply)))
    lines = Path("out/edges.tsv").read_text().splitlines()
    assert lines[2].startswith("Alpha disease\ttreated_with_drug\tgammacillin\tS\tAlpha disease@11#prose\t")


@pytest.mark.parametrize(
    ("prose", "said"),
    [
        ("", "is empty"),
        ("{", "line 1: not JSON"),
        ("[1]", "line 1: no object"),
        ('{"title": "a\\tb", "revision": "1", "text": "x"}', "line 1: title"),
        ('{"title": "a", "text": "x"}', "line 1: revision"),
        ('{"title": "a", "revision": 1, "text": null}', "line 1: text"),
    ],
)
def test_wrong_prose_is_one_line(here, capsys, prose, said) -> None:
    Path("prose.jsonl").write_text(prose)
    command = [
        "rods",
        "triples",
        "prose.jsonl",
        "--graph",
        "g",
        "--out",
        "out",
        "--teacher",
        "http://x/v1",
        "--model",
        "m",
    ]
    with pytest.raises(SystemExit) as stopped:
        main(command)
    assert stopped.value.code == 2 and said in capsys.readouterr().err and not Path("out").exists()


def test_another_folder_is_not_overwritten(here, capsys) -> None:
    command = [
        "rods",
        "triples",
        "prose.jsonl",
        "--graph",
        "g",
        "--out",
        "g",
        "--teacher",
        "http://x/v1",
        "--model",
        "m",
    ]
    with pytest.raises(SystemExit):
        main(command)
    assert "choose another --out" in capsys.readouterr().err and Path("g/edges.tsv").read_text() == EDGES
