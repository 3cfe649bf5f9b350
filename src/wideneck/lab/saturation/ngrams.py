"""How many dimensions an n-gram model of a text needs (Godey et al. 2024, section 5.1, Figure 7).

W is C x V: a row for each context of n - 1 tokens that occurs, holding the frequencies of the
tokens that follow it.  W-error(d) = ||sigma_{d+1:}||_2 / ||W||_F is what the best matrix of rank d
leaves out, so W-error(d)^2 = 1 - (sum of the d largest eigenvalues of G) / trace(G), G = W^T W.

The diagonal's null is the same formula with the diagonal of G in place of its eigenvalues. A
context seen once gives a row with a single 1, and such rows alone make G diagonal: where most
contexts are of that kind, the curve says how often each token occurs and nothing about contexts.
By Schur-Horn the null is never below the curve, but for rounding.

A column that shares no row with another is an eigenvector by itself and its diagonal entry is the
eigenvalue, so only the other columns, m of them, enter an eigenvalue problem.
Cost, for N tokens: N log N for each order up to the largest; for each order and weighting one
sparse product G, then for m up to `DENSE` 8 m^2 bytes (twice that at its peak) and (4/3) m^3
operations: 8 s of processor time at m = 4,000, 50 s at 8,000.  Beyond, Lanczos for the `LANCZOS`
largest: 16 m `LANCZOS` bytes, and 8 m `LANCZOS`^2 operations at memory speed a restart.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.sparse import coo_array, csr_array, diags_array
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor

from wideneck.audits.measure import measure
from wideneck.audits.states import Progress
from wideneck.data import Corpus, encode_corpus
from wideneck.data.config import Data
from wideneck.errors import WideneckError

ORDERS = (2, 3, 4, 5)
"""Every n; the paper's is 5."""
DIMENSIONS = (
    *(1, 2, 5, 10, 20, 50, 100, 200, 500),
    *(1000, 2000, 5000, 8000, 9000, 10_000, 12_000, 15_000),
)
"""The d at which W-error is told: a decade's 1-2-5, and where Figure 7 was read."""
DENSE = 12_000
"""Columns up to which all eigenvalues are found."""
LANCZOS = 1000
"""The most eigenvalues that are found beyond."""
BLOCK = 512
"""Columns of G that are held at a time while it is summed up."""
RECHECK = 8
"""Eigenvalues that are looked for again once the found ones are taken out."""
TOLERANCE = 1e-8
"""Relative, of those eigenvalues."""

HALF = 0.5 + 1e-7
"""Where the W-error counts as halved: 1/2, within what it is known to."""

Sparse = Any
"""A `scipy.sparse.csr_array` of float64; SciPy comes without types."""


@dataclass(frozen=True, kw_only=True)
class ErrorAt:
    """One point of a curve and of its null."""

    d: int = measure("dimensions", unit="dimensions")
    w_error: float | None = measure(
        "W-error(d) = ||sigma_{d+1:}||_2 / ||W||_F, to about 1e-7; none where d is beyond the "
        "eigenvalues that were found"
    )
    w_error_null: float = measure(
        "the same from the diagonal of W^T W alone: how often and how surely each token follows, "
        "as if no two tokens shared a context; by Schur-Horn never below w_error, but for rounding"
    )


@dataclass(frozen=True, kw_only=True)
class NgramSpectrum:
    """The singular values of W under one weighting of its rows."""

    errors: list[ErrorAt] = measure("W-error at each d, beside the diagonal's null")
    half: int | None = measure(
        "smallest d with W-error(d) <= 1/2; none where it is beyond the eigenvalues found",
        unit="dimensions",
    )
    half_null: int = measure("the same of the null", unit="dimensions")
    off_diagonal_share: float = measure(
        "||G - diag(G)||_F / ||G||_F, G = W^T W: 0 where the curve is its null"
    )
    num_eigenvalues: int = measure(
        "eigenvalues found; all of them where this is num_columns, else the largest"
    )


@dataclass(frozen=True, kw_only=True)
class NgramDimensionality:
    """One order of n-grams on one text."""

    order: int = measure("n: contexts are n - 1 tokens long", unit="tokens")
    num_predictions: int = measure("n-grams in the text, counted each time", unit="tokens")
    num_contexts: int = measure("distinct contexts C, the rows of W")
    num_columns: int = measure("distinct tokens that follow some context, the columns of W")
    seen_once_share: float = measure("share of the contexts that occur once")
    one_hot_share: float = measure(
        "share of the rows with a single entry: contexts that only one token follows"
    )
    unweighted: NgramSpectrum = measure("each distinct context counts once, as in the paper")
    weighted: NgramSpectrum = measure(
        "each context counts as often as it occurs: rows times sqrt(count), so that W^T W is the "
        "sum over the text and not over a list of contexts"
    )


