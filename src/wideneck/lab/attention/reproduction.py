"""The audit's attention section on a text, once for each seed, and the paper's words beside it."""

import os
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Any

from wideneck.audits.attention.settings import AttentionSettings
from wideneck.audits.measure import measure
from wideneck.audits.states import Progress
from wideneck.data import Text, default_text, read_corpus, read_text
from wideneck.errors import WideneckError
from wideneck.files.records import record
from wideneck.files.store import Store
from wideneck.lab.attention.claims import NOT_COMPARED, judged_claims, judged_numbers
from wideneck.lab.attention.curves import CURVES, Point, points
from wideneck.lab.attention.one_run import Run, run
from wideneck.lab.found import Found, made_now
from wideneck.lab.published import ours
from wideneck.lab.registry import Request
from wideneck.lab.verdict import Comparison
from wideneck.models import LoadedModel, load_language_model

_SCALE = ours("attention", "scale")
_PAPER = _SCALE["paper"] | {"num_queries": None}  # every query: TOML has no value for it
PAPER = record(AttentionSettings, _PAPER, "attention.toml", "mend the file", exact=True)
SCALES = {"small": replace(PAPER, **_SCALE["small"]), "paper": PAPER}
"""For each seed: its windows and random sets are drawn anew."""
GPT2 = ("gpt2", "openai-community/gpt2")
"""Names of the paper's model; the first is the default of its scale."""


@dataclass(frozen=True, kw_only=True)
class Reproduction(Found):
    """What `wideneck reproduce attention` finds."""

    settings: dict[str, Any] = measure("what is measured, shared by all runs")
    text: str = measure("the text")
    other: str = measure("what is not as in the paper, so that numbers do not compare; or empty")
    runs: list[Run] = measure("each seed")
    by_size: list[Point] = measure("over N: fields of runs[].audit.by_size[]")
    by_length: list[Point] = measure("over L: fields of runs[].audit.by_length[]")
    by_temperature: list[Point] = measure(
        "over T: finite differences by step, and fields of runs[].audit.by_step[]"
    )
    numbers: list[Comparison] = measure("published numbers beside ours")
    claims: list[Comparison] = measure("published statements beside figures of ours")
    not_compared: dict[str, str] = measure("statements by name, and why ours says nothing of them")


def reproduce(request: Request, progress: Progress) -> Reproduction:
    """Measure the seeds that the folder does not hold, and compare.

    Raises:
        WideneckError: no text for the paper's scale, a folder of other settings, a model that
            cannot be used or is not that of the finished runs.
    """
    chosen, text = settings(request), text_of(request.text)
    chosen |= {"text_sha256": text.sha256}
    with request.store(chosen) as store:
        runs = _runs(chosen, text, request.num_seeds, store, progress)
    made, audits = made_now("attention"), [run.audit for run in runs]
    other = other_than_paper(chosen["model"], request.text)
    return Reproduction(
        settings=chosen,
        text=text.name,
        other=other,
        runs=runs,
        by_size=points(audits, CURVES["by_size"]),
        by_length=points(audits, CURVES["by_length"]),
        by_temperature=points(audits, CURVES["by_temperature"]),
        numbers=judged_numbers(made["published"], audits, other),
        claims=judged_claims(made["published"], audits),
        not_compared=NOT_COMPARED,
        **made,
    )


def settings(request: Request) -> dict[str, Any]:
    """All that finished runs must share but the hash of the text; the seeds are not among it.

    Raises:
        WideneckError: the paper's scale without a text.
    """
    scale = request.scale or "small"
    if scale == "paper" and request.text is None:
        raise WideneckError(
            "--scale paper needs a long text, and the paper's is War and Peace: give one by "
            "--text FILE."
        )
    model = GPT2[0] if request.model is None and scale == "paper" else request.model
    return {"scale": scale, "model": model, "measured": asdict(SCALES[scale])}


def text_of(given: str | None) -> Text:
    """The text that is read: a file whole, of a folder or a dataset the test split.

    Raises:
        WideneckError: it is missing, empty or not text.
    """
    if given is None:
        return default_text()
    if not given.startswith("datasets:") and not os.path.isdir(given):
        return read_text(given)
    corpus = read_corpus(given)
    split, documents = ("test", corpus.test) if corpus.test else ("valid", corpus.valid)
    name = f"{corpus.name}, {split} split"
    return Text(name=name, documents=list(documents), sha256=corpus.sha256)


def other_than_paper(model: str | None, text: str | None) -> str:
    """What is not as in the paper, such as "another model and text"; empty for nothing."""
    differs = {"model": model not in GPT2, "text": text is None}
    names = " and ".join(name for name in differs if differs[name])
    return f"another {names}" if names else ""


def _runs(
    chosen: dict[str, Any], text: Text, num_seeds: int, store: Store, progress: Progress
) -> list[Run]:
    """Every seed, read from the store or measured and written there."""
    measured = SCALES[chosen["scale"]]

    @cache
    def loaded() -> LoadedModel:
        progress("loading the model", 0, 1)
        model = load_language_model(chosen["model"])
        if model.max_positions is not None and model.max_positions < measured.context:
            raise WideneckError(
                f"The experiment reads {measured.context:,} tokens at a time, and {model.source} "
                f"has positions for {model.max_positions:,}: name another model by --model."
            )
        return model

    def made(seed: int) -> Run:
        return store.made(
            f"seed{seed}",
            Run,
            lambda: run(loaded(), text, measured, seed, progress),
            seed=seed,
        )

    found = [made(seed) for seed in range(num_seeds)]
    if len({one.head_sha256 for one in found}) > 1:
        raise WideneckError(
            f"The runs in {store.path} are of models with different weights; name another folder "
            "by --out."
        )
    return found
