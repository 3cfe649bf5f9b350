"""Models beside plain decoders: final biases, codebooks, images, labels at other places."""

import copy

import pytest
import torch
import transformers as tr

import wideneck as wn
from seeing import IMAGE_TOKEN, SEEING, VISION, seeing
from tiny import SHORT, V
from wideneck.attached.swap import attached_head
from wideneck.errors import WideneckError

BART = {
    "vocab_size": V,
    "d_model": 16,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "max_position_embeddings": 80,
    "dropout": 0.0,
    "decoder_start_token_id": 2,
    "forced_eos_token_id": None,
    **SHORT,
}
FINAL = {
    "bart": lambda: tr.BartForConditionalGeneration(tr.BartConfig(**BART)),
    "marian": lambda: tr.MarianMTModel(
        tr.MarianConfig(**BART, decoder_vocab_size=V, tie_word_embeddings=True)
    ),
    "mbart": lambda: tr.MBartForConditionalGeneration(tr.MBartConfig(**BART)),
}


def translator(name):
    torch.manual_seed(0)
    model = FINAL[name]().double().eval()
    model.final_logits_bias.copy_(torch.randn(1, V))
    return model


def pair(seed=1):
    generator = torch.Generator().manual_seed(seed)
    source = torch.randint(3, V, (2, 7), generator=generator)
    target = torch.randint(3, V, (2, 5), generator=generator)
    return {"input_ids": source, "decoder_input_ids": target}


def nearly_no_memory(model):
    """The memory has next to no share, so what is left is the model's own prediction."""
    return wn.attach_memory(model, temperature=1.0, bias=-80.0, alpha=0.0)


