"""The audit of one model: read, run, measure, report."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from wideneck.attention.config import Normalizer, normalizer_config
from wideneck.audits.attention.results import AttentionAudit
from wideneck.audits.attention.settings import AttentionSettings
from wideneck.audits.clock import Clock
from wideneck.audits.head import audit_head
from wideneck.audits.measured import UnmeasurableError, measured
from wideneck.audits.memory import LayerRanks, audit_memory
from wideneck.audits.output import audit_output
from wideneck.audits.output.own_head import audit_own_head
from wideneck.audits.states import HiddenStates, Progress, collect_states
from wideneck.data import Text, Windows, cut_windows, default_text, read_text
from wideneck.entry.heads import head_of
from wideneck.errors import WideneckError
from wideneck.heads import Head
from wideneck.models import (
    LoadedModel,
    LogitMap,
    evaluating,
    load_language_model,
    measure_logit_map,
)
from wideneck.models.head_form import head_in
from wideneck.models.reading import check_ids
from wideneck.report.provenance import provenance
from wideneck.report.report import Report

SECTIONS = ("head", "output")
"""What an audit measures if nothing else is asked for: a minute's work for the default model."""
ALL_SECTIONS = (*SECTIONS, "attention", "memory")
WINDOW = 512
"""Predictions in a row.  Long enough for context to count, short enough for eight documents in
4,096 tokens."""


def audit(
    model: str | os.PathLike | torch.nn.Module | None = None,
    text: str | os.PathLike | Text | None = None,
    sections: str | Sequence[str] = SECTIONS,
    *,
    tokenizer: Any = None,
    num_tokens: int = 4096,
    argmaxable: bool = True,
    attention: AttentionSettings | None = None,
    normalizers: Sequence[str | dict | Normalizer] = (),
    seed: int = 0,
    progress: Progress | None = None,
) -> Report:
    """Measure a language model's output layer, and its attention heads or its memory if asked.

    Args:
        model: a Hugging Face id (`id@revision` for one of its revisions), a folder, a
            `.safetensors`, `.gguf` or `.bin` file, a model in memory, or None for the default
            model.
        text: a text file, or None for the reference of the Python language.  With "output" left
            out of `sections` the text is read only if given here.
        sections: any of "head" (weights alone), "output", "attention" and "memory" (on the text).
        tokenizer: of a model in memory.
        num_tokens: predictions to make on the text.
        argmaxable: look for tokens that can never be predicted (2 V^2 D operations).
        attention: what the attention section measures; `num_tokens` is not for it.
        normalizers: names or configs (`wideneck.attention.names()`) that the attention section
            puts into the model in turn, without training it for them.
        seed: of the choice of windows and of the Gaussian null.
        progress: called as progress(stage, done, total).

    Cost: "head" reads the head's tensor only; "output" and "memory" load the model in float32 and
    run it once over `num_tokens` tokens, together if both are asked for.  "attention" runs it once
    over its windows with the weights formed, and once from layer l on for each head of layer l.

    Raises:
        WideneckError: the model or the text cannot be audited; the message says what to do.  A
            section that the model's numbers do not allow becomes a note, unless all do.
    """
    sections = (sections,) if isinstance(sections, str) else sections
    _check(sections, num_tokens)
    asked = _Asked(
        num_tokens=num_tokens if {"output", "head", "memory"} & {*sections} else None,
        memory="memory" in sections,
        attention="attention" in sections,
        settings=attention,
        normalizers=_normalizers(normalizers),
        seed=seed,
    )
    asked.check()
    reads = {"output", "attention", "memory"} & {*sections}
    used = _text(text) if reads or text is not None else None
    clock = Clock()
    _tell(progress, "reading the head")
    with clock("read the head"):
        head = head_of(model, tokenizer=tokenizer)
    run = None
    notes: list[str] = []
    if used is not None and head.form.has_memory:
        notes.append(
            "Not measurable: what needs a run of the model (it predicts from a memory besides its "
            "head, whose states alone do not show what it predicts; `wideneck evaluate` measures "
            "its loss)."
        )
    elif used is not None:
        run = _run_model(model, tokenizer, used, asked, clock, notes, progress)
    head_audit = output_audit = memory_audit = None
    states = None if run is None else run.states
    if "head" in sections:
        head_audit = audit_head(
            head,
            clock,
            second_moment=None if states is None else _second_moment(states),
            argmaxable=argmaxable,
            seed=seed,
            progress=progress,
        )
    if run is not None and states is not None:
        logit_map, ranks, own = run.logit_map, run.ranks, run.head
        if "output" in sections:
            output_audit = measured(
                "the output layer on the text",
                lambda: (
                    audit_output(head, logit_map, states, clock, progress=progress)
                    if own is None or head.form.is_one_softmax
                    else audit_own_head(own, states, clock, progress=progress)
                ),
                None,
                notes,
            )
        if ranks is not None:
            memory_audit = measured(
                "the memory",
                lambda: audit_memory(head, logit_map, states, ranks, clock, progress=progress),
                None,
                notes,
            )
    found = (head_audit, output_audit, None if run is None else run.attention, memory_audit)
    if all(section is None for section in found):
        raise UnmeasurableError(" ".join(notes))
    return Report(
        provenance=provenance(
            model=head.model,
            head_sha256=head.sha256,
            head_dtype=head.dtype,
            seed=seed,
            seconds=clock.seconds,
            compute_dtype=None if run is None else run.dtype,
            text=None if used is None or run is None else used.name,
            text_sha256=None if used is None or run is None else used.sha256,
            num_tokens=None if run is None else run.num_tokens,
            notes=notes if run is None else [*notes, *_notes(run, num_tokens, sections)],
        ),
        head=head_audit,
        output=output_audit,
        attention=None if run is None else run.attention,
        memory=memory_audit,
    )


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """What the model is run for."""

    num_tokens: int | None
    """Predictions for the output layer and the memory; None for none."""
    memory: bool
    attention: bool
    settings: AttentionSettings | None
    """None for the defaults, in a context that the model has positions for."""
    normalizers: list[Normalizer]
    seed: int

    def check(self) -> None:
        """Refuse what belongs to a section that was not asked for."""
        if not self.attention and (self.settings is not None or self.normalizers):
            raise WideneckError(
                "Settings or normalizers for the attention section came without that section: add "
                "'attention' to the sections."
            )


