"""The tables of the memory study in Markdown, and what they are of."""

import math
import statistics
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

from bench import studies
from bench.studies import ByArm, Line, Runs, span
from bench.table import markdown

ARMS: dict[str, dict[str, Any]] = {
    "untrained": {},
    "plain": {"loss": "cross_entropy", "alpha": 0.0},
    "TRIME": {"alpha": 0.0},
    "HistAlign": {},
}
"""What is trained: options of `wideneck.Memory`, everything else at its defaults."""
CONTINUED = {
    "untrained": ("model",),
    "plain": ("model", "fitted"),
    "TRIME": ("full", "model"),
    "HistAlign": ("full", "model"),
}
"""What continues the prompts: the model without its memory, with the memory as it was trained
("full"), or with a temperature and a bias found afterwards on the validation text ("fitted")."""
SHOWN = {"model": ", model only", "full": ", full", "fitted": ", fitted cache"}
SCORES = {"model": "nll_model_only", "full": "nll", "fitted": "nll_fitted"}
ENDED = {
    "untrained": "are measured as",
    "plain": "stay at",
    "TRIME": "end at",
    "HistAlign": "end at",
}

Which = tuple[str, str]
"""An arm, and how its memory is used."""
Pairs = Sequence[tuple[Which, Which]]
PLAIN, FITTED = ("plain", "model"), ("plain", "fitted")
OF_LOSSES: Pairs = [
    (FITTED, PLAIN),
    (("TRIME", "model"), PLAIN),
    (("HistAlign", "model"), PLAIN),
    (("TRIME", "full"), FITTED),
    (("HistAlign", "full"), FITTED),
    (("TRIME", "fitted"), FITTED),
    (("HistAlign", "fitted"), FITTED),
    (("HistAlign", "full"), ("TRIME", "full")),
]
OF_CONTINUATIONS: Pairs = [
    (FITTED, PLAIN),
    (("TRIME", "full"), PLAIN),
    (("HistAlign", "full"), PLAIN),
    (("TRIME", "full"), FITTED),
    (("HistAlign", "full"), FITTED),
    (("HistAlign", "full"), ("TRIME", "full")),
    (("TRIME", "model"), PLAIN),
    (("HistAlign", "model"), PLAIN),
]
COHERENCE = ("pmi", "cosine", "words")
"""Measures that are compared with what other prompts give."""
MEASURES = (
    *("diversity", "rep-2", "rep-4", "rep-w"),
    *(f"{name}{of}" for name in COHERENCE for of in ("", " mismatched")),
)
COMPARED = ("diversity", "rep-w", *COHERENCE)


def _percent(share: float) -> float:
    return 100 * share


Columns = dict[str, tuple[str, Callable[[float], float], int]]
"""Which score, how its mean is shown, and with how many decimals."""
SCORED: Columns = {
    "perplexity, model only": ("nll_model_only", math.exp, 2),
    "perplexity, full": ("nll", math.exp, 2),
    "nats, model only": ("nll_model_only", float, 4),
    "nats, full": ("nll", float, 4),
    "nats, fitted cache": ("nll_fitted", float, 4),
    "cache mass, full, %": ("cache_mass", _percent, 1),
    "cache mass, fitted, %": ("cache_mass_fitted", _percent, 1),
}
RIGHT: Columns = {
    "full": ("accuracy", _percent, 2),
    "model only": ("accuracy_model_only", _percent, 2),
    "cache only": ("accuracy_cache_only", _percent, 2),
}


def report(lines: Iterable[Line]) -> str:
    """Losses, accuracies, continuations, and what all of it is of."""
    found = studies.by_arm(lines)
    human = found.pop("human", None)
    by_arm = {arm: found[arm] for arm in ARMS if arm in found}
    if human is None or not by_arm:
        return "No run has finished yet."
    parts = [
        _scored("loss of the test text", by_arm, SCORED, counts=True),
        _loss_differences(by_arm),
        _scored("tokens right, %", by_arm, RIGHT),
        _continuations(by_arm, human),
        _continuation_differences(by_arm),
        _learned(by_arm),
        _sizes(by_arm),
    ]
    return "\n\n".join(part for part in parts if part)


