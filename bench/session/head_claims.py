"""The losses on the head against their GEMMs, at 7B and 32B, also at numbers of rows that no tile divides."""

from collections.abc import Sequence

from bench import head
from bench.contest import Row
from bench.report import record as as_line
from bench.report import table
from bench.session.context import Context
from bench.session.record import Goal, at_least, at_most

# design and issue: forward and backward over the three GEMMs, forward alone over its one, and GB besides dX
_UPDATE = {"qwen2.5-7b": 1.10, "qwen3-32b": 1.07}
_FORWARD = {"qwen2.5-7b": 1.13, "qwen3-32b": 1.09}
_MEMORY = {"qwen2.5-7b": 4.7, "qwen3-32b": 5.6}
_FIRST_GOAL = 12_000  # tokens from which on what is done once a call weighs no more than the design counts
_ERRORS = {"logprobs_max": 1e-4, "grad_hidden": 6e-3, "grad_weight": 6e-3}  # see smoke.py
# 4,099 is prime
_CASES = (
    ("qwen2.5-7b", 16384), ("qwen3-32b", 16384), ("qwen2.5-7b", 12300), ("qwen2.5-7b", 5000), ("qwen3-32b", 5000),
    ("qwen2.5-7b", 4099),
)  # fmt: skip


def run(context: Context) -> None:
    """A contest for every case, without what torch.compile makes; liger's loss where it is installed."""
    cases = (("toy", 257),) if context.toy else _CASES
    for part in context.parts([f"{model}, T={tokens}" for model, tokens in cases]):
        model, tokens = part.split(", T=")
        with context.trying(part):
            one = {"models": [model], "tokens": [int(tokens)], "repeats": 2 if context.toy else 8}
            for rows in head.suite(context.device, context.peaks(), ops=head.OPS, compiled=False, **one):
                print(table(rows), flush=True)
                for row in rows:
                    context.record.write("row", **as_line(row, {}))
                claims(context, part, model, int(tokens), rows)


def claims(context: Context, part: str, model: str, tokens: int, rows: Sequence[Row]) -> None:
    named = {row.name: row for row in rows if row.timing is not None}
    record, late = context.record, tokens >= _FIRST_GOAL

    def goal(bounds: dict[str, float]) -> Goal | None:
        return at_most(bounds[model]) if late and model in bounds else None

    def over(name: str, floor: str) -> float:
        ours, theirs = named[name].timing, named[floor].timing
        assert ours is not None and theirs is not None
        return ours.p50 / theirs.p50

    for what, name, own, outsider, bounds in (
        ("update", head.OURS, head.GEMMS, head.OUTSIDERS_GEMMS, _UPDATE),
        ("update into grad_weight_out", head.MAIN_GRAD, head.GEMMS, head.OUTSIDERS_GEMMS, _UPDATE),
        ("log-probs", "corl linear_logprobs, entropy", head.GEMM, head.OUTSIDERS_GEMM, _FORWARD),
    ):
        ratio, milliseconds = over(name, own), named[name].timing
        assert milliseconds is not None
        detail = {"ms": milliseconds.p50, "over unchunked GEMMs": over(name, outsider)}
        record.claim(f"{part}: {what} / its GEMMs", ratio, goal=goal(bounds), floor_share=1 / ratio, **detail)
        record.claim(f"{part}: {what} / GEMMs not chunked", over(name, outsider), unit="x")
        _bandwidth(context, part, what, named[name], named[own], whole=own == head.GEMMS)
    record.claim(f"{part}: own GEMMs / GEMMs not chunked", over(head.GEMMS, head.OUTSIDERS_GEMMS), goal=at_most(1.03))
    ours = named[head.OURS]
    held = (ours.peak_bytes or 0) - ours.gradient_bytes["dX"]
    record.claim(f"{part}: memory besides dX", held / 1e9, unit="GB", goal=goal(_MEMORY))
    for what, bound in _ERRORS.items():
        record.claim(f"{part}: {what} against fp64", ours.errors[what], must=at_most(bound))
    for rival in (head.LIGER, "torch eager, full logits"):
        if rival in named:
            record.claim(f"{part}: update / {rival}", over(head.OURS, rival), unit="x")


def _bandwidth(context: Context, part: str, what: str, ours: Row, gemms: Row, *, whole: bool) -> None:
    """What the rows' kernels reach if all time beside the GEMMs is theirs: fp32 logits read twice and bf16 dlogits
    written, or read once. That time holds dW's rounding and the launches as well, so this is a lower bound."""
    assert ours.timing is not None and gemms.timing is not None
    beside = ours.timing.p50 - gemms.timing.p50
    logits = ours.case.shape["T"] * ours.case.shape["V"]
    size = 2 if not context.toy else 4
    traffic = logits * (2 * 4 + size if whole else 4)
    if beside <= 0:
        context.record.not_run(f"{part}: bandwidth of the rows' kernels, {what}", "no slower than the GEMMs alone")
        return
    share = traffic / (beside * 1e-3) / (context.peaks().tbps * 1e12)
    claim = f"{part}: bandwidth of the rows' kernels, {what}"
    goal = at_least(0.8) if ours.case.shape["T"] >= _FIRST_GOAL else None
    context.record.claim(claim, share, unit="of copy", goal=goal, floor_share=share, ms_beside_gemms=beside)
