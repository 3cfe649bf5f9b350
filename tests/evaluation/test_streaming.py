"""Which tokens are read together, and that each is predicted once."""

from contextlib import closing

import pytest
import torch

from evaluation.tiny_lms import V, modes, recurrent, text, windowed
from wideneck import config as c
from wideneck.errors import WideneckError
from wideneck.evaluation import Reading, stream
from wideneck.models.small.config import AwdLstm, Transformer
from wideneck.models.small.language_model import language_model

MODELS = {
    "recurrence": recurrent,
    "awd_lstm": lambda: language_model(
        AwdLstm(embedding_size=6, hidden_size=7), c.Softmax(), vocab_size=V
    ).double(),
}
WINDOWED = {
    "running mean": windowed,
    "gpt2": lambda: language_model(
        Transformer(context=6, options={"n_embd": 8, "n_layer": 1, "n_head": 2}),
        c.Softmax(),
        vocab_size=V,
    ).double(),
}


@pytest.mark.parametrize("segment", [1, 7, 1000])
@pytest.mark.parametrize("name", MODELS)
def test_rows_are_read_as_if_in_one_go_whatever_the_segment(name, segment):
    model, ids, B = MODELS[name](), text(62), 3
    rows = ids[:60].view(B, 20)
    pieces = list(stream(model, ids, batch_size=B, segment=segment))
    assert all(target.shape[1] <= segment for _, target in pieces)
    assert torch.equal(torch.cat([target for _, target in pieces], 1), rows[:, 1:])
    with torch.no_grad():
        whole = model.eval().backbone(rows[:, :-1]).hidden
    torch.testing.assert_close(torch.cat([hidden for hidden, _ in pieces], 1), whole)


@pytest.mark.parametrize("num_tokens", [2, 6, 7, 8, 61])
@pytest.mark.parametrize("batch_size", [1, 4, 100])
@pytest.mark.parametrize("name", WINDOWED)
def test_every_window_is_read_anew_and_every_token_but_the_first_predicted(
    name, batch_size, num_tokens
):
    model, ids = WINDOWED[name](), text(num_tokens)
    pieces = list(stream(model, ids, batch_size=batch_size, segment=3))
    assert torch.equal(torch.cat([target.flatten() for _, target in pieces]), ids[1:])
    assert all(len(target) <= batch_size for _, target in pieces)
    hidden = torch.cat([hidden.flatten(0, 1) for hidden, _ in pieces])
    model.eval()
    for s in range(0, num_tokens - 1, 6):
        window = ids[s : min(s + 6, num_tokens - 1)]
        with torch.no_grad():
            alone = model.backbone(window[None]).hidden[0]
        torch.testing.assert_close(hidden[s : s + 6], alone)


@pytest.mark.parametrize("make", [recurrent, windowed])
@pytest.mark.parametrize("batch_size", [1, 3, 7])
def test_a_reading_knows_how_many_tokens_it_predicts(make, batch_size):
    ids = text(61)
    reading = Reading.of(make(), ids, batch_size=batch_size, segment=5)
    assert reading.num_predicted == sum(target.numel() for _, target in reading)
    for inputs, target in reading:
        assert inputs.shape == target.shape


def test_the_conventions_say_what_is_left_out():
    model = recurrent()
    seven = Reading.of(model, text(61), batch_size=7, segment=5).conventions
    assert seven.startswith("7 rows of")
    assert "5 tokens at the end" in seven
    one = Reading.of(model, text(61), batch_size=1, segment=5).conventions
    assert one.startswith("1 row of")
    assert "0 tokens at the end" in one
    assert "windows of 6" in Reading.of(windowed(), text(61), batch_size=1, segment=5).conventions


def test_ids_may_be_kept_in_fewer_bits():
    model = recurrent()
    for (a, x), (b, y) in zip(
        stream(model, text(), batch_size=2),
        stream(model, text().to(torch.int32), batch_size=2),
        strict=True,
    ):
        assert torch.equal(a, b)
        assert torch.equal(x, y)


def test_the_model_is_in_eval_mode_inside_and_as_before_after():
    model = recurrent(rate=0.5)
    model.head.eval()
    before = modes(model)
    with closing(stream(model, text(), batch_size=1, segment=10)) as pieces:
        hidden, _ = next(pieces)
        assert not any(modes(model))
        assert not hidden.requires_grad
        assert torch.is_grad_enabled()
    assert modes(model) == before


def test_progress_ends_at_all_predictions():
    calls = []
    list(stream(recurrent(), text(), batch_size=2, progress=lambda *call: calls.append(call)))
    assert calls[-1] == ("reading the text", 58, 58)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (torch.zeros(2, 3, dtype=torch.long), "a vector of token ids"),
        (torch.zeros(9), "a vector of token ids"),
        (torch.tensor([], dtype=torch.long), "too few"),
        (torch.tensor([1, 2, 3]), "too few to predict one in each of 2 rows"),
        (torch.tensor([1, 2, 3, V]), f"from 1 to {V}, but the model's vocabulary has {V} tokens"),
        (torch.tensor([1, 2, -1, 3]), "from -1 to 3"),
    ],
)
def test_what_cannot_be_read_is_refused(ids, message):
    with pytest.raises(WideneckError, match=message):
        list(stream(recurrent(), ids, batch_size=2))


@pytest.mark.parametrize("sizes", [{"batch_size": 0}, {"batch_size": 1, "segment": 0}])
def test_sizes_below_one_are_refused(sizes):
    with pytest.raises(WideneckError, match="at least 1"):
        list(stream(recurrent(), text(), **sizes))


@pytest.mark.parametrize("length", [60, 61, 62])
@pytest.mark.parametrize("batch_size", [1, 3, 7])
@pytest.mark.parametrize("name", [*MODELS, *WINDOWED])
def test_the_tokens_said_to_be_predicted_are_the_targets(name, batch_size, length):
    model = (MODELS | WINDOWED)[name]()
    reading = Reading.of(model, torch.arange(length) % V, batch_size=batch_size, segment=7)
    places = Reading(torch.arange(length), length, batch_size, 7, reading.context)
    targets = torch.cat([target.flatten() for _, target in places])
    assert reading.predicted.nonzero()[:, 0].tolist() == sorted(targets.tolist())
    assert int(reading.predicted.sum()) == reading.num_predicted