@pytest.mark.parametrize("name", FINAL)
def test_a_final_bias_is_the_heads(name, tmp_path):
    model = translator(name)
    inputs = pair()
    labels = inputs["decoder_input_ids"].roll(-1, 1)
    with torch.no_grad():
        plain = model(**inputs, labels=labels)
        greedy = model.generate(inputs["input_ids"], max_new_tokens=6, do_sample=False)
    nearly_no_memory(model)
    head = attached_head(model)
    torch.testing.assert_close(head.bias, model.final_logits_bias[0])
    assert "lm_head.bias" not in model.state_dict()
    expected = plain.logits.log_softmax(-1)

    result = model(**inputs, labels=labels)
    torch.testing.assert_close(result.logits, expected, rtol=0, atol=1e-9)
    own = -expected.gather(-1, labels[..., None]).mean()
    torch.testing.assert_close(result.loss, own, rtol=0, atol=1e-6)
    model.train()
    torch.testing.assert_close(model(**inputs, labels=labels).loss, own, rtol=0, atol=1e-6)
    model.eval()
    assert torch.equal(
        model.generate(inputs["input_ids"], max_new_tokens=6, do_sample=False), greedy
    )

    model.save_pretrained(tmp_path)
    again = wn.load(tmp_path, dtype=torch.float64).eval()
    torch.testing.assert_close(attached_head(again).bias, model.final_logits_bias[0])
    torch.testing.assert_close(again(**inputs).logits, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", FINAL)
def test_a_final_bias_goes_with_a_resized_vocabulary(name):
    model = nearly_no_memory(translator(name))
    before = model(**pair()).logits
    model.resize_token_embeddings(V + 4)
    head = attached_head(model)
    assert head.bias.shape == (V + 4,)
    torch.testing.assert_close(head.bias[:V], model.final_logits_bias[0, :V])
    after = model(**pair()).logits
    torch.testing.assert_close(
        after[..., :V].log_softmax(-1), before.log_softmax(-1), rtol=0, atol=1e-9
    )
    model.final_logits_bias.zero_()
    assert not head.bias.any()
    copied = copy.deepcopy(model).float()
    copied.final_logits_bias.fill_(1.0)
    copied(**pair())
    assert attached_head(copied).bias.eq(1).all()
    assert not head.bias.any()


def test_a_final_bias_beside_another_bias_is_refused():
    """They would be added, and the head has one storage for both."""
    model = translator("bart")
    model.lm_head.bias = torch.nn.Parameter(torch.ones(V).double())
    with pytest.raises(WideneckError, match="has a final_logits_bias beside another bias"):
        nearly_no_memory(model)
    assert type(model) is tr.BartForConditionalGeneration


@pytest.mark.parametrize(
    "make",
    [
        lambda: tr.BlenderbotForConditionalGeneration(tr.BlenderbotConfig(**BART)),
        lambda: tr.M2M100ForConditionalGeneration(tr.M2M100Config(**BART)),
        lambda: tr.BartForConditionalGeneration(tr.BartConfig(**BART)),
    ],
    ids=["blenderbot", "m2m", "bart"],
)
def test_labels_alone_are_the_decoders_input_as_in_the_model_itself(make):
    torch.manual_seed(0)
    model = make().double().eval()
    inputs = pair()
    labels = inputs.pop("decoder_input_ids")
    labels[0, -2:] = -100
    own = model(**inputs, labels=labels).loss.detach()
    loss = nearly_no_memory(model)(**inputs, labels=labels).loss
    torch.testing.assert_close(loss, own, rtol=0, atol=1e-6)
    tokens = model.token_outputs(**inputs, labels=labels).log_prob
    torch.testing.assert_close(-tokens.sum() / (labels >= 0).sum(), loss)


def codebooks():
    sizes = {"vocab_size": V, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    return tr.MusicgenForCausalLM(
        tr.MusicgenDecoderConfig(**sizes, ffn_dim=32, num_codebooks=2, pad_token_id=0)
    )


@pytest.mark.parametrize("call", [lambda m: wn.attach(m, "softmax"), wn.attach_memory])
def test_a_layer_for_each_codebook_is_refused(call):
    with pytest.raises(WideneckError, match=r"MusicgenForCausalLM has a ModuleList.*codebook"):
        call(codebooks())


@pytest.mark.parametrize(
    "make",
    [
        lambda: tr.BartForCausalLM(tr.BartConfig(**BART, is_decoder=True)),
        lambda: tr.XLMWithLMHeadModel(
            tr.XLMConfig(vocab_size=V, emb_dim=16, n_layers=1, n_heads=2, n_langs=1, causal=True)
        ),
    ],
    ids=["bart", "xlm"],
)
def test_labels_at_other_positions_are_refused(make):
    model = make().eval()
    with pytest.raises(WideneckError, match="counts each label at its own position"):
        wn.attach(model, "softmax")
    assert attached_head(model) is None


def test_a_model_that_wants_more_than_ids_is_refused():
    config = tr.BlipConfig(
        text_config={**VISION, "vocab_size": V, "encoder_hidden_size": 16},
        vision_config=VISION,
    )
    model = tr.BlipForConditionalGeneration(config).eval()
    for call in (lambda m: wn.attach(m, "softmax"), wn.attach_memory):
        with pytest.raises(WideneckError, match="BlipForConditionalGeneration"):
            call(model)


@pytest.mark.parametrize("name", SEEING)
def test_models_that_see_attach_train_generate_and_load(name, tmp_path):
    model, inputs = seeing(name)
    labels = inputs["input_ids"].masked_fill(inputs["input_ids"] == IMAGE_TOKEN, -100)
    with torch.no_grad():
        plain = model(**inputs, labels=labels)
    greedy = model.generate(**inputs, max_new_tokens=4, do_sample=False)
    wn.attach(model, "mos", num_components=2)
    with torch.no_grad():
        result = model(**inputs, labels=labels)
    torch.testing.assert_close(result.logits, plain.logits.log_softmax(-1), rtol=0, atol=1e-5)
    torch.testing.assert_close(result.loss, plain.loss, rtol=0, atol=1e-5)
    assert torch.equal(model.generate(**inputs, max_new_tokens=4, do_sample=False), greedy)

    model.train()
    optimizer = torch.optim.SGD(wn.parameter_groups(model), lr=0.1)
    loss = model(**inputs, labels=labels).loss
    loss.backward()
    assert model.get_output_embeddings().projections.latent.weight.grad.any()
    optimizer.step()
    assert model(**inputs, labels=labels).loss < loss

    model.eval()
    model.save_pretrained(tmp_path)
    for again in (wn.load(tmp_path), tr.AutoModelForImageTextToText.from_pretrained(tmp_path)):
        torch.testing.assert_close(
            again.eval()(**inputs).logits, model(**inputs).logits, rtol=0, atol=1e-6
        )
