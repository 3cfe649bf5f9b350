"""The audit of one model: read, run, measure, report."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from wideneck.attention.config import Normalizer, normalizer_config
from wideneck.audits.attention.settings import AttentionSettings
from wideneck.audits.clock import Clock
from wideneck.audits.cost.choosing import check_limit
from wideneck.audits.measured import UnmeasurableError
from wideneck.audits.states import HiddenStates, Progress, collect_states
from wideneck.audits.subject import Subject
from wideneck.audits.tokens.of_subject import verified_tokens
from wideneck.data import Text, text_of
from wideneck.entry.heads import head_of
from wideneck.errors import WideneckError
from wideneck.models import LoadedModel, evaluating, load_language_model, measure_logit_map
from wideneck.models.device_map import map_of
from wideneck.models.devices import AUTO
from wideneck.models.head_weights import head_in
from wideneck.models.placement import Placement, placed
from wideneck.models.ranks import ALONE, Ranks
from wideneck.models.text_part import only_text
from wideneck.report.provenance import provenance
from wideneck.report.report import Report
from wideneck.report.section import DEFAULT, Section
from wideneck.report.section import sections as sections_of

WINDOW = 512
"""Predictions in a row.  Long enough for context to count, short enough for eight documents in
4,096 tokens."""
TOKENS = 4096
"""Predictions where nobody says otherwise; on an accelerator `TOKENS_A_WIDTH` times the hidden size
if that is more, half of which the fitted truncations are fitted on."""
TOKENS_A_WIDTH = 4


def audit(
    model: str | os.PathLike | torch.nn.Module | None = None,
    text: str | os.PathLike | Text | None = None,
    sections: str | Sequence[str] = DEFAULT,
    *,
    tokenizer: Any = None,
    num_tokens: int | None = None,
    argmaxable: bool = True,
    verify_tokens: int | None = None,
    attention: AttentionSettings | None = None,
    normalizers: Sequence[str | dict | Normalizer] = (),
    cost_limit: float | None = None,
    seed: int = 0,
    device: str | torch.device = AUTO,
    dtype: str | torch.dtype = AUTO,
    device_map: str | os.PathLike | Mapping[str, Any] | None = None,
    max_memory: Mapping[int | str, int] | None = None,
    batch: int | str = AUTO,
    progress: Progress | None = None,
) -> Report:
    """Measure a language model's output layer, and its attention heads or its memory if asked.

    Args:
        model: a Hugging Face id (`id@revision` for one of its revisions), a folder, a
            `.safetensors`, `.gguf` or `.bin` file, a model in memory, or None for the default
            model.
        text: a text file, or None for the reference of the Python language.  With "output" left
            out of `sections` the text is read only if given here.
        sections: any of "head" (weights alone), "output", "cost", "attention" and "memory" (on the
            text).
        tokenizer: the tokenizer of a model in memory.
        num_tokens: predictions to make on the text; None for 4,096, or on an accelerator for four
            times the hidden size if that is more.
        argmaxable: look for tokens that can never be predicted (2 V^2 D operations).
        verify_tokens: ask the model for so many tokens, the most suspicious by the head's geometry,
            and say with which probability it says them; of the head section, for which the model
            is then loaded as well.
        attention: what the attention section measures; `num_tokens` is not for it.
        normalizers: names or configs (`wideneck.attention.names()`) that the attention section
            puts into the model in turn, without training it for them.
        cost_limit: nats of divergence within which section "cost" chooses the smallest head.
        seed: chooses the windows of the text and draws the Gaussian matrices to compare with.
        device: where to compute: "cpu", an accelerator such as "cuda:1", or "auto", an accelerator
            if there is one.  A model in memory stays where it is, in its own dtype.
        dtype: in which the model runs: "float32", "bfloat16", "float16", or "auto", as stored on an
            accelerator and float32 on the CPU.
        device_map: "auto"; or a dict, or a JSON file of one, from names of modules to devices,
            "cpu" or "disk".
        max_memory: bytes by device, "cpu" or an accelerator's number, that the map "auto" may use.
        batch: windows to run at once; "auto" for one, or, where a map brings parts of the model
            from elsewhere when their turn is, for as many as memory allows.
        progress: called as progress(stage, done, total).

    Cost: "head" reads the head's tensor only, unless tokens are verified; "output" and "memory"
    load the model and run it once over `num_tokens` tokens, together if both are asked for.
    "attention" runs it once over its windows with the weights formed, and once from layer l on for
    each head of layer l.

    Raises:
        WideneckError: the model or the text cannot be audited; the message says what to do.  A
            section that the model's numbers do not allow becomes a note, unless all do.
    """
    report = shared_audit(
        ALONE,
        model,
        text,
        sections,
        tokenizer=tokenizer,
        num_tokens=num_tokens,
        argmaxable=argmaxable,
        verify_tokens=verify_tokens,
        attention=attention,
        normalizers=normalizers,
        cost_limit=cost_limit,
        seed=seed,
        where=placed(model, device, dtype, device_map, max_memory, batch),
        progress=progress,
    )
    assert report is not None  # there is no other process that would have it
    return report


def shared_audit(
    ranks: Ranks,
    model: str | os.PathLike | torch.nn.Module | None,
    text: str | os.PathLike | Text | None,
    sections: str | Sequence[str],
    *,
    tokenizer: Any = None,
    num_tokens: int | None,
    argmaxable: bool,
    verify_tokens: int | None,
    attention: AttentionSettings | None,
    normalizers: Sequence[str | dict | Normalizer],
    cost_limit: float | None,
    seed: int,
    where: Placement,
    progress: Progress | None,
) -> Report | None:
    """The same by several processes, which share the windows of the text; None but on the first.

    Args:
        ranks: the processes.
        where: of the model in each of them.
    """
    asked = _asked(sections)
    _check(asked, num_tokens, verify_tokens, attention, normalizers, cost_limit)
    reads = any(row.reads for row in asked.values())
    clock = Clock()
    chosen = text_of(text) if reads or text is not None else None
    _tell(progress, "reading the head")
    with clock("read the head"):
        head = head_of(model, tokenizer=tokenizer).to(where.measuring)
    ranks.agree("the head and the text", (head.sha256, chosen and chosen.sha256))
    if num_tokens is None:
        num_tokens = default_tokens(where.device, head.weight.shape[1])
    subject = Subject(
        head=head,
        text=chosen,
        clock=clock,
        seed=seed,
        argmaxable=argmaxable,
        settings=attention,
        normalizers=_normalizers(normalizers),
        cost_limit=cost_limit,
        where=where,
        ranks=ranks,
        progress=progress,
    )
    found, ran = {}, None
    runs = chosen is not None or verify_tokens is not None
    if runs and head.form.has_memory:
        subject.notes.append(
            "Not measurable: what needs a run of the model (it predicts from a memory besides its "
            "head, whose states alone do not show what it predicts; `wideneck evaluate` measures "
            "its loss)."
        )
    elif runs:
        found, ran = _run(subject, asked, model, tokenizer, num_tokens, verify_tokens)
    elif where.device_map is not None or where.batch is not None:
        subject.remarks.append(
            "The head was read from its file and no model was run: what says where and how a model "
            "runs was not used."
        )
    if ranks.rank > 0:
        return None
    for name, row in asked.items():
        if not row.while_loaded:
            found[name] = row.audit(subject)
    if all(section is None for section in found.values()):
        raise UnmeasurableError(" ".join(subject.notes))
    read = {}
    if chosen is not None and ran is not None:
        read = {"text": chosen.name, "text_sha256": chosen.sha256, "num_tokens": subject.num_read}
    return Report(
        provenance=provenance(
            model=head.model,
            head_sha256=head.sha256,
            head_dtype=head.dtype,
            seed=seed,
            seconds=clock.seconds,
            device=str(where.device),
            **(ran or {}),
            **read,
            notes=[*subject.notes, *subject.remarks],
        ),
        **found,
    )


def default_tokens(device: torch.device, hidden_size: int) -> int:
    """Predictions where nobody says otherwise: enough to fit truncations where they cost little."""
    return TOKENS if device.type == "cpu" else max(TOKENS, TOKENS_A_WIDTH * hidden_size)


def window_of(loaded: LoadedModel) -> int:
    """Predictions in a row: `WINDOW`, or as many as the model has positions for."""
    limit = loaded.max_positions
    return WINDOW if limit is None else max(1, min(WINDOW, limit - len(loaded.bos)))


def _run(
    subject: Subject,
    asked: dict[str, Section],
    model: Any,
    tokenizer: Any,
    num_tokens: int,
    verify_tokens: int | None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Run the model over the text; its weights are freed on return.

    Returns:
        What the sections found that measure the loaded model, and what the provenance says of how
        it ran.
    """
    _tell(subject.progress, "loading the model")
    with subject.clock("load the model"):
        loaded = subject.loaded = _loaded(subject, model, tokenizer)
    subject.tokenizer = loaded.tokenizer
    subject.remarks += only_text(loaded.model)
    with evaluating(loaded.model):
        subject.logit_map = measure_logit_map(loaded.model)
        if subject.text is not None and any(row.states for row in asked.values()):
            _read_states(subject, asked, num_tokens)
        found = {name: row.audit(subject) for name, row in asked.items() if row.while_loaded}
        if verify_tokens is not None:
            with subject.clock("verify tokens"):
                subject.verified = subject.measured(
                    "whether the model can say its most suspicious tokens",
                    lambda: verified_tokens(subject, verify_tokens),
                )
    if subject.states is not None:
        subject.remarks += _remarks(subject.states, num_tokens, asked)
    subject.own_head, subject.loaded = head_in(loaded.model), None
    dtype = str(loaded.model.dtype).removeprefix("torch.")
    return found, {"compute_dtype": dtype, "device_map": map_of(loaded.model)}


