"""A low_rank head in the default model: its start, a short training, and drafting.

    python -m bench low-rank [--rank 432] [--draft-rank 288] [--steps 64] [--window 512]

The default text is parted by documents: two of three to fit and train on, the third to measure on.

- start: what `wideneck.attach` predicts and what the head then loses on the documents held out.
- train: the Trainer of transformers, a window of text a step, the head alone; the loss on the
  documents held out, with intervals over them.
- draft: a copy with a head of low rank as `assistant_model`.  Predicted acceptance, on the states
  of the held-out text: greedy, how often both heads have one favourite; sampled, sum_i min(p_i,
  q_i).  Measured: of the drafted tokens that the model looks at, those it takes.  The copy has all
  of the model's layers, so that it drafts as slowly as the model writes: acceptance is what this is
  about, the rates are told for what they are.
"""

import argparse
import copy
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
import transformers as tr
from torch import Tensor
from transformers.generation import candidate_generator

import wideneck as wn
from bench.table import markdown
from wideneck.audits.estimate import estimate
from wideneck.audits.states import HiddenStates, collect_states
from wideneck.data import Text, Windows, cut_windows, default_text
from wideneck.models import LoadedModel, evaluating, load_language_model

WINDOW = 512
HELD_OUT = 4096
"""Tokens that losses are measured on."""
RATE = 3e-4
PROMPT, NEW, DRAFTED = 32, 48, 4
"""Tokens: of a prompt, written after it, drafted at a time."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench low-rank")
    parser.add_argument("--rank", type=int, default=432)
    parser.add_argument("--draft-rank", type=int, default=288)
    parser.add_argument("--steps", type=int, default=64)
    parser.add_argument("--window", type=int, default=512, help="tokens of a training step")
    parser.add_argument("--prompts", type=int, default=4)
    return parser


def main(arguments: list[str]) -> None:
    options = _parser().parse_args(arguments)
    loaded = load_language_model(None)
    train, test = parted(default_text())
    held_out = cut_windows(
        test, loaded.tokenizer, num_tokens=HELD_OUT, window=WINDOW, prefix=loaded.bos
    )
    with evaluating(loaded.model):
        states = collect_states(loaded.model, held_out)
    trained(loaded, train, states, options.rank, options.steps, options.window)
    drafted(loaded, train, held_out, states, options.draft_rank, options.prompts)


def parted(text: Text) -> tuple[Text, Text]:
    """Two of three documents, and the third ones."""
    parts = [[], []]
    for i, document in enumerate(text.documents):
        parts[i % 3 == 2].append(document)
    names = ("two thirds", "the last third")
    train, test = (
        Text(name=f"{text.name}, {name}", documents=part, sha256=f"{text.sha256} {name}")
        for name, part in zip(names, parts, strict=True)
    )
    return train, test


def trained(
    loaded: LoadedModel,
    train: Text,
    states: HiddenStates,
    rank: int,
    num_steps: int,
    window: int,
) -> None:
    """The start and the training of a head in a copy of the model."""
    full = losses(loaded.model.get_output_embeddings(), states)
    model = copy.deepcopy(loaded.model)
    wn.attach(model, "low_rank", rank=rank, text=train, tokenizer=loaded.tokenizer)
    head: Any = model.get_output_embeddings()
    print(f"start: {head.start}", flush=True)
    model.requires_grad_(False)
    head.requires_grad_(True)
    before = losses(head, states)
    windows = cut_windows(
        train,
        loaded.tokenizer,
        num_tokens=num_steps * window,
        window=window,
        prefix=loaded.bos,
        seed=1,
    )
    rows = [{"input_ids": ids, "labels": ids} for ids in windows.ids]
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        settings = tr.TrainingArguments(
            folder,
            max_steps=num_steps,
            per_device_train_batch_size=1,
            learning_rate=RATE,
            lr_scheduler_type="cosine",
            use_cpu=True,
            dataloader_pin_memory=False,
            report_to=[],
            save_strategy="no",
            disable_tqdm=True,
            logging_steps=8,
        )
        tr.Trainer(model, settings, train_dataset=cast(Any, rows)).train()
    took = time.perf_counter() - start
    after = losses(head, states)
    told = [
        [name, f"{values.mean():.4f}", _interval(values - full, states)]
        for name, values in (("full", full), ("start", before), ("trained", after))
    ]
    print(f"\n{rank=}, {num_steps} steps, {len(rows)} windows of {window}, {took:.0f} s, {RATE=}")
    print(markdown(["head", "nats a token", "minus full"], told))
    print(f"trained minus start: {_interval(after - before, states)}", flush=True)


def _interval(values: Tensor, states: HiddenStates) -> str:
    found = estimate(values, states.document)
    return f"{found.value:+.4f} [{found.low:+.4f}, {found.high:+.4f}]"


@torch.no_grad()
def losses(head: Any, states: HiddenStates) -> Tensor:
    """(W, T) of a head or a linear layer."""
    rows = []
    for hidden, targets in zip(states.hidden, states.targets, strict=True):
        log_p = head(hidden).log_softmax(-1)
        rows.append(-log_p.gather(1, targets[:, None])[:, 0])
    return torch.stack(rows)


@torch.no_grad()
def drafted(
    loaded: LoadedModel,
    train: Text,
    held_out: Windows,
    states: HiddenStates,
    rank: int,
    num_prompts: int,
) -> None:
    """Acceptance, predicted and measured, and tokens a second."""
    model = loaded.model.eval()
    copied = copy.deepcopy(model)
    drafter = wn.attach(copied, "low_rank", rank=rank, text=train, tokenizer=loaded.tokenizer)
    told = drafter.generation_config
    told.num_assistant_tokens, told.num_assistant_tokens_schedule = DRAFTED, "constant"
    told.assistant_confidence_threshold = 0.0
    heads = [each.get_output_embeddings() for each in (model, drafter)]
    same, shared = agreement(heads, states.hidden.flatten(0, 1))
    prompts = held_out.ids[:num_prompts, :PROMPT]
    rows, lines = [], []
    for sampled, on_text in ((False, same), (True, shared)):
        options = {"do_sample": sampled, "max_new_tokens": NEW, "min_new_tokens": NEW}
        alone, alone_s = written(model, prompts, **options)
        with counting() as rounds:
            ours, ours_s = written(model, prompts, assistant_model=drafter, **options)
        if not sampled:
            equal = sum(torch.equal(*pair) for pair in zip(alone, ours, strict=True))
            lines.append(
                f"greedy: {equal} of {num_prompts} texts are the full model's, token by token"
            )
        with evaluating(model):
            own = [collect(model, ids) for ids in ours]
        on_own = agreement(heads, torch.cat(own))[sampled]
        looked, taken = sum(min(n + 1, k) for n, k in rounds), sum(n for n, _ in rounds)
        rows.append(
            [
                "sampled" if sampled else "greedy",
                f"{on_text:.3f}",
                f"{on_own:.3f}",
                f"{taken / looked:.3f} ({taken} of {looked})",
                f"{num_prompts * NEW / alone_s:.1f}",
                f"{num_prompts * NEW / ours_s:.1f}",
            ]
        )
    print(
        f"\ndraft: {rank=}, {num_prompts} prompts, {NEW} tokens each, {DRAFTED} drafted at a time"
    )
    names = ["", "predicted, held-out text", "predicted, its own text", "measured"]
    print(markdown([*names, "tokens/s alone", "with the drafter"], rows))
    print("\n".join(lines), flush=True)


def collect(model: Any, ids: Tensor) -> Tensor:
    """The states from which the tokens after the prompt were predicted."""
    states = model.model(ids[None]).last_hidden_state[0]
    return states[PROMPT - 1 : -1]


def agreement(heads: list[Any], hidden: Tensor) -> tuple[float, float]:
    """How often both have one favourite, and the mean of sum_i min(p_i, q_i)."""
    same = shared = 0.0
    for part in hidden.split(128):
        p, q = (head(part).softmax(-1) for head in heads)
        same += (p.argmax(-1) == q.argmax(-1)).sum().item()
        shared += torch.minimum(p, q).sum().item()
    return same / len(hidden), shared / len(hidden)


def written(model: Any, prompts: Tensor, **options: Any) -> tuple[list[Tensor], float]:
    """What the model writes after each prompt, and the seconds of all."""
    torch.manual_seed(0)
    options = (
        {"temperature": 1.0, "top_k": 0, "top_p": 1.0, **options}
        if options["do_sample"]
        else options
    )
    start = time.perf_counter()
    texts = [
        model.generate(ids[None], attention_mask=torch.ones_like(ids[None]), **options)[0]
        for ids in prompts
    ]
    return texts, time.perf_counter() - start


@contextmanager
def counting() -> Iterator[list[tuple[int, int]]]:
    """Inside, each round of drafting is told: tokens taken, and drafted."""
    rounds: list[tuple[int, int]] = []
    kind = candidate_generator.AssistedCandidateGenerator
    before = kind.update_candidate_strategy

    def update(self: Any, input_ids: Any, scores: Tensor, num_matches: int) -> None:
        rounds.append((int(num_matches), scores.shape[1] - 1))
        before(self, input_ids, scores, num_matches)

    kind.update_candidate_strategy = update
    try:
        yield rounds
    finally:
        kind.update_candidate_strategy = before
