"""`corl rods mix`: exactly N items at the quotas, each once, the same for a seed; and one line when it cannot be."""

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from corl.cli import main
from corl.data.items import DIFFICULTIES, Item, file_sha256, read_items, write_items
from corl.rods.mixing import MixRequest, mix_files
from corl.rods.mixing.quotas import parse_weights


def item_of(source: str, k: int, tier: str | None = None, lang: str = "en", **meta) -> Item:
    question = f"What is number {k} of {source}?" if lang == "en" else f"{source}的第{k}题是什么？"
    return Item(f"{source}:{lang}:{k}", source, lang, None, question, {"A": "this", "B": "that"}, "A", tier, meta)


@pytest.fixture
def files(tmp_path) -> list[Path]:
    """Two public sets of one language each, made items of both; 120 of each tier of a source."""
    made = {"shape": "star", "graph": {"name": "mine", "hash": "ab"}, "licence": None}
    sets = {
        "medqa": [item_of("medqa", k, DIFFICULTIES[k % 3]) for k in range(120)],
        "cmexam": [item_of("cmexam", k, DIFFICULTIES[k % 3], "zh") for k in range(120)],
        "made": [item_of("rods:mine", k, DIFFICULTIES[k % 3], ("en", "zh")[k // 3 % 2], **made) for k in range(240)],
    }
    for name, items in sets.items():
        write_items(tmp_path / f"{name}.jsonl", items)
    (tmp_path / "made.jsonl.manifest.json").write_text('{"graph": {"dump_date": "20260201"}}')
    return [tmp_path / f"{name}.jsonl" for name in sets]


def command(files: list[Path], out: Path, *arguments: str) -> list[Item]:
    main(["rods", "mix", *map(str, files), "--out", str(out), *arguments])
    return read_items(out)


def test_three_attributes_hold_in_every_prefix(files, tmp_path) -> None:
    weights = ["--weights", "medqa=1", "cmexam=1", "rods:mine=2", "--tier", "easy=1", "moderate=0.5", "difficult=.5"]
    items = command(files, tmp_path / "m.jsonl", "--n", "160", *weights, "--lang", "en=1", "zh=1")
    shares = {
        ("source", "medqa"): 0.25, ("source", "cmexam"): 0.25, ("source", "rods:mine"): 0.5,
        ("difficulty", "easy"): 0.5, ("difficulty", "moderate"): 0.25, ("difficulty", "difficult"): 0.25,
        ("lang", "en"): 0.5, ("lang", "zh"): 0.5,
    }  # fmt: skip
    assert len(items) == 160 == len({item.id for item in items})
    for (name, value), share in shares.items():
        count = 0
        for k, item in enumerate(items, 1):
            count += getattr(item, name) == value
            assert abs(count - k * share) <= 1, (name, value, k)


def test_seed_decides_which_and_nothing_else(files, tmp_path) -> None:
    arguments = ["--n", "60", "--weights", "synthetic=1", "public=1"]
    first = command(files, tmp_path / "1.jsonl", *arguments)
    command(files, tmp_path / "2.jsonl", *arguments)
    assert (tmp_path / "1.jsonl").read_bytes() == (tmp_path / "2.jsonl").read_bytes()
    other = command(files, tmp_path / "3.jsonl", *arguments, "--seed", "1")
    assert {item.id for item in other} != {item.id for item in first}
    kind = [[item.source == "rods:mine" for item in items] for items in (first, other)]
    assert kind[0] == kind[1] and sum(kind[0]) == 30


def test_without_quotas_made_and_public_are_one_to_one(files, tmp_path, capsys) -> None:
    items = command(files, tmp_path / "m.jsonl", "--n", "100")
    assert sum(item.source == "rods:mine" for item in items) == 50
    alone = command(files[:2], tmp_path / "p.jsonl", "--n", "240")
    assert len(alone) == 240
    assert "quotas  none" in capsys.readouterr().out


def test_presets(files, tmp_path) -> None:
    stage1 = command(files, tmp_path / "1.jsonl", "--n", "80", "--preset", "stage1")
    assert [sum(item.difficulty == tier for item in stage1) for tier in DIFFICULTIES] == [40, 40, 0]
    answers = tmp_path / "answers.jsonl"
    ids = [item.id for item in read_items(files[0])]
    answers.write_text("".join(json.dumps({"id": id_, "correct": [k % 2 == 0]}) + "\n" for k, id_ in enumerate(ids)))
    stage2 = command(files, tmp_path / "2.jsonl", "--n", "90", "--preset", "stage2", "--pass-rates", str(answers))
    right = set(ids[::2])
    assert sum(item.id in right for item in stage2) == 30, (
        "right : wrong = 1 : 2; what nobody attempted counts as wrong"
    )
    rated = [
        replace(item, meta={"tiers": {"pass_rate": {"tier": "easy", "rate": k % 2}}}) for k, item in enumerate(stage1)
    ]
    write_items(tmp_path / "rated.jsonl", rated)
    own = command([tmp_path / "rated.jsonl"], tmp_path / "3.jsonl", "--n", "30", "--preset", "stage2")
    assert sum(item.meta["tiers"]["pass_rate"]["rate"] for item in own) == 10


def test_too_few_says_how_many_and_that_many_can_be_had(files, tmp_path, capsys) -> None:
    for arguments, wanted in (
        (["--tier", "easy=3", "moderate=1"], None),
        (["--weights", "medqa=1", "public=1"], 240),
        (["--weights", "synthetic=1", "public=1", "--lang", "en=3", "zh=1", "--tier", "easy=1", "difficult=1"], None),
    ):
        out = tmp_path / "few.jsonl"
        with pytest.raises(SystemExit) as stop:
            command(files, out, "--n", "5000", *arguments)
        message = capsys.readouterr().err
        assert stop.value.code == 2 and message.count("\n") == 1 and not out.exists()
        most = int(message.split("can give ")[1].split()[0])
        assert wanted is None or most == wanted
        assert len(command(files, out, "--n", str(most), *arguments)) == most
        capsys.readouterr()
        out.unlink()


def test_no_item_twice(files, tmp_path) -> None:
    again = [*read_items(files[0])[:10], replace(read_items(files[0])[11], id="copy")]
    write_items(tmp_path / "again.jsonl", again)
    report = mix_files(MixRequest([files[0], tmp_path / "again.jsonl"], tmp_path / "m.jsonl", 120))
    assert (report.read, report.items, report.repeated, report.not_taken) == (131, 120, 11, 0)
    write_items(tmp_path / "other.jsonl", [replace(again[0], answer="B")])
    with pytest.raises(ValueError, match="another question in an earlier file"):
        mix_files(MixRequest([files[0], tmp_path / "other.jsonl"], tmp_path / "x.jsonl", 10))


def test_manifest(files, tmp_path) -> None:
    command(files, tmp_path / "m.jsonl", "--n", "50", "--lang", "en=2", "zh=3")
    manifest = json.loads((tmp_path / "m.jsonl.manifest.json").read_text())
    assert manifest["sha256"] == file_sha256(tmp_path / "m.jsonl")
    assert [each["sha256"] for each in manifest["inputs"]] == [file_sha256(file) for file in files]
    assert manifest["dump_dates"] == ["20260201"] and manifest["graphs"] == {"mine": "ab"}
    assert manifest["counts"]["lang"] == {"en": 20, "zh": 30} and manifest["quotas"] == {"lang": {"en": 0.4, "zh": 0.6}}
    assert set(manifest["versions"]) == {"corl", "python", "numpy"} and manifest["deviation"] <= 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["--n", "0"],
        ["--n", "5", "--tier", "hard=1"],
        ["--n", "5", "--tier", "easy"],
        ["--n", "5", "--tier", "easy=x"],
        ["--n", "5", "--tier", "easy=0"],
        ["--n", "5", "--tier", "easy=-1"],
        ["--n", "5", "--lang", "en=1", "fr=1"],
        ["--n", "5", "--weights", "nowhere=1", "medqa=1"],
        ["--n", "5", "--preset", "stage3"],
        ["--n", "5", "--preset", "stage2"],
        ["--n", "5", "--tier", "easy=0.333333333333", "moderate=1"],
    ],
)
def test_wrong_requests_are_one_line(arguments, files, tmp_path, capsys) -> None:
    with pytest.raises(SystemExit) as stop:
        command(files, tmp_path / "m.jsonl", *arguments)
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.startswith("error: ") and error.count("\n") == 1
    assert not (tmp_path / "m.jsonl").exists()


def test_weights() -> None:
    assert parse_weights(["a=b=1/3", "c=0.5"], "--x") == {"a=b": Fraction(1, 3), "c": Fraction(1, 2)}
