"""lm-eval's command line, which then knows models with heads and normalizers of wideneck.

    python -m wideneck.evaluation.lm_eval run --model hf --model_args pretrained=FOLDER --tasks ...

It is `lm_eval` after `import wideneck.auto`, no more: transformers then finds the class of a folder
that `save_pretrained` wrote.  In Python `HFLM(pretrained=model, tokenizer=...)` of
`lm_eval.models.huggingface` takes a model with a head as it is: its logits are log-probabilities.
"""

import sys

import wideneck.auto  # noqa: F401


def main() -> None:
    """Run lm-eval with the arguments of this process."""
    try:
        from lm_eval.__main__ import cli_evaluate
    except ImportError as error:
        sys.exit(
            f"wideneck: this needs lm-eval ({error}): run `pip install 'wideneck[eval]'`, or "
            "`pip install lm-eval`."
        )
    cli_evaluate()


if __name__ == "__main__":
    main()
