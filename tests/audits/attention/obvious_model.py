"""What a model's attention does, in float64: transformers' eager code, watched by plain hooks.

The eager code's softmax is replaced by a loop over rows, so that the scores are seen and another
normalizer is a formula of one row.
"""

import copy
import math
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from unittest.mock import patch

import torch
import torch.nn.functional as F

HIDDEN = -1e30
"""Scores of keys that are not visible are below: masks add the least finite number."""


@dataclass
class Place:
    """Where a row of scores comes from, for normalizers with numbers of their own."""

    layer: int
    head: int
    hidden: torch.Tensor
    """(D,): what enters the attention layer at the row's query."""


@dataclass
class Attention:
    """One layer on one window."""

    scores: torch.Tensor
    """(H, Q, K), scaled; of visible keys only."""
    visible: torch.Tensor
    """(Q, K)."""
    weights: torch.Tensor
    """(H, Q, K), as the model returns them."""
    values: torch.Tensor
    """(H, K, d), of every query head."""
    hidden: torch.Tensor
    """(K, D): what enters the attention layer."""


@dataclass
class Pass:
    """One window through the model."""

    layers: list
    embeddings: torch.Tensor
    """(K, D)."""
    losses: torch.Tensor
    """(T,)."""


@dataclass
class _Seen:
    scores: list = field(default_factory=list)
    hidden: list = field(default_factory=list)
    values: list = field(default_factory=list)
    embeddings: list = field(default_factory=list)


class ObviousModel:
    """A copy of a model in float64, under the formula of a normalizer.

    Args:
        model: GPT-2, or one with projections of the names that Llama gave them.
        formula: weights (..., n) of rows of the n visible scores of a `Place`.
    """

    def __init__(self, model, formula):
        self.model, self.formula = copy.deepcopy(model).double().eval(), formula
        self.model.set_attn_implementation("eager")
        self.is_gpt2 = hasattr(self.model, "transformer")
        blocks = self.model.transformer.h if self.is_gpt2 else self.model.model.layers
        self.attention = [block.attn if self.is_gpt2 else block.self_attn for block in blocks]
        config = self.model.config
        self.num_heads = config.num_attention_heads
        self.num_kv_heads = getattr(config, "num_key_value_heads", self.num_heads)
        self.width = self.output(0).weight.numel() // (self.num_heads * config.hidden_size)

    def output(self, layer):
        """The projection of the heads' outputs."""
        attention = self.attention[layer]
        return attention.c_proj if self.is_gpt2 else attention.o_proj

    @torch.no_grad()
    def read(self, ids, targets, replaced=None):
        """A `Pass` of the window `ids` (P + T,) with T targets.

        Args:
            replaced: (layer, head) whose output is the plain mean of its visible values.
        """
        seen = _Seen()
        with self._watching(seen, replaced):
            out = self.model(ids[None], output_attentions=True, use_cache=False)
        log_probs = out.logits[0, -len(targets) :].log_softmax(-1)
        layers = [
            Attention(
                scores=seen.scores[i],
                visible=seen.scores[i][0] > HIDDEN,
                weights=out.attentions[i][0],
                values=seen.values[i],
                hidden=seen.hidden[i],
            )
            for i in range(len(self.attention))
        ]
        losses = torch.stack([-row[target] for row, target in zip(log_probs, targets, strict=True)])
        return Pass(layers, seen.embeddings[0], losses)

    @contextmanager
    def _watching(self, seen, replaced):
        def softmax(scores, dim=-1, dtype=None):
            seen.scores.append(scores[0])
            return self._weights(scores[0], len(seen.scores) - 1, seen.hidden[-1])[None]

        with ExitStack() as stack:
            stack.enter_context(patch.object(F, "softmax", softmax))

            def hook(register, function, **how):
                stack.callback(register(function, **how).remove)

            embedding = self.model.get_input_embeddings()
            hook(
                embedding.register_forward_hook, lambda _m, _a, out: seen.embeddings.append(out[0])
            )
            for layer, attention in enumerate(self.attention):
                hook(attention.register_forward_pre_hook, _entering(seen), with_kwargs=True)
                maker = attention.c_attn if self.is_gpt2 else attention.v_proj
                hook(maker.register_forward_hook, self._taking(seen))
                if replaced is not None and replaced[0] == layer:
                    giver = self.output(layer)
                    hook(giver.register_forward_pre_hook, self._replacing(seen, replaced[1]))
            yield

    def _weights(self, scores, layer, hidden):
        """(H, Q, K) of scores (H, Q, K), row by row."""
        weights = torch.zeros_like(scores)
        for head in range(len(scores)):
            for query, row in enumerate(scores[head]):
                visible = row > HIDDEN
                if visible.any():
                    place = Place(layer, head, hidden[query])
                    weights[head, query, visible] = self.formula(row[visible], place)
        return weights

    def _taking(self, seen):
        """Values by query head: `groups` neighbours share those of one key and value head."""
        groups = self.num_heads // self.num_kv_heads

        def hook(_module, _args, out):
            made = out[0].chunk(3, -1)[2] if self.is_gpt2 else out[0]
            values = []
            for head in range(self.num_heads):
                start = head // groups * self.width
                values.append(made[:, start : start + self.width])
            seen.values.append(torch.stack(values))

        return hook

    def _replacing(self, seen, head):
        def hook(_module, args):
            mixed = args[0].clone()
            values, visible = seen.values[-1][head], seen.scores[-1][0] > HIDDEN
            start = head * self.width
            for query in range(mixed.shape[1]):
                mean = values[visible[query]].mean(0)
                mixed[0, query, start : start + self.width] = mean
            return (mixed,)

        return hook