@dataclass(frozen=True, kw_only=True)
class Ngrams:
    """One tokenization of the text."""

    tokens: str = measure("words, or the tokenizer")
    vocab_size: int = measure("tokens of the vocabulary")
    num_tokens: int = measure("length of the text, the start of the training text", unit="tokens")
    orders: list[NgramDimensionality] = measure("each order")


@dataclass(frozen=True, kw_only=True)
class AllNgrams:
    """Both, kept as one finished run."""

    found: list[Ngrams]


def all_ngrams(
    corpus: Corpus,
    texts: Iterable[Data],
    num_tokens: int,
    orders: Sequence[int],
    progress: Progress,
) -> AllNgrams:
    """The start of the training text, by the words or the tokenizer of each of `texts`.

    Raises:
        WideneckError: as `encode_corpus` and `ngram_dimensionality`.
    """
    found = []
    for data in texts:
        encoded = encode_corpus(corpus, data)
        ids = encoded.train.ids[:num_tokens]
        found.append(
            Ngrams(
                tokens=data.tokens,
                vocab_size=encoded.vocab_size,
                num_tokens=len(ids),
                orders=ngram_dimensionality(ids, orders=orders, progress=progress),
            )
        )
    return AllNgrams(found=found)


def ngram_dimensionality(
    tokens: Tensor,
    *,
    orders: Sequence[int] = ORDERS,
    dimensions: Sequence[int] = DIMENSIONS,
    dense_up_to: int = DENSE,
    progress: Progress = lambda stage, done, total: None,
) -> list[NgramDimensionality]:
    """W-error curves of n-gram models of one text, with their diagonal's nulls (section 5.1).

    Args:
        tokens: (N,) ids, one running text; n-grams across its documents are counted too.
        orders: the n, each at least 2.
        dimensions: the d.
        dense_up_to: columns up to which all eigenvalues are found; beyond, the `LANCZOS` largest.
        progress: called as progress(stage, done, total).

    Returns:
        One result for each order, as they are given.  The module says what it costs.

    Raises:
        WideneckError: not a vector of whole numbers, fewer tokens than the largest n, an n below
            2, or a d below 1.
    """
    _check(tokens, orders, dimensions)
    ids = np.unique(tokens.cpu().numpy(), return_inverse=True)[1].astype(np.int64)
    found = {}
    for order, counts in _count_matrices(ids, max(orders)):
        if order not in orders:
            continue
        per_context = counts.sum(1)
        spectra = []
        for weights in (1 / per_context, per_context**-0.5):
            progress("n-gram matrices", 2 * len(found) + len(spectra), 2 * len(orders))
            weighted = csr_array(diags_array(weights) @ counts)
            spectra.append(_spectrum(weighted, dimensions, dense_up_to))
        found[order] = NgramDimensionality(
            order=order,
            num_predictions=int(per_context.sum()),
            num_contexts=counts.shape[0],
            num_columns=counts.shape[1],
            seen_once_share=float((per_context == 1).mean()),
            one_hot_share=float((np.diff(counts.indptr) == 1).mean()),
            unweighted=spectra[0],
            weighted=spectra[1],
        )
    progress("n-gram matrices", 2 * len(orders), 2 * len(orders))
    return [found[order] for order in orders]


def _check(tokens: Tensor, orders: Sequence[int], dimensions: Sequence[int]) -> None:
    if tokens.ndim != 1 or tokens.dtype not in (torch.int64, torch.int32):
        raise WideneckError(
            "n-grams are counted in a vector of token ids, whole numbers; got shape "
            f"{tuple(tokens.shape)} and {tokens.dtype}."
        )
    if not orders or min(orders) < 2:
        raise WideneckError(f"The order of an n-gram is 2 or more, got {list(orders)}.")
    if not dimensions or min(dimensions) < 1:
        raise WideneckError(f"W-error is told at d of 1 or more, got {list(dimensions)}.")
    if len(tokens) < max(orders):
        raise WideneckError(
            f"{max(orders)}-grams need a text of {max(orders)} tokens at least, got {len(tokens)}."
        )


def _count_matrices(ids: np.ndarray, largest: int) -> Iterator[tuple[int, Sparse]]:
    """For n = 2 ... `largest`: n, and counts of (context, next token), observed ones only.

    Contexts are numbered exactly, without hashing: one of n - 1 tokens is the number of its first
    n - 2 and its last token.
    """
    num_ids = int(ids.max()) + 1
    contexts = np.zeros(len(ids), np.int64)
    for order in range(2, largest + 1):
        num = len(ids) - order + 1
        keys = contexts[:num] * num_ids + ids[order - 2 : order - 2 + num]
        contexts = np.unique(keys, return_inverse=True)[1]
        columns = np.unique(ids[order - 1 :], return_inverse=True)[1]
        yield order, csr_array(coo_array((np.ones(num), (contexts, columns))))


