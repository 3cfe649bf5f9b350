"""What the tests of Watch share: a watched step of a tiny model, and the same numbers densely."""

import torch
import torch.nn.functional as F

import wideneck as wn
from tiny import tiny_model
from tiny_text import character_tokenizer
from wideneck.data import Text
from wideneck.functional import log_score

PLAIN = ("llama", "llama-tied", "gemma2-low-cap", "granite")
HEADS = ("softmax", "sigsoftmax", "sigmoid", "scaled_softmax", "low_rank", "moc")
MIXTURES = ("mos", "moss")


def shaken(model):
    """Every parameter moved from where it starts."""
    generator = torch.Generator().manual_seed(2)
    for parameter in model.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.data.add_(0.05 * noise.to(parameter.dtype))
    return model


def plain(case):
    torch.manual_seed(1)
    return shaken(tiny_model(case)).double().train()


def with_head(head):
    torch.manual_seed(1)
    options = {"rank": 8, "num_tokens": 256, **fitted_on()} if head == "low_rank" else {}
    return shaken(wn.attach(tiny_model("llama"), head, **options)).double().train()


def fitted_on():
    """What a low_rank starts from."""
    documents = [f"{k} green bottles, hanging on wall {k * k}!\n" * 8 for k in range(12)]
    text = Text(name="bottles", documents=documents, sha256="0" * 64)
    return {"text": text, "tokenizer": character_tokenizer()}


def labelled():
    """Ids, and labels of which some are ignored."""
    ids = torch.randint(3, 96, (4, 12), generator=torch.Generator().manual_seed(0))
    labels = ids.clone()
    labels[0, :5] = labels[2, 7] = -100
    return ids, labels


def looked_at(model, step=1, **options):
    """What Watch finds at the first step."""
    ids, labels = labelled()
    watch = wn.Watch(model, tokens=1000, **options)
    model(input_ids=ids, labels=labels).loss.backward()
    found = watch.step(step)
    watch.close()
    return found


def states_of(model):
    """The states that enter the head and their targets, of tokens that have one."""
    ids, labels = labelled()
    target = F.pad(labels, (0, 1), value=-100)[:, 1:].flatten()
    kept = []
    hook = model.get_output_embeddings().register_forward_pre_hook(
        lambda _, args: kept.append(args[0])
    )
    with torch.no_grad():
        logits = (
            model(input_ids=ids, wants_logits=True).logits if is_ours(model) else model(ids).logits
        )
    hook.remove()
    known = target != -100
    return kept[0].flatten(0, 1)[known], logits.flatten(0, 1)[known], target[known]


def is_ours(model):
    return hasattr(model.get_output_embeddings(), "token_outputs")


def scores_of(model, hidden, logits):
    """The whole matrix of scores, by the model's own logits or the head's activation."""
    head = model.get_output_embeddings()
    if not is_ours(model):
        return logits
    raw = F.linear(head.contexts(hidden)[0], head.weight, head.bias) * head.logit_scale
    return log_score(raw, head.activation())