def _loaded(subject: Subject, model: Any, tokenizer: Any) -> LoadedModel:
    try:
        return load_language_model(model, placement=subject.where, tokenizer=tokenizer)
    except WideneckError as error:
        if subject.text is not None:
            raise
        raise WideneckError(f"To verify tokens the model has to run: {error}") from error


def _read_states(subject: Subject, asked: dict[str, Section], num_tokens: int) -> None:
    """The hidden states that the model sends into its head, seen by whoever watches all depths."""
    loaded = subject.loaded
    assert loaded is not None
    with subject.clock("read the text"):
        windows = subject.windows(num_tokens, window_of(loaded))
        watching = {name: row.watch(windows) for name, row in asked.items() if row.watch}
        subject.watched = watching

        def observer(layer: str, start: int, states: torch.Tensor) -> list[Any]:
            return [watch(layer, start, states) for watch in watching.values()]

        def keep(layer: str, start: int, given: list[Any]) -> None:
            for watch, found in zip(watching.values(), given, strict=True):
                watch.keep(layer, start, found)

        subject.states = subject.measured(
            "the hidden states on the text",
            lambda: collect_states(
                loaded.model,
                windows,
                batch=subject.where.batch,
                ranks=subject.ranks,
                observer=observer,
                keep=keep,
                progress=subject.progress,
            ).to(subject.where.measuring),
        )