def _spectrum(matrix: Sparse, dimensions: Sequence[int], dense_up_to: int) -> NgramSpectrum:
    """The curve of a matrix (C, V) of frequencies, times a weight for each row."""
    squares = matrix.power(2)
    diagonal = squares.sum(0)
    shared = np.diff(matrix.indptr) > 1
    coupled = np.unique(matrix[shared].indices)
    core = csr_array(matrix[shared][:, coupled])
    alone = squares[~shared].sum(0)[coupled]  # what rows with a single entry add to G's diagonal
    gram = np.zeros((len(coupled), len(coupled))) if len(coupled) <= dense_up_to else None
    off_diagonal = 0.0
    for columns, block in _gram_blocks(core):
        if gram is not None:
            gram[:, columns] = block
        block[columns, np.arange(len(columns))] = 0
        off_diagonal += float(np.square(block).sum())
    if gram is None:
        values = _largest(core, alone, min(LANCZOS, max(dimensions), len(coupled) - 1))
    else:
        gram[np.diag_indices_from(gram)] += alone
        # torch's: MKL finds them several times faster than the LAPACK that comes with numpy.
        values = torch.linalg.eigvalsh(torch.from_numpy(gram)).clamp_min(0).numpy()
    whole = len(values) == len(coupled)
    num_found = len(diagonal) if whole else len(values)
    values = _falling(np.concatenate([values, np.delete(diagonal, coupled)]))[:num_found]
    rest = 0.0 if whole else diagonal.sum() - values.sum()
    null = _w_errors(_falling(diagonal), 0.0)
    error = _w_errors(values, rest)
    return NgramSpectrum(
        errors=[
            ErrorAt(
                d=d,
                w_error=float(error[min(d, num_found)]) if d <= num_found or whole else None,
                w_error_null=float(null[min(d, len(null) - 1)]),
            )
            for d in dimensions
        ],
        half=int(np.argmax(error <= HALF)) if error[-1] <= HALF else None,
        half_null=int(np.argmax(null <= HALF)),
        off_diagonal_share=float(off_diagonal / (off_diagonal + np.square(diagonal).sum())) ** 0.5,
        num_eigenvalues=num_found,
    )


def _gram_blocks(core: Sparse) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """`BLOCK` columns of M^T M at a time, their numbers first: (B,) and (m, B)."""
    by_column, transposed = core.tocsc(), core.T.tocsr()
    for start in range(0, core.shape[1], BLOCK):
        columns = np.arange(start, min(start + BLOCK, core.shape[1]))
        yield columns, (transposed @ by_column[:, columns]).toarray()


def _largest(core: Sparse, alone: np.ndarray, num: int) -> np.ndarray:
    """The `num` largest eigenvalues of M^T M + diag(alone), without forming it.

    Lanczos may see only one of several equal eigenvalues, and token counts are often equal.  So
    what was found is taken out and the largest of the rest are looked for, until none of them
    belongs among the found.
    """
    m, random, transposed = core.shape[1], np.random.default_rng(0), core.T.tocsr()
    values, vectors, wanted = np.empty(0), np.empty((m, 0)), num

    def without(x: np.ndarray) -> np.ndarray:
        return x - vectors @ (vectors.T @ x)

    def product(x: np.ndarray) -> np.ndarray:
        """P (M^T M + diag(alone)) P x, P taking out the orthonormal columns that were found."""
        x = without(x.ravel())
        return without(transposed @ (core @ x) + alone * x)

    operator: Any = LinearOperator  # its __new__ takes other arguments than its __init__
    rest = operator((m, m), matvec=product, dtype=np.float64)
    while True:
        start = random.standard_normal(m)
        more, directions = eigsh(rest, k=wanted, which="LA", v0=start, tol=TOLERANCE)
        least = _falling(values)[num - 1] + TOLERANCE * values.max() if len(values) else -np.inf
        missed = more > least
        if not missed.any():
            return _falling(values)[:num]
        values = np.concatenate([values, more[missed]])
        vectors = np.hstack([vectors, directions[:, missed]])
        wanted = min(RECHECK, m - 1)


def _falling(values: np.ndarray) -> np.ndarray:
    return np.sort(values)[::-1]


def _w_errors(values: np.ndarray, rest: float) -> np.ndarray:
    """W-error(d), d = 0 ... k, of falling eigenvalues (k,) and the sum of all below them."""
    tails = np.append(np.cumsum(values[::-1])[::-1], 0.0) + max(rest, 0.0)
    return np.sqrt(tails / tails[0])
