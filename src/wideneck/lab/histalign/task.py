"""The rows to train on and the prompts to be tested on, for one seed."""

import random
from dataclasses import dataclass

from torch import Tensor

from wideneck.lab.ambiguous.encoding import Encoding, Example, accepted_ids, encode_rows
from wideneck.lab.ambiguous.splits import SPLITS
from wideneck.lab.ambiguous.words import Analogies, Prompt, make_prompts


@dataclass(frozen=True, kw_only=True)
class Task:
    """One split, encoded."""

    rows: list[Example]
    """Of training, repeated ones included."""
    prompts: list[list[int]]
    """Ids of N distinct prompts of the test part, in random order."""
    first: Tensor
    """(N, A), ids accepted for the one word of each."""
    second: Tensor
    """(N, A), for the other."""
    targets: list[tuple[int, int]]
    """The first piece of both, as it follows the prompt."""


def make_task(
    analogies: Analogies, encoding: Encoding, split: str, seed: int, num_test_prompts: int
) -> Task:
    """Split, encode, and draw the prompts of the test.

    Args:
        analogies: the words.
        encoding: of the model.
        split: a name of `SPLITS`.
        seed: of the split and of the draw.
        num_test_prompts: how many are drawn; all where there are fewer.
    """
    parts = SPLITS[split](analogies, seed)
    distinct = list({prompt.text: prompt for prompt in make_prompts(parts.test)}.values())
    drawn: list[Prompt] = random.Random(seed).sample(distinct, min(num_test_prompts, len(distinct)))
    first, second = accepted_ids(encoding, drawn)
    return Task(
        rows=encode_rows(encoding, make_prompts(parts.train)),
        prompts=encoding.prompt_ids([prompt.text for prompt in drawn]),
        first=first,
        second=second,
        targets=[
            (encoding.target_ids(x)[0], encoding.target_ids(y)[0])
            for x, y in (prompt.words for prompt in drawn)
        ],
    )