def _asked(names: str | Sequence[str]) -> dict[str, Section]:
    """The rows of the sections that were asked for, in the order of a report."""
    names = (names,) if isinstance(names, str) else names
    rows = sections_of(Report)
    unknown = [name for name in names if name not in rows]
    if unknown or not names:
        came = f"'{unknown[0]}'" if unknown else "none"
        raise WideneckError(
            f"The sections of an audit are {', '.join(rows)}; {came} was asked for."
        )
    return {name: row for name, row in rows.items() if name in names}


def _check(
    asked: dict[str, Section],
    num_tokens: int | None,
    verify_tokens: int | None,
    settings: AttentionSettings | None,
    normalizers: Any,
    cost_limit: float | None,
) -> None:
    if cost_limit is not None:
        if "cost" not in asked:
            raise WideneckError(
                "A cost limit came without the section that it is for: add 'cost' to the sections."
            )
        check_limit(cost_limit)
    if num_tokens is not None and num_tokens < 1:
        raise WideneckError(f"An audit needs at least one token; {num_tokens} were asked for.")
    if verify_tokens is not None and verify_tokens < 1:
        raise WideneckError(f"At least one token is verified; {verify_tokens} were asked for.")
    if verify_tokens is not None and "head" not in asked:
        raise WideneckError(
            "Tokens are verified in the section head, which was not asked for: add 'head' to the "
            "sections."
        )
    if "attention" not in asked and (settings is not None or _normalizers(normalizers)):
        raise WideneckError(
            "Settings or normalizers for the attention section came without that section: add "
            "'attention' to the sections."
        )


def _normalizers(given: Any) -> list[Normalizer]:
    """One or several, as `normalizer_config` takes them, with numbers that stay as they are."""
    several = isinstance(given, Sequence) and not isinstance(given, str)
    configs = [normalizer_config(one) for one in (given if several else [given])]
    # A comparison trains nothing, and a number that learns has a narrower range to start from.
    fixed: dict[str, Any] = {"learned": False}
    return [replace(c, **fixed) if hasattr(c, "learned") else c for c in configs]


def _tell(progress: Progress | None, stage: str) -> None:
    if progress:
        progress(stage, 0, 1)


def _remarks(states: HiddenStates, asked: int, sections: dict[str, Section]) -> list[str]:
    notes = []
    num_windows, window, width = states.hidden.shape
    num_tokens = num_windows * window
    if num_tokens != asked:
        notes.append(
            f"{asked:,} tokens were asked for, {num_tokens:,} measured: whole windows of {window}, "
            "as many as the text holds."
        )
    if num_tokens < 2 * width and {"head", "output"} & {*sections}:
        notes.append(
            f"No data-weighted spectrum: {num_tokens:,} hidden states are fewer than twice their "
            f"{width:,} dimensions."
        )
    if len(states.anisotropy) == 1:
        notes.append(
            "The layers of this model could not be told apart: nothing is measured by layer."
        )
    return notes
