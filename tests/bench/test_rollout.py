import json
import math
from dataclasses import replace

import pytest
import torch

from bench import rollout
from bench.rollout_rivals import Workload, by_engine, engine_for, quiet
from bench.rollout_rows import Row, append, measure, table
from bench.roofline import Peaks
from bench.step_work import decode_step
from bench.timing import Timing
from corl.model.attention import packed_attention

CPU = torch.device("cpu")
TINY = {
    "model_type": "qwen3", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "vocab_size": 61,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "tie_word_embeddings": False,
}  # fmt: skip


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(rollout.SHAPES, "test", TINY)
        quiet()
        yield rollout.build("test", tmp_path_factory.mktemp("model"), CPU)


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="measures what a machine without a GPU does")
def test_the_command_writes_rows_a_picture_and_the_ratios(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(rollout.SHAPES, "tiny", TINY)
    out = tmp_path / "new" / "rollout.jsonl"
    sizes = ["--prompts", "3", "--samples", "2", "--max-tokens", "4", "--repeats", "2", "--budgets", "16", "32", "64"]
    rollout.main(["--models", "tiny", *sizes, "--out", str(out)])
    lines = {line["name"]: line for line in map(json.loads, out.read_text().splitlines())}
    made = [line for line in lines.values() if line["tokens"]]
    assert len(lines) == 3 + 6 + 3 and len(made) == 3 + 6
    for line in made:
        assert line["tokens"] == 3 * 2 * 4 and line["facts"]["first_token_s"] > 0
        assert math.isclose(line["tokens_per_s"], 24 / line["timing"]["p50"] * 1e3)
    best = max(
        (line for name, line in lines.items() if name.startswith("generate_batch ")), key=lambda x: x["tokens_per_s"]
    )
    assert lines["generate_batch"]["settings"] == best["settings"] | {"best_of": 6}
    ours = lines["corl"]
    assert ours["timing"]["samples"] == 2 and ours["sha"] and ours["transformers"] and ours["dtype"] == "torch.float32"
    assert 0 < ours["facts"]["kv_peak"] <= 1 and ours["facts"]["idle"] == 0 and ours["facts"]["preemptions"] == 0
    assert lines["swap_weights, arena"]["facts"]["bytes"] > 0 and "facts" in lines["sleep and wake"]
    assert out.with_suffix(".png").exists()
    printed = capsys.readouterr().out
    assert "no GPU" in printed and "corl / generate_batch: " in printed and "corl / generate per group: " in printed


def test_the_reference_has_the_same_weights(pair):
    reference, model = pair
    ids = torch.arange(9)
    with torch.inference_mode():
        wanted = reference(ids[None]).logits[0]
        hidden = model(ids, ids, packed_attention(torch.tensor([0, 9]), 9))
        torch.testing.assert_close(hidden @ model.head_weight.T, wanted, rtol=1e-4, atol=1e-4)


def test_the_cache_holds_every_sample(pair):
    workload = Workload(rollout.random_prompts(61, 4, 5, 40), 3, 7)
    assert all(5 <= len(prompt) <= 40 for prompt in workload.prompts)
    engine = engine_for(pair[1], workload, 8)
    assert by_engine(engine, workload).tokens == 4 * 3 * 7
    facts = rollout.occupancy(engine)
    assert facts["preemptions"] == 0 and 0.3 < facts["kv_peak"] <= 1


def test_decoding_is_held_against_the_floor_of_its_steps(pair, monkeypatch):
    """Three steps decode after a prompt of 5, with 6, 7 and 8 positions; memory so slow that its bytes are all."""
    monkeypatch.setattr(rollout, "_DECODED", (5, 4))
    ((row,),) = rollout.decoding("test", pair[1], Peaks(1e9, 1e-6, "made up"), batches=(8,), page_size=8, repeats=1)
    config = pair[1].config
    moved = sum(part.count * part.traffic for context in (6, 7, 8) for part in decode_step(config, 8, context).values())
    milliseconds = row.timing.p50 - row.facts["first_token_s"] * 1e3
    assert row.facts["floor_share"] == pytest.approx(moved / 1e6 * 1e3 / milliseconds)
    weights = sum(p.nbytes for name, p in pair[1].named_parameters() if p.ndim == 2 and "embed" not in name)
    assert moved > 3 * weights


def test_every_run_must_make_the_same_number_of_tokens(pair):
    workload = Workload([[1, 2]], 2, 3)
    engine = engine_for(pair[1], workload, 8)
    runs = {"ours": (lambda: by_engine(engine, workload), {})}
    with pytest.raises(AssertionError, match="made 6 tokens, 7 were asked for"):
        measure("test", runs, repeats=1, tokens=7)


def test_a_rival_that_fails_costs_its_own_row(capsys):
    def fails():
        raise RuntimeError("no such cache\nand a long story")

    runs = {"theirs": (fails, {}), "ours": (lambda: None, {})}
    theirs, ours = measure("test", runs, repeats=2, peers=["theirs"])
    assert theirs.skipped == "RuntimeError: no such cache" and theirs.timing is None and theirs.rate == 0
    assert ours.timing.samples == 2 and ours.skipped is None
    assert table([theirs, ours]).splitlines()[0] == "skipped: theirs: RuntimeError: no such cache"
    with pytest.raises(RuntimeError, match="no such cache"):
        measure("test", runs, repeats=1)
    named = [_row("corl", 1.0, 0.1), replace(theirs, model="tiny", name="generate_batch")]
    named.append(_row("generate per group", 4.0, 0.2))
    assert "nothing to compare with (RuntimeError: no such cache)" in rollout.verdict(named, goal=3.0)[0]


def test_a_contest_without_its_rivals_still_measures_the_engine(pair, monkeypatch):
    """Rows come as soon as they are measured: the trials one by one, then the rest."""

    def fails(*_, **__):
        raise ValueError("planted")

    monkeypatch.setattr(rollout.rivals, "by_generate_batch", fails)
    monkeypatch.setattr(rollout.rivals, "forget", lambda model: None)
    workload = Workload(rollout.random_prompts(61, 3, 5, 9), 2, 3)
    settings = {"page_size": 8, "repeats": 1, "budgets": (16, 32, 64), "groups": 1}
    *trials, last = list(rollout.contest("test", *pair, workload, **settings))
    assert len(trials) == 6 and all(len(rows) == 1 and rows[0].skipped for rows in trials)
    ours, batched, grouped = last
    assert ours.tokens == 18 and batched.skipped == "ValueError: planted"
    assert grouped.tokens == 6 and grouped.settings == {"prompts": 1}


def test_turns_alternate_and_the_warm_up_does_not_count():
    order = []
    runs = {name: (lambda name=name: order.append(name), {}) for name in "ab"}
    rows = measure("test", runs, repeats=3)
    assert "".join(order) == "ba" + "ab" + "ba" + "ab"
    assert [row.timing.samples for row in rows] == [3, 3]


def _row(name, milliseconds, cpu_s):
    return Row("tiny", name, Timing(milliseconds, milliseconds, milliseconds, 1), cpu_s, 1000)


def test_the_verdict_is_a_ratio_of_rates_and_the_table_shows_what_is_known(tmp_path):
    ours = _row("corl", 100.0, 0.1).known(kv_peak=0.5, idle=0.25)
    rows = [ours, _row("generate_batch", 250.0, 0.4), _row("generate per group", 400.0, 0.2)]
    assert rollout.verdict(rows, goal=3.0) == [
        "tiny: corl / generate_batch: 2.50 (goal >= 3: MISSED), by CPU time 4.00",
        "tiny: corl / generate per group: 4.00 (goal >= 3: met), by CPU time 2.00",
    ]
    head, first, *_ = table(rows).splitlines()
    assert first.split() == ["corl", "10000", "10000-10000", "10000", "100", "50.0", "25.0"]
    assert "MB" not in head and "roof" not in head
    append(rows, {"sha": "abc"}, tmp_path / "r.jsonl")
    line = json.loads((tmp_path / "r.jsonl").read_text().splitlines()[0])
    assert line["sha"] == "abc" and line["tokens_per_s"] == 10000 and line["facts"] == {"kv_peak": 0.5, "idle": 0.25}


@pytest.mark.parametrize("wrong", [["--out", "r.txt"], ["--repeats", "0"], ["--budgets", "1"], ["--models", "none"]])
def test_wrong_arguments_are_refused(wrong, capsys):
    with pytest.raises(SystemExit) as stopped:
        rollout.main(wrong)
    assert stopped.value.code == 2
    assert wrong[0] in capsys.readouterr().err
