"""What the tables of the memory study are of."""

from bench.studies import ByArm, span

ENDED = {
    "untrained": "are measured as",
    "plain": "stay at",
    "TRIME": "end at",
    "HistAlign": "end at",
}


def caption(by_arm: ByArm) -> str:
    """Learned numbers, then sizes and definitions."""
    return "\n\n".join([_learned(by_arm), _sizes(by_arm)])


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
