import pytest
import torch

from bench import decode, norms_and_gates
from bench.inputs import MODELS, ModelShape

CPU = torch.device("cpu")
TINY = ModelShape(hidden=32, vocab=307, heads=4, kv_heads=2, head_dim=8, qk_norm=True, intermediate=48)
PLACE = {"device": CPU, "dtype": torch.float32}


def _by_name(entries):
    return {entry.name: entry for entry in entries}


def test_attention_rivals_compute_what_ours_does():
    entries = _by_name(decode.paged_attention(TINY, 3, 300, **PLACE))
    wanted = entries["corl paged_attention_decode"].run()
    for name in ("torch SDPA, keys gathered before", "torch gather and SDPA"):
        torch.testing.assert_close(entries[name].run().flatten(1, 2), wanted)
    torch.testing.assert_close(entries[decode.WIDE_TABLE].run(), wanted)
    assert entries["flash-attn with_kvcache"].skipped
    assert all(entry.traffic == 4 * (2 * 3 * 300 * 2 * 8 + 2 * 3 * 4 * 8) for entry in entries.values())


def test_sampling_rivals_draw_from_the_same_distribution():
    torch.manual_seed(0)
    entries = _by_name(decode.sampling_rivals(TINY, 400, 16, **PLACE))
    plain = [name for name, entry in entries.items() if entry.op == "sample_tokens"]
    scores = {name: float(entries[name].run()[1].mean()) for name in plain}
    assert max(scores.values()) - min(scores.values()) < 0.25, scores  # standard errors of about 0.04
    for op in ("sample_tokens, top-k, top-p", "sample_tokens, top-p of flat rows"):
        cut = [float(entry.run()[1].mean()) for entry in entries.values() if entry.op == op]
        assert len(cut) == 2 and abs(cut[0] - cut[1]) < 0.25, (op, cut)
        assert "flat" in op or min(cut) > min(scores.values())


@pytest.mark.parametrize("qk_norm", [True, False])
def test_rotation_rivals_agree_forward_and_backward(qk_norm):
    shape = ModelShape(32, 307, 4, 2, 8, qk_norm=qk_norm)
    entries = _by_name(decode.norm_and_rotation(shape, 5, **PLACE))
    for suffix in ("", ", backward"):
        ours, theirs = entries[f"corl qk_norm_rope{suffix}"].run(), entries[f"torch eager{suffix}"].run()
        assert len(ours) == (2 if not suffix else 4 if qk_norm else 2)
        for mine, wanted in zip(ours, theirs, strict=True):
            torch.testing.assert_close(mine, wanted)


def test_cache_writes_agree():
    entries = decode.cache_writes(TINY, 7, **PLACE)
    caches = [cell.cell_contents for cell in entries[0].run.__closure__ if isinstance(cell.cell_contents, tuple)][0][
        2:4
    ]
    written = []
    for entry in entries:
        for cache in caches:
            cache.zero_()
        entry.run()
        written.append([cache.clone() for cache in caches])
    assert written[0][0].count_nonzero() == 7 * 2 * 8
    for mine, wanted in zip(*written, strict=True):
        assert torch.equal(mine, wanted)


@pytest.mark.parametrize("rivals", [norms_and_gates.residual_norms, norms_and_gates.gates])
def test_norm_and_gate_rivals_agree_forward_and_backward(rivals):
    entries = rivals(TINY, 5, **PLACE)
    by_op = {}
    for entry in entries:
        if entry.skipped is None:
            found = entry.run()
            by_op.setdefault(entry.op, []).append([found] if isinstance(found, torch.Tensor) else list(found))
    assert len(by_op) == 2 and all(len(results) >= 2 for results in by_op.values())
    for results in by_op.values():
        for other in results[1:]:
            for mine, wanted in zip(results[0], other, strict=True):
                torch.testing.assert_close(mine, wanted)
    assert any("liger" in entry.name and entry.skipped for entry in entries)


def test_the_suite_runs_the_ops_that_are_asked_for(monkeypatch):
    monkeypatch.setitem(MODELS, "tiny", TINY)
    monkeypatch.setattr(decode, "_PAGE", 16)
    peaks = decode.Peaks(1.0, 1.0, "made up")

    def ops(**asked):
        suite = decode.suite(CPU, peaks, models=["tiny"], repeats=1, quick=True, **asked)
        rows = [row for rows in suite for row in rows]
        assert all(row.gbps > 0 for row in rows if row.skipped is None)
        return {row.op for row in rows}

    with_backward = {
        f"{op}{more}" for op in ("qk_norm_rope", "add_rms_norm", "swiglu") for more in ("", " and backward")
    }
    single = {"paged_attention_decode", "sample_tokens", "sample_tokens, top-k, top-p", "store_kv"}
    single.add("sample_tokens, top-p of flat rows")
    assert ops() == single | with_backward
    assert ops(ops=["swiglu", "store_kv"]) == {"swiglu", "swiglu and backward", "store_kv"}
