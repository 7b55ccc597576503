"""A graph of any size with invented names, for measuring and for tests of scale: nothing in it is medicine.

Diseases come in clusters that draw most of their findings, drugs and causes from common pools, so that neighbours share
features and differ in some, as real ones do; the rest is drawn over all nodes with a power law, so that there are hubs.
"""

import numpy as np

from corl.rods.graph.graph import RELATION_IDS, TYPE_IDS, Graph, Ints, from_arrays
from corl.rods.graph.schema import NODE_TYPES, RELATIONS

CLUSTER = 24  # diseases in one
_SHARES = {  # of the nodes
    "disease": 0.25,
    "symptom": 0.12,
    "sign": 0.09,
    "lab_test": 0.03,
    "lab_finding": 0.09,
    "imaging": 0.01,
    "imaging_finding": 0.06,
    "drug": 0.15,
    "drug_class": 0.02,
    "procedure": 0.02,
    "gene": 0.06,
    "protein": 0.03,
    "pathogen": 0.02,
    "mechanism": 0.02,
    "anatomy": 0.01,
    "risk_factor": 0.015,
    "specialty": 0.005,
    "condition": 0.0,
}
_EDGES = (  # head type, relation, tail type, edges per head, share drawn from the cluster's own pool
    ("disease", "has_symptom", "symptom", 4, 0.8),
    ("disease", "has_sign", "sign", 3, 0.8),
    ("disease", "has_lab_finding", "lab_finding", 2, 0.8),
    ("disease", "has_imaging_finding", "imaging_finding", 1, 0.8),
    ("disease", "diagnosed_by", "lab_test", 2, 0.7),
    ("disease", "caused_by", "gene", 1, 1.0),
    ("disease", "has_mechanism", "mechanism", 1, 0.8),
    ("disease", "affects_anatomy", "anatomy", 1, 0.5),
    ("disease", "has_risk_factor", "risk_factor", 2, 0.5),
    ("disease", "has_complication", "disease", 1, 0.5),
    ("disease", "differential_of", "disease", 2, 1.0),
    ("disease", "treated_with_drug", "drug", 3, 0.9),
    ("disease", "treated_by", "procedure", 1, 0.8),
    ("disease", "in_specialty", "specialty", 1, 1.0),
    ("drug", "in_drug_class", "drug_class", 1, 1.0),
    ("drug", "contraindicated_in", "disease", 3, 0.6),
    ("drug", "has_side_effect", "symptom", 3, 0.3),
    ("drug", "targets", "protein", 1, 0.9),
    ("drug", "metabolised_by", "protein", 1, 0.1),
)
_ONSETS = "b br c ch d dr f g gl k l m n p ph qu r s st t th tr v x z"
_VOWELS = "a e i o u ai ea io ou y"
_CODAS = ("", "l", "m", "n", "r", "s", "x", "nd", "rt", "sk")


def synthetic_graph(num_nodes: int, seed: int = 0) -> Graph:
    """About 8 edges a node, one in ten of them weak; a function of its arguments. Names are English only.

    Raises ValueError below 1,000 nodes: a smaller graph has no clusters to speak of.
    """
    if num_nodes < 1000:
        raise ValueError(f"synthetic graph of {num_nodes} nodes; ask for 1000 or more")
    rng = np.random.Generator(np.random.Philox(key=seed))
    bounds = np.floor(np.cumsum([0.0, *(_SHARES[kind] for kind in NODE_TYPES)]) * num_nodes + 0.5).astype(np.int64)
    bounds[-1] = num_nodes
    spans = {kind: (int(bounds[i]), int(bounds[i + 1])) for i, kind in enumerate(NODE_TYPES)}
    clusters = max(1, (spans["disease"][1] - spans["disease"][0]) // CLUSTER)

    heads, relations, tails = [], [], []
    for head_type, relation, tail_type, per_head, local in _EDGES:
        low, high = spans[head_type]
        head = np.repeat(np.arange(low, high), per_head)
        heads.append(head)
        relations.append(np.full(head.size, RELATION_IDS[relation]))
        tails.append(_tails(rng, (head - low) * clusters // (high - low), clusters, spans[tail_type], local))
    edges = _distinct(num_nodes, np.concatenate(heads), np.concatenate(relations), np.concatenate(tails))

    diseases = slice(*spans["disease"])
    rarity = np.full(num_nodes, -1, np.int8)
    rarity[diseases] = rng.choice(3, size=diseases.stop - diseases.start, p=(0.3, 0.3, 0.4))
    return from_arrays(
        f"synthetic:{num_nodes}:{seed}",
        _names(num_nodes, seed),
        np.repeat(np.array([TYPE_IDS[kind] for kind in NODE_TYPES], np.int8), np.diff(bounds)),
        edges,
        strong=rng.random(edges[0].size) >= 0.1,
        rarity=rarity,
    )


def _tails(rng: np.random.Generator, cluster: Ints, clusters: int, span: tuple[int, int], local: float) -> Ints:
    """A tail for each head's cluster: from the cluster's own part of the span, or from all of it by a power law."""
    low, size = span[0], span[1] - span[0]
    width = -(-size // clusters) + 1  # neighbouring pools overlap by one node
    start = cluster * size // clusters
    own = start + (rng.random(cluster.size) ** 1.3 * width).astype(np.int64)
    far = (rng.random(cluster.size) ** 4 * size).astype(np.int64)
    return low + np.minimum(np.where(rng.random(cluster.size) < local, own, far), size - 1)


def _distinct(num_nodes: int, heads: Ints, relations: Ints, tails: Ints) -> tuple[Ints, Ints, Ints]:
    """Each edge once, none from a node to itself, one tail of a functional relation."""
    symmetric = np.array([rule.symmetric for rule in RELATIONS.values()])[relations]
    low, high = np.minimum(heads, tails), np.maximum(heads, tails)
    heads, tails = np.where(symmetric, low, heads), np.where(symmetric, high, tails)
    keys = np.sort((heads * len(RELATIONS) + relations) * num_nodes + tails)
    keys = keys[np.append(True, keys[1:] != keys[:-1])]
    keys = keys[keys // num_nodes // len(RELATIONS) != keys % num_nodes]
    rows = keys // num_nodes
    return rows // len(RELATIONS), rows % len(RELATIONS), keys % num_nodes


def _names(count: int, seed: int) -> list[str]:
    """Distinct invented words of two parts; no part says what type the node has."""
    syllables = [onset + vowel + coda for onset in _ONSETS.split() for vowel in _VOWELS.split() for coda in _CODAS]
    base = len(syllables)
    rng = np.random.Generator(np.random.Philox(key=seed + 2**32))
    numbers = rng.permutation(count).astype(np.uint64)
    # An odd multiplier permutes the numbers below 2^44, so names differ; its bits spread over four syllables.
    words = (numbers * np.uint64(11400714819323198485)) % np.uint64(2**44)
    parts = []
    for _ in range(4):
        parts.append((words % np.uint64(base)).tolist())
        words //= np.uint64(base)
    first, second, third, fourth = parts
    return [
        f"{syllables[a]}{syllables[b]} {syllables[c]}{syllables[d]}"
        for a, b, c, d in zip(first, second, third, fourth, strict=True)
    ]