def _entering(seen):
    def hook(_module, args, kwargs):
        seen.hidden.append((args[0] if args else kwargs["hidden_states"])[0])

    return hook


# Formulas: weights (..., n) of rows of scores (..., n) that are all visible.


def softmax(scores, _place=None):
    raised = (scores - scores.amax(-1, keepdim=True)).exp()
    return raised / raised.sum(-1, keepdim=True)


def scaled(scale, bias):
    """The same numbers for all heads."""

    def formula(scores, _place):
        return softmax((scale * math.log(scores.shape[-1]) + bias) * scores)

    return formula


def ssmax(scale, bias):
    """Of each layer (H,)."""

    def formula(scores, place):
        s, b = scale[place.layer][place.head], bias[place.layer][place.head]
        return softmax((s * math.log(scores.shape[-1]) + b) * scores)

    return formula


def sink(logit):
    """A number for all heads."""

    def formula(scores, _place):
        last = torch.full_like(scores[..., :1], logit)
        return softmax(torch.cat([scores, last], -1))[..., :-1]

    return formula


def asentmax(beta, gamma, reach=2.0):
    """Of each layer (H, D); alpha is 1.5."""

    def formula(scores, place):
        n = torch.tensor(float(scores.shape[-1]), dtype=scores.dtype)
        b = F.softplus(beta[place.layer][place.head] @ place.hidden)
        g = reach * torch.tanh(gamma[place.layer][place.head] @ place.hidden)
        return _entmax15((1 + b * (n + 1).log() ** g) * scores)

    return formula


def _entmax15(scores):
    """With z half the scores, m and v mean and variance of the k largest: z - m + sqrt(1 / k - v).

    k is the largest for which all of the k are above 0.
    """
    falling = scores.sort(descending=True).values / 2
    k = torch.arange(1, scores.shape[-1] + 1, dtype=scores.dtype)
    mean = falling.cumsum(-1) / k
    variance = falling.square().cumsum(-1) / k - mean.square()
    threshold = mean - (1 / k - variance).clamp(min=0).sqrt()
    last = (threshold <= falling).sum(-1, keepdim=True) - 1
    return (scores / 2 - threshold.gather(-1, last)).clamp(min=0).square()


def stickbreaking(scores, _place=None):
    weights, left = torch.zeros_like(scores), torch.ones_like(scores[..., 0])
    for i in reversed(range(scores.shape[-1])):
        weights[..., i] = left * torch.sigmoid(scores[..., i])
        left = left * (1 - torch.sigmoid(scores[..., i]))
    return weights


def sparsemax(scores, _place=None):
    """The threshold is the largest of (sum of the k largest - 1) / k over k."""
    falling = scores.sort(descending=True).values
    k = torch.arange(1, scores.shape[-1] + 1, dtype=scores.dtype)
    threshold = ((falling.cumsum(-1) - 1) / k).amax(-1, keepdim=True)
    return (scores - threshold).clamp(min=0)
