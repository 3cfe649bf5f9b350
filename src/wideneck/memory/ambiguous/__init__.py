"""The ambiguous-template task of HistAlign (Wan et al. 2023, section 5.1): two words fit equally.

Analogies (`read_analogies`) are split by their pairs (`SPLITS`), set into sentences
(`make_prompts`), counted (`count`), turned into ids (`encode_rows`) and scored
(`needed_k`, `accuracy_at_k`).
"""

from wideneck.memory.ambiguous.accuracy import KS, NEVER, accuracy_at_k, needed_k
from wideneck.memory.ambiguous.counts import PartCounts, TaskCounts, count
from wideneck.memory.ambiguous.encoding import (
    IGNORE,
    Encoding,
    Example,
    accepted_ids,
    encode_rows,
)
from wideneck.memory.ambiguous.instances import Prompt, make_prompts
from wideneck.memory.ambiguous.pieces import Pieces
from wideneck.memory.ambiguous.splits import SPLITS, Split, leak_free_split, paper_split
from wideneck.memory.ambiguous.templates import TEMPLATES
from wideneck.memory.ambiguous.vocabulary import Vocabulary
from wideneck.memory.ambiguous.words import SECTIONS, Analogies, Question, read_analogies

__all__ = [
    "IGNORE",
    "KS",
    "NEVER",
    "SECTIONS",
    "SPLITS",
    "TEMPLATES",
    "Analogies",
    "Encoding",
    "Example",
    "PartCounts",
    "Pieces",
    "Prompt",
    "Question",
    "Split",
    "TaskCounts",
    "Vocabulary",
    "accepted_ids",
    "accuracy_at_k",
    "count",
    "encode_rows",
    "leak_free_split",
    "make_prompts",
    "needed_k",
    "paper_split",
    "read_analogies",
]
