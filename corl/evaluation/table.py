"""Tables, as Markdown and as a picture."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

ROW_INCHES, CHARACTER_INCHES = 0.27, 0.085


@dataclass(frozen=True, slots=True)
class Table:
    title: str
    heads: list[str]
    rows: list[list[str]]
    own: list[int]  # the rows to set off from the others in a picture

    def markdown(self) -> str:
        lines = [self.heads, ["---"] * len(self.heads), *self.rows]
        return "\n".join([f"{self.title}\n", *(f"| {' | '.join(map(_plain, cells))} |" for cells in lines)])


def draw_tables(tables: Sequence[Table], notes: Sequence[str]) -> bytes:
    """A PNG of the tables below each other, the notes under them; rows that are `own` stand out."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # without pyplot: no global state, no display
    from matplotlib.figure import Figure

    widths = [_widths(table) for table in tables]
    heights = [(len(table.rows) + 3) * ROW_INCHES for table in tables] + [(len(notes) + 1) * ROW_INCHES]
    figure = Figure(figsize=(max(sum(w) for w in widths) * CHARACTER_INCHES + 0.4, sum(heights)), layout="constrained")
    FigureCanvasAgg(figure)
    places = figure.subplots(len(heights), 1, squeeze=False, gridspec_kw={"height_ratios": heights})[:, 0]
    for table, width, axes in zip(tables, widths, places, strict=False):
        axes.axis("off")
        axes.set_title(table.title, fontsize=9, loc="left", parse_math=False)
        shares = [w / sum(width) for w in width]
        drawn = axes.table(cellText=[table.heads, *table.rows], colWidths=shares, bbox=(0, 0, 1, 1), cellLoc="right")
        drawn.auto_set_font_size(False)
        for (row, column), cell in drawn.get_celld().items():
            cell.set_linewidth(0.3)
            text = cell.get_text()
            text.set_parse_math(False)  # a name may hold a dollar
            text.set_fontsize(8)
            if column == 0:
                text.set_horizontalalignment("left")
            if row == 0 or row - 1 in table.own:
                text.set_fontweight("bold" if row == 0 else "normal")
                cell.set_facecolor("#e8eef4" if row == 0 else "#f7f3e3")
    places[-1].axis("off")
    places[-1].text(0, 1, "\n".join(notes), fontsize=8, va="top", parse_math=False)
    target = io.BytesIO()
    figure.savefig(target, format="png", dpi=130)
    return target.getvalue()


def _widths(table: Table) -> list[int]:
    """Characters of each column, and a little room."""
    return [max(map(len, column)) + 2 for column in zip(table.heads, *table.rows, strict=True)]


def _plain(cell: str) -> str:
    return cell.replace("|", "\\|").replace("\n", " ")
