"""The ablation of a run: one row per stage on the same held-out items, as JSON, as a table and as a picture."""

import json
from pathlib import Path
from typing import Any

from corl.observe.metrics import replace_text


def write_ablation(run_dir: Path, rows: list[dict[str, Any]]) -> None:
    """RUN/ablation.json and RUN/ablation.png; rows as Evaluation.row makes them, in stage order."""
    replace_text(run_dir / "ablation.json", json.dumps({"stages": rows}, indent=1) + "\n")
    draw_ablation(rows, run_dir / "ablation.png")


def ablation_table(rows: list[dict[str, Any]]) -> str:
    """Fixed-width lines: stage, sampled pass@1 with its standard error, greedy, by difficulty, by gold letter."""
    tiers = sorted({tier for row in rows for tier in row["sampled_by_difficulty"]}, key=_tier_order)
    heads = "".join(f"{tier:>11}" for tier in tiers)
    lines = [f"{'stage':<12}{'pass@1':>8}{'+-':>7}{'greedy':>8}{heads}   by gold letter"]
    for row in rows:
        cells = "".join(f"{100 * row['sampled_by_difficulty'].get(t, float('nan')):>11.1f}" for t in tiers)
        letters = " ".join(f"{k} {100 * v:.0f}" for k, v in row["sampled_by_letter"].items())
        lines.append(
            f"{row['name']:<12}{100 * row['accuracy']:>8.1f}{100 * row['stderr']:>7.1f}{100 * row['greedy']:>8.1f}"
            f"{cells}   {letters}"
        )
    return "\n".join(lines)


def draw_ablation(rows: list[dict[str, Any]], path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # without pyplot: no global state, no display
    from matplotlib.figure import Figure

    names = [row["name"] for row in rows]
    tiers = sorted({tier for row in rows for tier in row["sampled_by_difficulty"]}, key=_tier_order)
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    places = range(len(rows))
    axes.bar(
        places,
        [100 * row["accuracy"] for row in rows],
        yerr=[100 * row["stderr"] for row in rows],
        width=0.55,
        color="#9db8d2",
        capsize=4,
        label="all, sampled pass@1 (bar: one standard error)",
    )
    axes.plot(places, [100 * row["greedy"] for row in rows], "k_", markersize=22, label="all, greedy")
    for tier, colour in zip(tiers, ("#3a7d44", "#c98a1b", "#b03a48", "#666666"), strict=False):
        values = [100 * row["sampled_by_difficulty"].get(tier, float("nan")) for row in rows]
        axes.plot(places, values, "o-", color=colour, linewidth=1, markersize=4, label=f"{tier}, sampled")
    for place, row in zip(places, rows, strict=True):
        axes.annotate(f"{100 * row['accuracy']:.1f}", (place, 2), ha="center", fontsize=9)
    axes.set_xticks(list(places), names)
    axes.set_ylim(0, 104)
    axes.set_ylabel("held-out accuracy, %")
    axes.set_title(f"{rows[0]['n']} held-out items, the same in every row", fontsize=10)
    axes.legend(fontsize=8, loc="upper left", frameon=False)
    unfinished = path.with_name(f".{path.name}.unfinished.png")
    figure.savefig(unfinished, dpi=130)
    unfinished.replace(path)


def _tier_order(tier: str) -> int:
    return ("easy", "moderate", "difficult", "untiered").index(tier)
