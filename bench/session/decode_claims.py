"""What a decode step adds to its GEMMs, op by op: attention, draws and cuts, norms, gates, the cache."""

from bench import decode
from bench.contest import Row
from bench.report import record as as_line
from bench.report import table
from bench.session.context import Context
from bench.session.record import Goal, at_least, at_most

_ATTENTION = "paged_attention_decode"


def run(context: Context) -> None:
    """Attention at two batches and two lengths, then every other op at both sizes of bench.decode."""
    on_gpu = not context.toy
    models = ("qwen2.5-7b", "qwen3-32b") if on_gpu else ("toy",)
    others = [op for op in decode.OPS if op != _ATTENTION]
    for part in context.parts([f"{model}: {op}" for op in (_ATTENTION, *others) for model in models]):
        model, op = part.split(": ")
        with context.trying(part):
            sizes = {"batches": (64, 256), "contexts": (512, 4096)} if on_gpu else {"batches": (3,), "contexts": (300,)}
            same = {"models": [model], "ops": [op], "compiled": False, "repeats": 12 if on_gpu else 1, **sizes}
            for rows in decode.suite(context.device, context.peaks(), quick=context.toy, **same):
                print(table(rows), flush=True)
                for row in rows:
                    context.record.write("row", **as_line(row, {}))
                    claim(context, row)
                compare(context, rows)


def claim(context: Context, row: Row) -> None:
    """The share of the copy's bandwidth that one of our kernels reaches."""
    if row.timing is None or not row.name.startswith("corl"):
        return
    share, sizes = row.roof_percent / 100, " ".join(f"{key}={size}" for key, size in row.case.shape.items())
    # launches and the last blocks' tail weigh on what takes a few microseconds
    goal: Goal | None = at_least(0.75) if row.op == _ATTENTION and row.case.shape["L"] >= 4096 else None
    context.record.claim(
        f"{row.case.model} {sizes}: {row.name}", row.timing.p50 * 1e3, unit="us", floor_share=share, op=row.op
    )
    if goal is not None:
        context.record.claim(f"{row.case.model} {sizes}: {row.name}, bandwidth", share, unit="of copy", goal=goal)


def compare(context: Context, rows: list[Row]) -> None:
    """Ours over the fastest of the others; a wide table over an exact one."""
    by_op: dict[str, list[Row]] = {}
    for row in rows:
        if row.timing is not None:
            by_op.setdefault(row.op, []).append(row)
    for op, found in by_op.items():
        sizes = " ".join(f"{key}={size}" for key, size in found[0].case.shape.items())
        where = f"{found[0].case.model} {sizes}"
        times = {row.name: row.timing.p50 for row in found if row.timing is not None}
        ours = next(name for name in times if name.startswith("corl"))
        rivals = {name: ms for name, ms in times.items() if not name.startswith("corl")}
        if rivals:
            best = min(rivals, key=rivals.__getitem__)
            # keys that were gathered off the clock are no alternative in an engine
            goal = None if "before" in best else at_most(1.0)
            context.record.claim(f"{where}: {op} / {best}", times[ours] / rivals[best], unit="x", goal=goal)
        if decode.WIDE_TABLE in times:
            context.record.claim(f"{where}: {op}, wide table / exact", times[decode.WIDE_TABLE] / times[ours], unit="x")