def mean_sd(values: Iterable[float], digits: int = 3, sign: str = "") -> str:
    """One number where all are the same to the last bit."""
    values = list(values)
    return studies.mean_sd(values[:1] if len(set(values)) == 1 else values, digits, sign)


def _scored(title: str, by_arm: ByArm, columns: Columns, counts: bool = False) -> str:
    """Means of scores over seeds; with `counts` behind how many of these there are."""
    rows = []
    for arm, runs in by_arm.items():
        row = [arm, str(len(runs))] if counts else [arm]
        for name, shown, digits in columns.values():
            means = (statistics.mean(line["scores"][name]) for line in runs.values())
            row.append(mean_sd(map(shown, means), digits))
        rows.append(row)
    return markdown([title, *(["seeds"] if counts else []), *columns], rows)


def _comparable(by_arm: ByArm, pairs: Pairs) -> Iterator[tuple[Which, Which]]:
    """Those that have runs of one seed."""
    for ours, theirs in pairs:
        if by_arm.get(ours[0], {}).keys() & by_arm.get(theirs[0], {}).keys():
            yield ours, theirs


def _difference(
    by_arm: ByArm,
    ours: Which,
    theirs: Which,
    values: Callable[[str, Line], list[float]],
    documents: Callable[[Line], Sequence[int]] | None = None,
) -> Any:
    """See `bench.studies.difference`; `values` also gets how the memory is used."""
    of_ours, of_theirs = (partial(values, how) for _, how in (ours, theirs))
    return studies.difference(by_arm[ours[0]], by_arm[theirs[0]], of_theirs, of_ours, documents)


def _loss_differences(by_arm: ByArm) -> str:
    rows = []
    for pair in _comparable(by_arm, OF_LOSSES):
        by_seed, low, high = _difference(
            by_arm,
            *pair,
            lambda how, line: line["scores"][SCORES[how]],
            lambda line: line["documents"],  # some windows may be of one
        )
        rows.append([_minus(*pair), mean_sd(by_seed, 4, "+"), f"{low:+.4f} to {high:+.4f}"])
    header = ["difference, nats", "over seeds", "95 % over documents"]
    return markdown(header, rows) if rows else ""


def _minus(ours: Which, theirs: Which) -> str:
    return f"{_named(ours)} minus {_named(theirs)}"


def _named(which: Which) -> str:
    arm, how = which
    has_memory = "full" in CONTINUED[arm]
    return arm if how == "model" and not has_memory else arm + SHOWN[how]


def _shown(name: str) -> tuple[int, int, str]:
    """What a measure is multiplied by to be shown, its decimals, and its column."""
    is_share = not name.startswith(("pmi", "cosine"))
    return (100, 1, f"{name}, %") if is_share else (1, 3, name)


def _continuations(by_arm: ByArm, human: Runs) -> str:
    rows = [["the text itself", *_measured(human.values())]]
    for arm, runs in by_arm.items():
        for how in CONTINUED[arm]:
            found = [line["continued"][how] for line in runs.values()]
            rows.append([_named((arm, how)), *_measured(found)])
    return markdown(["continuations", *(_shown(name)[2] for name in MEASURES)], rows)


def _measured(found: Collection[Line]) -> list[str]:
    cells = []
    for name in MEASURES:
        times, digits, _ = _shown(name)
        means = (statistics.mean(one["measures"][name]) for one in found)
        cells.append(mean_sd((times * mean for mean in means), digits))
    return cells


def _of_continuations(name: str, how: str, line: Line) -> list[float]:
    """A measure of every one; those of coherence minus what other prompts give."""
    found = line["continued"][how]["measures"]
    values, (times, *_) = found[name], _shown(name)
    if name in COHERENCE:
        pairs = zip(values, found[f"{name} mismatched"], strict=True)
        values = [own - other for own, other in pairs]
    return [times * value for value in values]


