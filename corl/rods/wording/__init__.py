"""Sentences about a graph's edges, English and Chinese: predicates for every relation read in either direction."""

from corl.rods.wording.chinese import CHINESE
from corl.rods.wording.clauses import Avoid, Told, clauses, name_told
from corl.rods.wording.english import ENGLISH
from corl.rods.wording.language import Language, Marks, Phrase, all_steps, choose, opposite, phrases
from corl.rods.wording.marks import FUNCTION_WORDS, STEM, bigrams, chinese_runs, marks, plain, tokens
from corl.rods.wording.surfaces import Surfaces

LANGUAGES = {"en": ENGLISH, "zh": CHINESE}

__all__ = [
    "Avoid",
    "CHINESE",
    "ENGLISH",
    "FUNCTION_WORDS",
    "LANGUAGES",
    "STEM",
    "Language",
    "Marks",
    "Phrase",
    "Surfaces",
    "Told",
    "all_steps",
    "bigrams",
    "chinese_runs",
    "choose",
    "clauses",
    "marks",
    "name_told",
    "opposite",
    "phrases",
    "plain",
    "tokens",
]
