"""The tables of the memory study in Markdown."""

import math
import statistics
from collections.abc import Sequence

from bench import studies
from bench.memory_study_caption import caption
from bench.memory_study_differences import COMPARED, difference, needed, of_measure
from bench.memory_study_recipe import ARMS, CONTINUED
from bench.studies import ByArm, Line
from bench.table import markdown

SHOWN = {"model": ", model only", "full": ", full", "fitted": ", fitted cache"}
SCORES = {"model": "nll_model_only", "full": "nll", "fitted": "nll_fitted"}
MEASURES = {
    "diversity": 100,
    "rep-2": 100,
    "rep-4": 100,
    "rep-w": 100,
    "pmi": 1,
    "pmi mismatched": 1,
    "cosine": 1,
    "cosine mismatched": 1,
    "words": 100,
    "words mismatched": 100,
}
"""And what they are multiplied by to be shown."""


def report(lines: Sequence[Line]) -> str:
    """Losses, accuracies, continuations, and what all of it is of."""
    found = studies.by_arm(lines)
    human = found.pop("human", None)
    by_arm = {arm: found[arm] for arm in ARMS if arm in found}
    if human is None or not by_arm:
        return "No run has finished yet."
    parts = [
        _losses(by_arm),
        _loss_differences(by_arm),
        _accuracies(by_arm),
        _continuations(by_arm, next(iter(human.values()))),
        _continuation_differences(by_arm),
        caption(by_arm),
    ]
    return "\n\n".join(part for part in parts if part)


def mean_sd(values: Sequence[float], digits: int = 3, sign: str = "") -> str:
    """One number where all are the same to the last bit."""
    return studies.mean_sd(values[:1] if len(set(values)) == 1 else values, digits, sign)


def _means(lines: dict[int, dict], name: str) -> list[float]:
    return [statistics.mean(line["scores"][name]) for line in lines.values()]


def _losses(by_arm: ByArm) -> str:
    header = [
        "loss of the test text",
        "seeds",
        "perplexity, model only",
        "perplexity, full",
        "nats, model only",
        "nats, full",
        "nats, fitted cache",
        "cache mass, full, %",
        "cache mass, fitted, %",
    ]
    rows = []
    for arm, lines in by_arm.items():
        perplexities = [
            mean_sd([math.exp(x) for x in _means(lines, SCORES[how])], 2)
            for how in ("model", "full")
        ]
        masses = [
            mean_sd([100 * x for x in _means(lines, name)], 1)
            for name in ("cache_mass", "cache_mass_fitted")
        ]
        losses = [mean_sd(_means(lines, name), 4) for name in SCORES.values()]
        rows.append([arm, str(len(lines)), *perplexities, *losses, *masses])
    return markdown(header, rows)


def _loss_differences(by_arm: ByArm) -> str:
    pairs = [
        (("plain", "fitted"), ("plain", "model")),
        *(((arm, "model"), ("plain", "model")) for arm in ("TRIME", "HistAlign")),
        *(((arm, "full"), ("plain", "fitted")) for arm in ("TRIME", "HistAlign")),
        *(((arm, "fitted"), ("plain", "fitted")) for arm in ("TRIME", "HistAlign")),
        (("HistAlign", "full"), ("TRIME", "full")),
    ]
    rows = []
    for ours, theirs in pairs:

        def values(line: dict, which: tuple[str, str]) -> list[float]:
            return line["scores"][SCORES[which[1]]]

        found = difference(by_arm, ours, theirs, values, documents=True)
        if found is not None:
            by_seed, low, high = found
            name = f"{_named(ours)} minus {_named(theirs)}"
            rows.append([name, mean_sd(by_seed, 4, "+"), f"{low:+.4f} to {high:+.4f}"])
    header = ["difference, nats", "over seeds", "95 % over documents"]
    return markdown(header, rows) if rows else ""


def _named(which: tuple[str, str]) -> str:
    arm, how = which
    has_memory = "full" in CONTINUED[arm]
    return arm if how == "model" and not has_memory else arm + SHOWN[how]


def _accuracies(by_arm: ByArm) -> str:
    names = ("accuracy", "accuracy_model_only", "accuracy_cache_only")
    rows = [
        [arm, *(mean_sd([100 * x for x in _means(lines, name)], 2) for name in names)]
        for arm, lines in by_arm.items()
    ]
    return markdown(["tokens right, %", "full", "model only", "cache only"], rows)


def _continuations(by_arm: ByArm, human: dict) -> str:
    rows = [["the text itself", *_measured([human])]]
    for arm, lines in by_arm.items():
        for how in CONTINUED[arm]:
            found = [line["continued"][how] for line in lines.values()]
            rows.append([_named((arm, how)), *_measured(found)])
    header = [f"{name}, %" if times == 100 else name for name, times in MEASURES.items()]
    return markdown(["continuations", *header], rows)


def _measured(found: list[dict]) -> list[str]:
    return [
        mean_sd([times * statistics.mean(x["measures"][name]) for x in found], _digits(times))
        for name, times in MEASURES.items()
    ]


def _digits(times: int) -> int:
    return 1 if times == 100 else 3


def _continuation_differences(by_arm: ByArm) -> str:
    rows, counts = [], []
    for ours, theirs in COMPARED:
        cells, needs = [], []
        for name in ("diversity", "rep-w", "pmi", "cosine", "words"):
            times = MEASURES[name]
            found = difference(by_arm, ours, theirs, of_measure(name, times))
            if found is None:
                break
            by_seed, low, high = found
            digits = _digits(times)
            interval = f"[{low:+.{digits}f}, {high:+.{digits}f}]"
            cells.append(f"{mean_sd(by_seed, digits, '+')} {interval}")
            num_prompts = len(next(iter(by_arm[ours[0]].values()))["continued"][ours[1]]["ids"])
            needs.append(needed(num_prompts, low, high))
        if cells:
            name = f"{_named(ours)} minus {_named(theirs)}"
            rows.append([name, *cells])
            counts.append([name, *needs])
    if not rows:
        return ""
    header = ["diversity, %", "rep-w, %", "pmi, own - other", "cosine, own - other"]
    header.append("words, own - other, %")
    needs = markdown(["prompts that such a difference needs", *header], counts)
    return f"{markdown(['difference of continuations', *header], rows)}\n\n{needs}"