@dataclass(frozen=True, kw_only=True)
class _Run:
    """What is kept of a model once it has read the text."""

    states: HiddenStates | None
    """None where only attention was asked for, or where they are not finite."""
    ranks: LayerRanks | None
    """None where the memory was not asked for."""
    attention: AttentionAudit | None
    num_windows: int
    """Of attention, as they were asked for."""
    logit_map: LogitMap
    head: Head | None
    """Of wideneck, where the model has one."""
    dtype: str
    num_tokens: int


def _run_model(
    model: str | os.PathLike | torch.nn.Module | None,
    tokenizer: Any,
    text: Text,
    asked: _Asked,
    clock: Clock,
    notes: list[str],
    progress: Progress | None,
) -> _Run:
    """Load, measure the logit map, run over the text; the weights are freed on return.

    What the model's numbers do not allow is None, and one of the `notes`.
    """
    _tell(progress, "loading the model")
    with clock("load the model"):
        loaded = load_language_model(model, tokenizer=tokenizer)
    states = ranks = found = None
    num_read = num_windows = 0
    with evaluating(loaded.model):
        logit_map = measure_logit_map(loaded.model)
        if asked.num_tokens is not None:
            window = _window(loaded.max_positions, len(loaded.bos))
            with clock("read the text"):
                windows = _windows(loaded, text, asked.num_tokens, window, asked.seed)
                ranks = LayerRanks(windows) if asked.memory else None
                states = measured(
                    "the hidden states on the text",
                    partial(
                        collect_states,
                        loaded.model,
                        windows,
                        observer=ranks,
                        progress=progress,
                    ),
                    None,
                    notes,
                )
            num_read += windows.targets.numel()
        if asked.attention:
            # transformers, which takes seconds to import, is not needed for a head alone.
            from wideneck.audits.attention.reading import Reader
            from wideneck.audits.attention.section import audit_attention

            settings = _settings(loaded, asked.settings)
            num_windows, window = settings.num_windows, settings.context - len(loaded.bos)
            if window < 1:
                raise WideneckError(
                    f"A context of {settings.context} holds nothing but what the tokenizer puts in "
                    "front of a text: give a longer one."
                )
            windows = _windows(loaded, text, num_windows * window, window, asked.seed)
            found = measured(
                "the attention",
                partial(
                    audit_attention,
                    Reader(loaded.model, logit_map),
                    windows,
                    settings,
                    clock,
                    normalizers=asked.normalizers,
                    seed=asked.seed,
                    progress=progress,
                ),
                None,
                notes,
            )
            num_read += windows.targets.numel()
    return _Run(
        states=states,
        ranks=ranks,
        attention=found,
        num_windows=num_windows,
        logit_map=logit_map,
        head=head_in(loaded.model),
        dtype=str(loaded.model.dtype).removeprefix("torch."),
        num_tokens=num_read,
    )


