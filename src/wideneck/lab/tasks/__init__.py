"""HistAlign's other tasks: to go on from a prompt, and to tell a target from a source.

Data, what can be checked of it, models and their training, measures of texts, and the page.
"""

OPTIONS = {
    "task": (
        str,
        "NAME",
        "template (the ambiguous template), continuation, summaries or data-to-text. Default: "
        "template.",
    ),
    "data": (
        str,
        "DATA",
        "What a task other than template reads: a file, a folder, or datasets:NAME[:SUBSET]. "
        "docs/reproduce.md says what each task takes. Default at the small scale: its own.",
    ),
    "judge": (
        str,
        "MODEL",
        "Hugging Face id or folder of a model that judges what a task other than template writes: "
        "a classifier of entailment, an encoder of sentences, or a causal language model.",
    ),
}
"""What `wideneck reproduce histalign` takes for them; see `wideneck.lab.registry`."""
