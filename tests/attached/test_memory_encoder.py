"""An encoder-decoder's memory, of its source: padding, targets, precision."""

import pytest
import torch
from pairs import Pairs, collated
from remembering import ENCODER_DECODERS, model_of, remembering

from wideneck.errors import WideneckError

F64 = torch.float64
NUMBERS = [0, 1, 2, 3]
FROM_THE_ROW = [name for name in ENCODER_DECODERS if name != "t5"]
"""Their encoders count positions from the row's first place, padding included."""


def alone(i):
    return {name: torch.tensor([value]) for name, value in Pairs()[i].items()}


def padded(side):
    """The source on that side, the target on the right."""
    batch = collated(NUMBERS)
    source = collated(NUMBERS, side=side)
    return {**batch, "input_ids": source["input_ids"], "attention_mask": source["attention_mask"]}


def without_positions(model):
    for part in model.modules():
        if "Positional" in type(part).__name__:
            part.weight.data.zero_()
            part.weight.requires_grad_(False)
    return model


def assert_as_alone(model, side):
    """Predictions of every target, and the sum of the losses with its gradients."""
    batch = padded(side)
    with torch.no_grad():
        together = model(**batch).logits
        for row, i in enumerate(NUMBERS):
            own = model(**alone(i)).logits[0]
            torch.testing.assert_close(together[row, : len(own)], own)

    def gradients(*batches):
        model.zero_grad()
        total = sum(model(**b, num_items_in_batch=1).loss for b in batches)
        total.backward()
        return [total.detach(), *(p.grad.clone() for p in model.parameters() if p.requires_grad)]

    ours, theirs = gradients(batch), gradients(*map(alone, NUMBERS))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("options", [{"reduction": "sum"}, {"mixture": "linear", "alpha": 0.0}])
@pytest.mark.parametrize("name", ENCODER_DECODERS)
def test_padding_on_the_right_changes_nothing(name, options):
    assert_as_alone(remembering(name, F64, **options), "right")


def test_a_model_of_relative_positions_may_be_padded_on_the_left():
    assert_as_alone(remembering("t5", F64, reduction="sum"), "left")


@pytest.mark.parametrize("name", FROM_THE_ROW)
def test_padding_on_the_left_moves_the_positions_and_nothing_else(name):
    """Of the model itself, with and without a memory; without positions both sides are the same."""
    plain, batches = model_of(name, F64), [padded(side) for side in ("left", "right")]
    with torch.no_grad():
        left, right = (plain(**batch).logits[2] for batch in batches)
    assert (left - right).abs().max() > 1e-2
    assert_as_alone(without_positions(remembering(name, F64, reduction="sum")), "left")


@pytest.mark.parametrize("name", ENCODER_DECODERS)
def test_a_collator_that_pads_on_the_left_moves_the_target_too(name):
    """The decoder of the model itself then reads that padding, with and without a memory."""
    left, right = (collated(NUMBERS, side=side)["labels"] for side in ("left", "right"))
    assert (left[1] != -100).tolist() == [False] * 5 + [True]
    plain, source = model_of(name, F64), padded("right")
    losses = [plain(**{**source, "labels": labels}).loss.item() for labels in (left, right)]
    assert abs(losses[0] - losses[1]) > 1e-2


@pytest.mark.parametrize("name", ENCODER_DECODERS)
def test_the_decoders_input_may_come_from_the_collator(name):
    model = remembering(name)
    told, untold = collated(NUMBERS, model=model), collated(NUMBERS)
    assert "decoder_input_ids" in told
    assert "decoder_input_ids" not in untold
    assert torch.equal(model(**told).loss, model(**untold).loss)


@pytest.mark.parametrize("name", ENCODER_DECODERS)
def test_a_target_may_be_one_token(name):
    """In its source and in none: the loss is that of the first prediction."""
    model = remembering(name, F64, alpha=0.0)
    inputs = collated([0, 1])
    del inputs["labels"]
    labels = torch.tensor([[inputs["input_ids"][0, 2].item()], [50]])
    start = model.prepare_decoder_input_ids_from_labels(labels)
    assert start.shape == labels.shape
    log_p = model(**inputs, decoder_input_ids=start).logits[:, 0]

    loss = model.train()(**inputs, labels=labels).loss if name == "t5" else None
    evaluated = model.eval()(**inputs, labels=labels).loss

    torch.testing.assert_close(evaluated, -log_p.gather(-1, labels).mean())
    if loss is not None:  # the others drop out in training
        torch.testing.assert_close(loss, evaluated)


def test_a_row_without_a_target_needs_the_decoders_input_where_the_model_cannot_make_it():
    model, batch = remembering("mbart"), collated(NUMBERS)
    batch["labels"][1] = -100
    with pytest.raises(
        WideneckError, match=r"MBartForCond.* a row has no target: pass decoder_inp"
    ):
        model(**batch)
    loss = model(**batch, decoder_input_ids=batch["labels"].clamp(min=3)).loss
    assert loss.isfinite()


@pytest.mark.parametrize("name", ENCODER_DECODERS)
@pytest.mark.parametrize("rows", [[0], [0, 3], [2, 1, 0]])
def test_a_mean_over_pairs_counts_by_its_share_of_the_targets(name, rows):
    model = remembering(name, F64)
    count = sum(len(Pairs()[i]["labels"]) for i in NUMBERS)
    own = sum(len(Pairs()[i]["labels"]) for i in rows)
    batch = collated(rows)

    part = model(**batch, num_items_in_batch=torch.tensor(count)).loss

    torch.testing.assert_close(part, model(**batch).loss * own / count)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ENCODER_DECODERS)
def test_autocast_moves_the_loss_by_a_few_roundings(name, dtype):
    model, batch = remembering(name), collated(NUMBERS)
    want = model(**batch).loss
    with torch.autocast("cpu", dtype):
        result = model(**batch)
    result.loss.backward()

    assert result.loss.dtype == torch.float32
    assert result.loss.item() == pytest.approx(want.item(), rel=4 * torch.finfo(dtype).eps)
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize("name", ENCODER_DECODERS)
def test_a_memory_holds_the_states_that_the_decoder_has_read(name):
    """With dropout, too: one pass, whose loss is that of its own predictions."""
    model, batch = remembering(name, F64, alpha=0.0).train(), collated(NUMBERS)
    for part in model.modules():
        if isinstance(getattr(part, "dropout", None), float):
            part.dropout = 0.3
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.3

    result = model(**batch, wants_logits=True)

    kept = batch["labels"] != -100
    target = batch["labels"].clamp(min=0)[..., None]
    want = -result.logits.gather(-1, target)[..., 0][kept].mean()
    torch.testing.assert_close(result.loss, want)
    assert not torch.equal(result.loss, model(**batch).loss)