def _windows(loaded: LoadedModel, text: Text, num_tokens: int, window: int, seed: int) -> Windows:
    windows = cut_windows(
        text,
        loaded.tokenizer,
        num_tokens=num_tokens,
        window=window,
        prefix=loaded.bos,
        seed=seed,
    )
    check_ids(loaded.model, int(max(windows.ids.max(), windows.targets.max())))
    return windows


def _settings(loaded: LoadedModel, given: AttentionSettings | None) -> AttentionSettings:
    """Those given, or the defaults in as long a context as the model has."""
    limit = loaded.max_positions
    settings = given or AttentionSettings()
    if limit is None or settings.context <= limit:
        return settings
    if given is not None:
        raise WideneckError(
            f"The attention section reads a context of {settings.context:,} tokens, and "
            f"{loaded.source} has positions for {limit:,}: give a context of at most as many."
        )
    sizes = tuple(size for size in settings.sizes if size < limit)
    if not sizes:
        raise WideneckError(f"{loaded.source} has positions for {limit:,}: too few to select from.")
    return AttentionSettings(
        context=limit, sizes=sizes, reference_size=min(settings.reference_size, sizes[-1])
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


def _check(sections: Sequence[str], num_tokens: int) -> None:
    unknown = [name for name in sections if name not in ALL_SECTIONS]
    if unknown or not sections:
        came = f"'{unknown[0]}'" if unknown else "none"
        known = ", ".join(ALL_SECTIONS)
        raise WideneckError(f"The sections of an audit are {known}; {came} was asked for.")
    if num_tokens < 1:
        raise WideneckError(f"An audit needs at least one token; {num_tokens} were asked for.")


def _text(text: str | os.PathLike | Text | None) -> Text:
    if text is None:
        return default_text()
    return text if isinstance(text, Text) else read_text(text)


def _window(max_positions: int | None, prefix: int) -> int:
    return WINDOW if max_positions is None else max(1, min(WINDOW, max_positions - prefix))


def _second_moment(states: HiddenStates) -> Tensor | None:
    """E[x x^T], or None from so few states that its spectrum would be that of the sample."""
    hidden = states.hidden.flatten(0, 1).double()
    num_tokens, width = hidden.shape
    return hidden.T @ hidden / num_tokens if num_tokens >= 2 * width else None


def _notes(run: _Run, asked: int, sections: Sequence[str]) -> list[str]:
    notes, states, attention = [], run.states, run.attention
    if attention is not None and attention.num_windows != run.num_windows:
        notes.append(
            f"{run.num_windows} windows were asked for, attention was measured on "
            f"{attention.num_windows}: as many as the text holds."
        )
    if states is None:
        return notes
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
