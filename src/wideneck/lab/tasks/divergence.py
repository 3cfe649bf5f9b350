"""How far all texts together are from all references, as a judge's embeddings see it (MAUVE).

Pillutla et al. 2021 quantize the embeddings of both into k-means clusters and take the area under
the curve of divergences between the two histograms.  Theirs are the last states of GPT-2 large;
here they are those of the judge that the user names, so numbers are not those of papers.  The
package `mauve-text` (GPL-3.0) computes the rest, given embeddings it loads no model.
"""

import importlib
from collections.abc import Sequence

from wideneck.errors import WideneckError
from wideneck.lab.tasks.embeddings import Embeddings
from wideneck.lab.tasks.judges import Judge

DEFINITION = (
    "MAUVE of all texts with all references (Pillutla et al. 2021), from the judge's embeddings: 1 "
    "where both fall into the same clusters, 0 where they share none.  It depends on the number "
    "of texts, so only numbers of equally many texts may be compared."
)
FEWEST = 20
"""Texts: MAUVE takes a tenth as clusters, and with one there is nothing to be told."""
SEED = 25
"""Of k-means, the one of the package unless told."""


def mauve(texts: Sequence[str], references: Sequence[str], judge: Judge) -> float | None:
    """MAUVE of `DEFINITION`; None with fewer than `FEWEST` texts or references that are not empty.

    Raises:
        WideneckError: the judge is no encoder, or the package `mauve-text` is not installed.
    """
    if not isinstance(judge, Embeddings):
        raise WideneckError(
            "MAUVE is computed from embeddings, and this judge is a classifier, which has none: "
            "name an encoder of sentences such as BERT, RoBERTa or SimCSE."
        )
    try:
        package = importlib.import_module("mauve")
    except ImportError:
        raise WideneckError(
            "MAUVE is measured with mauve-text: pip install 'wideneck[tasks-mauve]'."
        ) from None
    some = [[text for text in side if text.strip()] for side in (texts, references)]
    if min(map(len, some)) < FEWEST:
        return None
    p, q = (judge.embedded(side)[0].numpy(force=True) for side in some)
    result = package.compute_mauve(p_features=p, q_features=q, seed=SEED, verbose=False)
    return float(result.mauve)
