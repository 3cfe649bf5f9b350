"""Small calls of an attention layer, and what every route is held against: scores in float64."""

from dataclasses import replace

import torch
from slow_rows import slow_row
from torch._subclasses.fake_tensor import FakeTensorMode

from wideneck.attention.call import Call
from wideneck.attention.config import normalizer_config

B, H, G, Q, D = 2, 4, 2, 11, 8
OPTIONS = {
    "topk": {"k": 3},
    "ssmax": {"scale": 0.4, "bias": 0.3},
    "sink": {"logit": 0.5},
    "temperature": {"temperature": 0.7},
    "entmax": {"alpha": 1.3},
}


def masks():
    causal = torch.ones(Q, Q, dtype=torch.bool).tril()
    padded = causal.expand(B, 1, Q, Q).clone()
    padded[0, ..., :4] = False  # its first four queries see nothing
    window = (causal & causal.triu(-2))[None, None]
    per_head = torch.rand(B, H, Q, Q, generator=torch.Generator().manual_seed(1)) < 0.3
    return {"all": None, "padded": padded, "window": window, "per head": per_head}


CALLS = ("causal", *masks())


def a_call(kind="causal", dtype=torch.float64, sink=False, num_queries=Q, **options):
    """Every tensor of it wants a gradient."""
    generator = torch.Generator().manual_seed(3)
    shapes = [(B, H, num_queries, D), (B, G, Q, D), (B, G, Q, D)]
    query, key, value = (
        (2 * torch.randn(shape, generator=generator)).to(dtype).requires_grad_() for shape in shapes
    )
    own = torch.tensor([0.3, -2.0, 1.5, 0.0], dtype=dtype).view(H, 1, 1).requires_grad_()
    given = {
        "mask": masks().get(kind),
        "causal": kind == "causal",
        "scaling": D**-0.5,
        "softcap": None,
        "dropout": 0.0,
        "sink": own if sink else None,
    }
    return Call(query=query, key=key, value=value, **{**given, **options})


def on_gpu(dtype=torch.bfloat16, length=256, width=64, **options):
    """A call that holds nothing but shapes, on a GPU that is not there."""
    with FakeTensorMode():
        query = torch.empty(1, 4, length, width, dtype=dtype, device="cuda")
        key, value = (
            torch.empty(1, 2, length, w, dtype=dtype, device="cuda")
            for w in (width, options.pop("value_width", width))
        )
    made = replace(a_call(), query=query, key=key, value=value)
    return replace(made, **options)


def learned(name, dtype=torch.float64):
    """The config with what it learns as tensors that want gradients, and these."""
    config = normalizer_config(name, **OPTIONS.get(name, {}))
    if name == "asentmax":  # as read from hidden states
        generator = torch.Generator().manual_seed(5)
        raw = [torch.randn(B, H, Q, 1, generator=generator, dtype=dtype) for _ in range(2)]
        tensors = dict(zip(("beta", "gamma"), (raw[0].exp(), 0.3 * raw[1]), strict=True))
    else:
        fields = {"entmax": ("alpha",)}.get(name, config.learns)
        steps = torch.linspace(0, 0.2, H, dtype=dtype).view(H, 1, 1)
        tensors = {field: getattr(config, field) + steps for field in fields}
    tensors = {name: x.detach().requires_grad_() for name, x in tensors.items()}
    return replace(config, **tensors), list(tensors.values())


def inputs_of(call):
    return [x for x in (call.query, call.key, call.value, call.sink) if x is not None]


def with_gradients(function, call, config, more=()):
    """The output and its gradients by every tensor of the call, and by `more`."""
    out = function(call, config)
    upstream = torch.randn(out.shape, generator=torch.Generator().manual_seed(4)).to(out.dtype)
    wanted = [x for x in (*inputs_of(call), *more) if x.requires_grad]
    return [out, *torch.autograd.grad(out, wanted, upstream, allow_unused=True)]


def by_loops(call, config):
    """Row by row, by its weights alone: what `dense_scores` and the folding of groups must give."""
    given = {name: value for name, value in vars(config).items() if value is not None}
    out = torch.zeros(*call.query.shape[:3], call.value.shape[-1], dtype=torch.float64)
    for b, h, q in torch.cartesian_prod(*(torch.arange(n) for n in call.query.shape[:3])).tolist():
        group = h // (call.query.shape[1] // call.key.shape[1])
        seen = [
            k
            for k in range(call.key.shape[2])
            if (not call.causal or k <= q)
            and (call.mask is None or _visible(call.mask, b, h, q, k))
        ]
        keys = call.key[b, group, seen].detach().double()
        scores = (keys @ call.query[b, h, q].detach().double() * call.scaling).tolist()
        weights = torch.tensor(slow_row(config.name, scores, **given), dtype=torch.float64)
        if seen:
            out[b, h, q] = weights @ call.value[b, group, seen].detach().double()
    return out


def _visible(mask, b, h, q, k):
    return bool(mask[b if len(mask) > 1 else 0, h if mask.shape[1] > 1 else 0, q, k])
