"""`attach`: another output layer for a causal language model."""

import os
from typing import Any

from wideneck.attached.attaching import check_new, put_head
from wideneck.config import HeadConfig, LowRank
from wideneck.data import Text
from wideneck.errors import WideneckError


def attach(
    model: Any,
    head: str | dict | HeadConfig,
    *,
    tie: bool = True,
    nats: float | None = None,
    text: str | os.PathLike | Text | None = None,
    tokenizer: Any = None,
    num_tokens: int | None = None,
    **options: Any,
) -> Any:
    r"""Replace the output layer of a causal language model of transformers by a head.

    The model is changed in place and predicts what it did before, or with a low_rank nearly so.
    Its logits are then log-probabilities, so `generate()` and everything that reads logits work as
    they did; its loss is the head's, which forms no logits in training.

    How near the start is, with z the model's logits and p its probabilities:

    - softmax, scaled_softmax, plif, mos and moc: the same up to rounding.  A mixture gets the
      projection "residual", h + U_k h with U_k = 0 at first.
    - gss: the same up to rounding, by slope k = 1, learned.  Its gradient, sum_j (p_j - y_j)
      log sigmoid(z_j - c), is alive; that of the bend c has the factor k - 1 and is 0 at the
      first step.
    - sigsoftmax and moss: log-probabilities move by less than 0.01, by a learned shift c that
      puts every logit where the sigmoid is nearly 1; see `LogitRange.margin`.  The gradient of
      c, sum_j (p_j - y_j) (1 - sigmoid(z_j + c)), is below e^-5 there: nearly dead.  A shift
      of your own bends at once, and changes the predictions: `shift=0.0` for the paper's
      sigsoftmax, `activation={"name": "sigsoftmax", "shift": 0.0}` for the paper's moss.
    - sigmoid: likewise, by a shift far below 0, where log sigmoid(z + c) is nearly z + c.  The
      gradient, sum_j (p_j - y_j) (1 - sigmoid(z_j + c)) again, is sum_j (p_j - y_j) = 0 but for
      less than e^-5.
    - low_rank: the A B of rank r that is nearest to W by the Fisher matrix of the mean prediction
      and the second moment of the hidden states (`wideneck.audits.output.rank_cost`), fitted on
      every other document of a text as the audit reads it.  On the rest it loses what the audit's
      truncation "fisher" loses there; `head.start` says how much, measured and predicted, and so
      do config.json and the model card.  The input embedding stays whole, a tied one on its own.
      At r = d it predicts what the model did.
    - relu, a mixture with an embedding_size, and softcap on a model without a cap cannot start
      there and are refused; so is low_rank on a model with a cap.

    Args:
        model: anything of transformers that generates text and has output embeddings.
        head: a name, a config or its dictionary; see `wideneck heads`.
        tie: keep the weight shared with the embedding, where the model shares it; never with a
            low_rank, whose factors are no embedding.
        nats: of a low_rank in place of its rank, nats a token that it may lose: it gets the
            smallest rank of which the second-order prediction says so, on the half of the text that
            it is not fitted on.
        text: that a low_rank is fitted on: a file, or None for the reference of the Python
            language.
        tokenizer: the model's own, for that text.
        num_tokens: of the text, twice as many as it is fitted on; None for 4,096, or four times the
            hidden size if that is more.
        options: fields of the head's config.  A number given here is taken as it is, whatever
            the model predicted; in a config, one other than the default.  The rank of a low_rank
            may be a whole number, or a share of d: `rank=288` and `rank=0.5` are one for d = 576.

    Returns:
        The model.

    Cost: five short forward passes, two of 4 tokens, two of 48 and one of 256.  For a low_rank one
    over `num_tokens`, a few V D^2 in float64 and two or three products of the output layer over
    half of them; with `nats` some 30 passes over the scores.

    Raises:
        WideneckError: options that do not belong to the head or contradict each other, a rank
            outside 1 to d, nats that no rank below d meets, a text that is too short; not a causal
            language model, one that sees later tokens, one that already has a head, a layer for
            each codebook, a forward that somebody has replaced, logits that pass through something
            unknown, a loss that counts labels at other positions, a head that cannot start from the
            model's predictions.
    """
    check_new(model)
    if isinstance(head, LowRank) or _name(head) == LowRank.name:
        # Here, as no other head needs the audits.
        from wideneck.entry.low_rank import attach_low_rank

        return attach_low_rank(
            model,
            head,
            options,
            nats=nats,
            text=text,
            tokenizer=tokenizer,
            num_tokens=num_tokens,
        )
    given = {"nats": nats, "text": text, "tokenizer": tokenizer, "num_tokens": num_tokens}
    for name, value in given.items():
        if value is not None:
            raise WideneckError(
                f"{name} is for a low_rank head, which is fitted on a text; every other one starts "
                "from the model's own matrix: leave it out."
            )
    return put_head(model, head, options, tie=tie)


def _name(head: Any) -> Any:
    return head.get("name") if isinstance(head, dict) else head