def _continuation_differences(by_arm: ByArm) -> str:
    rows, counts = [], []
    for pair in _comparable(by_arm, OF_CONTINUATIONS):
        arm, how = pair[0]
        num_prompts = len(next(iter(by_arm[arm].values()))["continued"][how]["ids"])
        row, needs = [_minus(*pair)], [_minus(*pair)]
        for measure in COMPARED:
            by_seed, low, high = _difference(by_arm, *pair, partial(_of_continuations, measure))
            _, digits, _ = _shown(measure)
            interval = f"[{low:+.{digits}f}, {high:+.{digits}f}]"
            row.append(f"{mean_sd(by_seed, digits, '+')} {interval}")
            needs.append(needed(num_prompts, low, high))
        rows.append(row)
        counts.append(needs)
    if not rows:
        return ""
    own = {name: f"{name}, own - other" for name in COHERENCE}
    header = [_shown(name)[2].replace(name, own.get(name, name)) for name in COMPARED]
    differences = markdown(["difference of continuations", *header], rows)
    needs = markdown(["prompts that such a difference needs", *header], counts)
    return f"{differences}\n\n{needs}"


def needed(num_texts: int, low: float, high: float) -> str:
    """Texts at which the interval of a difference of this size would leave out 0."""
    mean, half = (low + high) / 2, (high - low) / 2
    if not mean:
        return "no number"
    return f"{max(1, round(num_texts * (half / mean) ** 2)):,}"


def _learned(by_arm: ByArm) -> str:
    """Where temperature and bias ended, and where they are best."""
    lines = []
    for arm, runs in by_arm.items():
        parts = []
        for how, name in (("full", ENDED[arm]), ("fitted", "are best at")):
            temperatures, biases = zip(
                *(line["settings"][how] for line in runs.values()), strict=True
            )
            parts.append(f"{name} {span(temperatures, 1)} and {span(biases, 2)}")
        lines.append(f"- {arm}: temperature and bias {', '.join(parts)}")
    return "\n".join(lines)


def _sizes(by_arm: ByArm) -> str:
    line = next(iter(by_arm["plain" if "plain" in by_arm else next(iter(by_arm))].values()))
    about, machine = line["study"], line["machine"]
    r = about["recipe"]
    tokens = r["steps"] * r["batch"] * r["window"]
    seeds = len({seed for runs in by_arm.values() for seed in runs})
    return (
        f"{about['model']}, float32; its last {r['trained_layers']} layers and its final norm "
        f"trained on {tokens:,} tokens of {about['train']} (word level, with `<unk>`, tokenized by "
        f"the model): {r['steps']:,} steps of {r['batch']} windows of {r['window']} tokens, AdamW, "
        f"learning rate {r['lr']:g}, of temperature and bias {r['memory_lr']:g}, linear warm-up "
        f"and decay, gradients clipped at {r['clip']:g}; plain is plain cross-entropy on the same "
        f"tokens.  Loss: nats a token of {r['test']} windows of {r['window']} tokens of "
        f"{about['test']}, each prediction seeing what its window holds before it; cache fitted "
        f"afterwards: temperature and bias that are best on {r['valid']} windows of "
        f"{about['valid']}.  Continuations: of the first {r['prompt']} tokens of {r['prompts']} "
        f"test documents by {r['continuation']} tokens, top-p {r['top_p']:g}; diversity: product "
        "of 1 - rep-n for n = 2 to 4; rep-n: n-grams of tokens that repeat an earlier one; rep-w: "
        "tokens that stand among the 16 before them; pmi: nats a token that the prompt adds to a "
        "continuation's log-likelihood under the original model; cosine: of its centred mean "
        "states of prompt and continuation; words: content words of the continuation that stand "
        f"in the prompt (the {r['common_words']} most frequent words of the training text are no "
        "content); mismatched: the same with prompts of other documents.  ±: standard deviation "
        f"over {seeds} seed{'s' if seeds > 1 else ''}, each a choice and order of the training "
        "windows and of the random "
        "numbers of the continuations, the same for all arms; intervals: 95 %, as in "
        "docs/evaluate.md, over documents or prompts, of the mean over seeds.  torch "
        f"{machine['torch']}, {machine['threads']} threads.  "
        "`python -m bench memory-study --out DIR`"
    )
