"""Draws written by hand, by node names."""

import numpy as np
import pytest

from corl.rods.graph import step_of
from corl.rods.sampling.draws import MAX_CLUES, MAX_PATH, SHAPES, Draws


def _draws(graph, *rows):
    """One question a row: dicts with shape, entity, clues [(path, node)], answer, distractors and what else it has."""

    def node(row, key):
        return graph.ids[row[key]] if row.get(key) is not None else -1

    def padded(values, width):
        return [*values, *[-1] * (width - len(values))]

    steps = []
    for row in rows:
        paths = [padded([step_of(*step) for step in path], MAX_PATH) for path, _ in row["clues"]]
        steps.append(paths + [[-1] * MAX_PATH] * (MAX_CLUES - len(paths)))
    wide = len(rows[0]["distractors"])
    columns = {
        "index": [row.get("index", at) for at, row in enumerate(rows)],
        "lang": [row.get("lang", 0) for row in rows],
        "shape": [SHAPES.index(row["shape"]) for row in rows],
        "entity": [node(row, "entity") for row in rows],
        "clue_nodes": [padded([graph.ids[name] for _, name in row["clues"]], MAX_CLUES) for row in rows],
        "clue_steps": steps,
        "asked_step": [step_of(*row["asked"]) if row.get("asked") else -1 for row in rows],
        "excluded_step": [step_of(*row["excluded"][0]) if row.get("excluded") else -1 for row in rows],
        "excluded_node": [graph.ids[row["excluded"][1]] if row.get("excluded") else -1 for row in rows],
        "contrast": [node(row, "contrast") for row in rows],
        "answer": [node(row, "answer") for row in rows],
        "distractors": [[graph.ids[name] for name in row["distractors"]] for row in rows],
        "via": [row.get("via", [-1] * wide) for row in rows],
        "satisfied": [row.get("satisfied", [0] * wide) for row in rows],
        "remaining": [padded(row.get("remaining", [1]), MAX_CLUES) for row in rows],
    }
    return Draws(**{name: np.array(values, np.int64) for name, values in columns.items()})


@pytest.fixture
def hand_draws():
    return _draws
