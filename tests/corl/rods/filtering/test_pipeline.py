"""Every row is accounted for, each filter finds its own fault, and filtering what was kept changes nothing."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from corl.cli import main
from corl.data.items import file_sha256, read_items, write_items
from corl.rods.filtering import FILTERS, Request, filter_files

LONG = (
    "Which drug is held back before a scan with iodine contrast in a woman of seventy with a slow kidney and sugar in "
    "her urine who walks two miles each day and takes nothing else at all?"
)


def lines_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def run(tmp_path: Path, items, **changes):
    source = tmp_path / "in.jsonl"
    write_items(source, items)
    out = tmp_path / "out"
    report = filter_files(Request([source], out, **changes))
    stopped = {
        record["item"]["id"]: record for name in ("rejected", "review") for record in lines_of(out / f"{name}.jsonl")
    }
    return report, {id_: (record["filter"], [r["code"] for r in record["reasons"]]) for id_, record in stopped.items()}


FAULTS = {
    "short_stem": ("format", {"question": "Fever is"}),
    "duplicate_options": (
        "format",
        {"options": {"A": "Beta-blocker.", "B": "Aspirin", "C": "beta blocker", "D": "Rest"}},
    ),
    "unbalanced_quotes": ("format", {"question": 'He says "no more and then sleeps for hours. Why is this so?'}),
    "markup": ("format", {"question": "A man has [[Fever|heat]] and chills since harvest. What now?"}),
    "encoding": ("format", {"question": "A man with caf\u00c3\u00a9 au lait spots is seen. What is done?"}),
    "declared_language": ("language", {"question": "患者发热三天伴咳嗽，应当首先做什么检查？"}),
    "mixed_options": (
        "language",
        {
            "lang": "zh",
            "question": "患者发热三天应当首选哪种治疗？",
            "options": {"A": "阿司匹林", "B": "Ibuprofen", "C": "休息"},
        },
    ),
}


@pytest.mark.parametrize("code", FAULTS)
def test_each_fault_is_found_by_its_filter(code: str, tmp_path, make_public) -> None:
    name, changes = FAULTS[code]
    report, stopped = run(tmp_path, [make_public(0), make_public(1, **changes), make_public(2)])
    assert stopped == {"madeup:1": (name, [code])}
    assert (report.read, report.kept, report.rejected) == (3, 2, 1)
    assert report.counts[name] == {code: 1} and report.stopped[name] == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"options": {"A": "AA", "B": "Aa", "C": "aa", "D": "aA"}},
        {"options": {"A": "AaBb x H^lh^l", "B": "aabb x H^Lh^l", "C": "< 5", "D": "> 5"}},
        {"options": {"A": "+", "B": "-", "C": "-5 mV", "D": "5 mV"}},
        {"question": "A man is 5'10\" tall and cannot sleep since harvest. What is done?"},
        {"question": "Solve \\frac{a}{b_{c_{d}}} for the man with fever since harvest."},
        {
            "lang": "zh",
            "question": "患者发热三天应当首选哪种检查？",
            "options": {"A": "HBsAg", "B": "乙肝抗体", "C": "CT", "D": "MRI"},
        },
        {"lang": "es", "question": "Paciente con fiebre y tos desde la cosecha. \u00bfQu\u00e9 se hace primero?"},
    ],
)
def test_what_only_looks_wrong_is_kept(changes: dict, tmp_path, make_public) -> None:
    assert run(tmp_path, [make_public(1, **changes)])[1] == {}


def test_wrong_lines_are_rejected_with_their_place(tmp_path, make_public) -> None:
    good = asdict(make_public(0))
    source = tmp_path / "in.jsonl"
    wrong = [{"id": "x"}, {**good, "id": "b", "answer": "Z"}, {**good, "id": "c", "options": {"A": "one"}}, good, [1]]
    text = "\n".join([json.dumps(good), "{torn", "", *map(json.dumps, wrong)]) + "\n"
    source.write_bytes(text.encode() + b'{"id": "\xff"}\n')
    report = filter_files(Request([source], tmp_path / "out"))
    assert (report.read, report.kept, report.rejected, report.review) == (8, 1, 7, 0)
    records = lines_of(tmp_path / "out" / "rejected.jsonl")
    assert [record["line"] for record in records] == [2, 4, 5, 6, 7, 8, 9]
    assert records[0]["record"] == "{torn" and records[1]["record"] == {"id": "x"}
    codes = [record["reasons"][0]["code"] for record in records]
    assert codes == [
        "not_an_item",
        "empty_question",
        "bad_label",
        "bad_label",
        "repeated_id",
        "not_an_item",
        "not_an_item",
    ]


def test_an_id_of_another_file_is_a_repeated_one(tmp_path, make_public) -> None:
    first, second = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    write_items(first, [make_public(0)])
    write_items(second, [replace(make_public(1), id="madeup:0"), make_public(2)])
    report = filter_files(Request([first, second], tmp_path / "out"))
    assert report.counts["format"] == {"repeated_id": 1} and report.kept == 2


def test_repeats(tmp_path, make_public) -> None:
    options = {"A": "Metformin", "B": "Insulin", "C": "Aspirin", "D": "Digoxin"}
    first = make_public(0, LONG, options)
    near = make_public(2, LONG.replace("seventy", "eighty"), options)
    items = [
        replace(first, answer="A"),
        replace(first, id="same", answer="A"),
        replace(first, id="conflict", answer="B"),
        replace(near, id="near", answer="A"),
        replace(near, id="near_conflict", answer="C", question=near.question.replace("miles", "yards")),
        make_public(3),
    ]
    report, stopped = run(tmp_path, items)
    assert stopped == {
        "same": ("duplicates", ["exact_duplicate"]),
        "conflict": ("duplicates", ["exact_duplicate"]),
        "near": ("duplicates", ["near_duplicate"]),
        "near_conflict": ("duplicates", ["near_duplicate"]),
    }
    review = [record["item"]["id"] for record in lines_of(tmp_path / "out" / "review.jsonl")]
    assert review == ["conflict", "near_conflict"], "two labels for one question: one of them is wrong"
    assert (report.kept, report.rejected, report.review) == (2, 2, 2)


def test_made_items_that_differ_in_the_answer_are_no_repeats(tmp_path, make_public) -> None:
    options = {"A": "Metformin", "B": "Insulin", "C": "Aspirin", "D": "Digoxin"}
    meta = {"shape": "star", "graph": {"name": "mine", "hash": "0" * 16}}
    first = make_public(0, LONG, options, source="rods:mine", meta=meta)
    other = replace(first, id="other", question=LONG.replace("seventy", "eighty"), answer="C")
    same = replace(first, id="same", question=LONG.replace("seventy", "ninety"))
    _, stopped = run(tmp_path, [first, other, same])
    assert stopped == {"same": ("duplicates", ["near_duplicate"])}


def test_contamination_by_items_and_by_hashes(tmp_path, make_public) -> None:
    test_set = tmp_path / "test.jsonl"
    known = make_public(7, LONG + " " + LONG.upper(), source="medqa")
    write_items(test_set, [replace(known, meta={"split": "test"})])
    main(["data", "check", str(test_set), "--fingerprint", str(tmp_path / "test.hashes")])
    dated = make_public(3, "Seen on March 3, 2019, a man coughs. What is done first?")
    write_items(tmp_path / "dated.jsonl", [replace(dated, id="medqa:1", source="medqa")])
    items = [make_public(1, "So: " + LONG + " " + LONG.upper()), dated, make_public(2)]
    for against in ("test.jsonl", "test.hashes"):
        _, stopped = run(tmp_path, items, against=[tmp_path / against])
        assert stopped == {"madeup:1": ("contamination", ["ngram_match"])}
    _, stopped = run(tmp_path, items, against=[tmp_path / "dated.jsonl"])
    assert stopped == {"madeup:3": ("contamination", ["exact_match"])}, "compared as it was before its date went"


def test_chinese_runs_of_twenty_characters(tmp_path, make_public) -> None:
    shared = "老年男性反复咳嗽咳痰伴喘息已有多年近日受凉以后病情加重不能平卧"
    options = {"A": "吸氧", "B": "补液", "C": "利尿", "D": "镇静"}
    write_items(tmp_path / "test.jsonl", [make_public(9, shared[:30] + "问", options, lang="zh", source="cmexam")])
    long = make_public(1, shared[:24] + "首选何药", options, lang="zh")
    short = make_public(2, "农民" + shared[:15] + "哪种做法最先", options, lang="zh")
    _, stopped = run(tmp_path, [long, short], against=[tmp_path / "test.jsonl"])
    assert stopped == {"madeup:1": ("contamination", ["ngram_match"])}


def test_text_leak_goes_to_review(tmp_path, make_public) -> None:
    options = {"A": "Warfarin", "B": "Heparin drip", "C": "Oxygen", "D": "Rest"}
    _, stopped = run(
        tmp_path, [make_public(1, "A man on a heparin drip since harvest bleeds. What is the cause?", options)]
    )
    assert stopped == {"madeup:1": ("leak", ["names_answer"])}
    both = make_public(1, "A man on warfarin and a heparin drip since harvest bleeds. What is the cause?", options)
    assert run(tmp_path, [both])[1] == {}


def test_made_items_are_proven_by_the_audit(tmp_path, made_items, make_public) -> None:
    report, stopped = run(tmp_path, made_items)
    assert {name for name, _ in stopped.values()} <= {"duplicates"}
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["label_check"]["proven by the graph"] == len(made_items)
    first, *others = made_items
    wrong = "B" if first.answer == "A" else "A"
    moved = replace(first, answer=wrong)
    told = replace(others[0], question=f"{others[0].question} {others[0].options[others[0].answer]}")
    _, stopped = run(tmp_path, [moved, told, make_public(1)])
    assert stopped[moved.id][0] == "ambiguity" and "wrong_key" in stopped[moved.id][1]
    assert stopped[told.id] == ("leak", ["leak"])


def test_without_its_graph_a_made_item_is_unproven_and_said_to_be(tmp_path, made_items, make_public) -> None:
    foreign = replace(made_items[0], meta={**made_items[0].meta, "graph": {"name": "mine", "hash": "0" * 16}})
    report, stopped = run(tmp_path, [foreign, make_public(1)])
    assert stopped == {} and any("1 made items" in note for note in report.notes)
    with pytest.raises(ValueError, match="give the graph they are of"):
        run(tmp_path, [foreign], graph="embedded")


def test_same_thing_by_alias(tmp_path, made_items, make_public) -> None:
    from corl.rods.graph import load_graph

    graph = load_graph("embedded")
    node = next(k for k in range(len(graph)) if graph.aliases_en[k] and len(graph.names[k]) > 6)
    options = {"A": graph.names[node], "B": graph.aliases_en[node][0], "C": "Rest in bed", "D": "Oxygen"}
    _, stopped = run(tmp_path, [made_items[0], make_public(1, options=options, answer="C")])
    assert stopped.get("madeup:1") == ("format", ["same_by_alias"])


def test_filtering_the_kept_again_changes_nothing(tmp_path, made_items, make_public) -> None:
    items = [*made_items, *(make_public(k) for k in range(30))]
    items += [make_public(40, "Mr. Smith coughs since March 3, 2019 and harvest. What is done?")]
    items += [make_public(41, "Mr. Jones coughs since May 9, 2020 and harvest. What is done?", items[-1].options)]
    report, stopped = run(tmp_path, items)
    assert stopped["madeup:41"] == ("duplicates", ["exact_duplicate"]), "judged as it is kept"
    again = filter_files(Request([tmp_path / "out" / "kept.jsonl"], tmp_path / "again"))
    assert (again.read, again.kept, again.rewritten) == (report.kept, report.kept, 0)
    assert (tmp_path / "again" / "kept.jsonl").read_bytes() == (tmp_path / "out" / "kept.jsonl").read_bytes()


def test_manifest_and_rewritten(tmp_path, make_public) -> None:
    (tmp_path / "in.jsonl.manifest.json").write_text('{"graph": {"dump_date": "20260301"}}')
    report, _ = run(tmp_path, [make_public(1), make_public(2, "Mr. Smith coughs since harvest. What is done first?")])
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["inputs"][0]["sha256"] == file_sha256(tmp_path / "in.jsonl")
    assert manifest["dump_dates"] == ["20260301"] and set(manifest["stopped"]) == set(FILTERS)
    assert manifest["files"][0] == {
        "file": "kept.jsonl", "sha256": file_sha256(tmp_path / "out" / "kept.jsonl"), "dump_date": None,
    }  # fmt: skip
    assert lines_of(tmp_path / "out" / "rewritten.jsonl") == [
        {
            "id": "madeup:2",
            "changes": [
                {"field": "question", "rules": ["name"], "to": "Mr. X coughs since harvest. What is done first?"}
            ],
        }
    ]
    assert report.rewritten == 1 and report.rules == {"name": 1}


def test_command(tmp_path, capsys, make_public) -> None:
    source = tmp_path / "in.jsonl"
    write_items(source, [make_public(k) for k in range(3)] + [make_public(4, lang="de")])
    main(["rods", "filter", str(source), "--out", str(tmp_path / "out"), "--lang", "en"])
    assert capsys.readouterr().out.splitlines()[-1].endswith("read 4 = kept 3 + rejected 1 + review 0")
    assert [item.id for item in read_items(tmp_path / "out" / "kept.jsonl")] == ["madeup:0", "madeup:1", "madeup:2"]
    for wrong in (["nowhere.jsonl"], [str(source), "--against", str(tmp_path)], [str(source), "--graph", "nowhere"]):
        with pytest.raises(SystemExit) as stop:
            main(["rods", "filter", *wrong, "--out", str(tmp_path / "new")])
        assert stop.value.code == 2 and capsys.readouterr().err.startswith("error: ")
        assert not (tmp_path / "new").exists()
    with pytest.raises(SystemExit) as stop:
        main(["rods", "filter", str(source), "--out", str(tmp_path / "none"), "--lang", "fr"])
    assert stop.value.code == 1
