"""The audit's attention section on the text, once for each seed, as each scale measures it.

Both scales have the paper's context, sizes and scan, and both measure the rows as the attention
section of the audit does by default: x_i are the values of a head, keys are those that a query
sees.  The small scale looks at every eighth query of a window.

Cost at the small scale: for 270 heads of width 64 some two minutes a seed on two cores, most of it
the scan for the critical N; 1 GB with the default model.
"""

import os
from dataclasses import dataclass, replace
from functools import cache

from wideneck.audits.attention.results import AttentionAudit
from wideneck.audits.attention.settings import AttentionSettings
from wideneck.audits.measure import measure
from wideneck.audits.states import Progress
from wideneck.data import Text, default_text, read_corpus, read_text
from wideneck.entry.audit import audit
from wideneck.errors import WideneckError
from wideneck.files.store import Store
from wideneck.lab.registry import Request
from wideneck.models import LoadedModel, load_language_model

PAPER = AttentionSettings(
    context=1024,
    num_windows=1,
    sizes=(1, 5, 10, 16, 20, 50, 100),  # the paper's, and 16, where its Figure 3 bends, and 50
    num_queries=None,
    critical_up_to=100,
    temperatures=(0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0),
    ablation_context=0,
)
SCALES = {"small": replace(PAPER, num_queries=128), "paper": PAPER}
"""For each seed: its windows and random sets are drawn anew."""
GPT2 = ("gpt2", "openai-community/gpt2")
"""Names of the paper's model; the first is the default of its scale."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All that finished runs must share; the seeds are not among it."""

    scale: str
    model: str | None
    """Id or folder; None for the model that `wideneck audit` takes where none is named."""
    measured: AttentionSettings
    text_sha256: str = ""
    """The hash of the text, once it is read."""

    def other(self, *, default_text: bool) -> str:
        """What is not as in the paper, such as "another model and text"; empty for nothing."""
        parts = {"model": self.model not in GPT2, "text": default_text}
        names = [name for name, differs in parts.items() if differs]
        return f"another {' and '.join(names)}" if names else ""


@dataclass(frozen=True, kw_only=True)
class Run:
    """All heads on the windows of one seed."""

    seed: int = measure("decides the windows, the random sets and the random directions")
    head_sha256: str = measure("hash of the model's output layer: runs of one model agree in it")
    seconds: float = measure("wall-clock time of the measurement", unit="seconds")
    versions: dict[str, str] = measure("software")
    audit: AttentionAudit = measure("the attention section, as `wideneck audit` reports it")


def settings(request: Request) -> Settings:
    """The settings of a command line, defaults filled in.

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
    return Settings(scale=scale, model=model, measured=SCALES[scale])


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
    return Text(
        name=f"{corpus.name}, {split} split", documents=list(documents), sha256=corpus.sha256
    )


def all_runs(
    settings: Settings, text: Text, num_seeds: int, store: Store, progress: Progress
) -> list[Run]:
    """Every seed, read from the store or measured and written there.

    Raises:
        WideneckError: the model cannot be measured, has too few positions, or is not that of the
            finished runs.
    """

    @cache
    def loaded() -> LoadedModel:
        progress("loading the model", 0, 1)
        model = load_language_model(settings.model)
        limit, context = model.max_positions, settings.measured.context
        if limit is not None and limit < context:
            raise WideneckError(
                f"The experiment reads {context:,} tokens at a time, and {model.source} has "
                f"positions for {limit:,}: name another model by --model."
            )
        return model

    def made(seed: int) -> Run:
        return store.made(f"seed{seed}", Run, lambda: run(settings, loaded(), text, seed, progress))

    found = [made(seed) for seed in range(num_seeds)]
    if len({one.head_sha256 for one in found}) > 1:
        raise WideneckError(
            f"The runs in {store.path} are of models with different weights; name another folder "
            "by --out."
        )
    return found


def run(settings: Settings, loaded: LoadedModel, text: Text, seed: int, progress: Progress) -> Run:
    """One seed."""
    report = audit(
        loaded.model,
        text,
        "attention",
        tokenizer=loaded.tokenizer,
        attention=settings.measured,
        seed=seed,
        progress=lambda stage, done, total: progress(f"seed {seed}: {stage}", done, total),
    )
    assert report.attention is not None
    where = report.provenance
    return Run(
        seed=seed,
        head_sha256=where.head_sha256,
        seconds=round(sum(where.seconds.values()), 1),
        versions=where.versions,
        audit=report.attention,
    )
