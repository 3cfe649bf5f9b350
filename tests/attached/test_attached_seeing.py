"""Models that see under the Trainer, with a memory, under a normalizer and in every Auto class."""

import copy

import pytest
import torch
import transformers as tr
from trainer_arguments import sgd

import wideneck as wn
from seeing import IMAGE_TOKEN, TEXT, VISION, seeing
from tiny import V
from wideneck.attached.memory_sources import OwnHistory
from wideneck.attached.swap import placed_memory
from wideneck.errors import WideneckError

NAMES = ("llava", "gemma3", "qwen2.5-vl", "qwen3-vl")


@pytest.fixture(scope="module", params=NAMES)
def case(request):
    """A model, a prompt with an image, and one of text that the model takes in training, too."""
    model, inputs = seeing(request.param)
    kinds = {name: torch.zeros(1, 9, dtype=torch.long) for name in inputs if "type_ids" in name}
    return model, inputs, {"input_ids": torch.arange(3, 12)[None], **kinds}


class Once(torch.utils.data.Dataset):
    """One prompt as often as asked, to be collated by hand."""

    def __len__(self):
        return 1

    def __getitem__(self, i):
        return {"i": i}


def trained_loss(model, inputs, folder):
    """The loss of the Trainer's first step, at the model's own weights."""
    ids = inputs["input_ids"]
    labels = ids.masked_fill(ids == IMAGE_TOKEN, -100)
    arguments = sgd(folder, 1, 1, 1, learning_rate=0.0, remove_unused_columns=False)
    collator = lambda _: {**inputs, "labels": labels}  # noqa: E731
    trainer = tr.Trainer(model, arguments, train_dataset=Once(), data_collator=collator)
    trainer.train()
    return trainer.state.log_history[0]["loss"]


def test_under_the_trainer_a_softmax_head_starts_at_the_models_own_loss(case, tmp_path):
    model, with_image, text = case
    ours = wn.attach(copy.deepcopy(model), "softmax")
    losses = []
    for inputs in (with_image, text):
        expected = trained_loss(copy.deepcopy(model), inputs, tmp_path)
        assert trained_loss(ours, inputs, tmp_path) == pytest.approx(expected, rel=1e-6)
        losses.append(expected)
    assert losses[0] != losses[1]


def test_token_outputs_are_those_of_the_text_after_the_image(case):
    model, inputs, _ = case
    ids = inputs["input_ids"]
    labels = ids.masked_fill(ids == IMAGE_TOKEN, -100)
    with torch.no_grad():
        log_probs = model(**inputs).logits[:, :-1].log_softmax(-1)
        expected = log_probs.gather(-1, ids[:, 1:, None])[..., 0].masked_fill(
            labels[:, 1:] == -100, 0
        )
        ours = wn.attach(copy.deepcopy(model), "softmax")
        got = wn.token_outputs(ours, **inputs, labels=labels).log_prob
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)


def test_a_memory_holds_no_place_of_an_image(case, tmp_path):
    """Nothing of the mixture's cache is on the placeholder; with it, most of it would be."""
    model, inputs, _ = case
    ours = wn.attach_memory(copy.deepcopy(model), bias=20.0, temperature=1e6)
    ids = inputs["input_ids"]
    source = OwnHistory(ours, placed_memory(ours).config, dict(inputs), None)
    kept = ids != IMAGE_TOKEN
    assert source.valid.equal(kept)
    with torch.no_grad():
        p = ours(**inputs).logits[0, -1].exp()
        # Alike for all memories: shares are counts, of pairs of which neither token is an image's.
        pairs = kept[0, :-1] & kept[0, 1:]
        counts = torch.bincount(ids[0, 1:][pairs], minlength=V)
    torch.testing.assert_close(p, counts / counts.sum(), rtol=0, atol=1e-4)
    drawn = ours.generate(**inputs, max_new_tokens=6, do_sample=False)
    assert not (drawn[0, ids.shape[1] :] == IMAGE_TOKEN).any()
    ours.save_pretrained(tmp_path)
    for auto in (tr.AutoModelForImageTextToText, tr.AutoModelForMultimodalLM):
        again = auto.from_pretrained(tmp_path).eval()
        with torch.no_grad():
            torch.testing.assert_close(again(**inputs).logits, ours(**inputs).logits)


def test_a_normalizer_sees_an_image_as_the_models_own_attention_does(case):
    """Gemma 3 lets the tokens of an image see each other both ways."""
    model, inputs, _ = case
    with torch.no_grad():
        expected = model(**inputs).logits
        ours = wn.attention.use(copy.deepcopy(model), "ssmax", scale=0.0, bias=1.0)
        torch.testing.assert_close(ours(**inputs).logits, expected)
        wn.attention.use(ours, "sparsemax")
        assert not torch.allclose(ours(**inputs).logits, expected)
    tower = model.config.vision_config._attn_implementation
    assert ours.config.vision_config._attn_implementation == tower != "wideneck"


def test_a_prompt_that_is_read_from_both_sides_is_refused():
    """PaliGemma reads a text as a prefix, unless token_type_ids say where it ends."""
    config = tr.PaliGemmaConfig(
        text_config=tr.GemmaConfig(**TEXT, head_dim=8),
        vision_config=tr.SiglipVisionConfig(**VISION, vision_use_head=False),
        image_token_id=IMAGE_TOKEN,
        projection_dim=16,
    )
    model = tr.PaliGemmaForConditionalGeneration(config).eval()
    for call in (lambda m: wn.attach(m, "softmax"), wn.attach_memory):
        with pytest.raises(WideneckError, match=r"PaliGemma.* sees the tokens that it is to pred"):
            call(model)


def test_layers_that_only_an_image_wakes_are_refused_a_normalizer():
    """Mllama's attention to images is not run on text, so nothing could be checked there."""
    vision = {
        "num_global_layers": 1, "max_num_tiles": 1, "vision_output_dim": 32, "attention_heads": 2,
        "intermediate_layers_indices": [0], "supported_aspect_ratios": [[1, 1]],
    }  # fmt: skip
    config = tr.MllamaConfig(
        text_config={**TEXT, "cross_attention_layers": [1]},
        vision_config={**VISION, **vision},
        image_token_index=V,
    )
    model = tr.MllamaForConditionalGeneration(config).eval()
    before = model.config.get_text_config()._attn_implementation
    with pytest.raises(WideneckError, match=r"did not run its .*layers\.1\.cross_attn.* on token"):
        wn.attention.use(model, "ssmax")
    assert model.config.get_text_config()._attn_implementation == before
    assert wn.attach(model, "softmax") is model
