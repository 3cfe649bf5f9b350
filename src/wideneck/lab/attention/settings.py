"""What is measured at each scale.  Imports no torch.

Both scales have the paper's context, sizes and scan, and both measure the rows as the attention
section of the audit does by default: x_i are the values of a head, keys are those that a query
sees.  The small scale looks at every eighth query of a window.
"""

from dataclasses import dataclass, replace

from wideneck.audits.attention.settings import AttentionSettings
from wideneck.errors import WideneckError
from wideneck.lab.registry import Request

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
    """Of the text, once it is read."""

    def other(self, *, default_text: bool) -> str:
        """What is not as in the paper, such as "another model and text"; empty for nothing."""
        parts = {"model": self.model not in GPT2, "text": default_text}
        names = [name for name, differs in parts.items() if differs]
        return f"another {' and '.join(names)}" if names else ""


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
