"""Models under a normalizer: what stays as it was, caches, masks, training, generation."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.nn.functional as F
import transformers as tr
from usable import LEARNED, MODELS, PAIRS, logits, shaken, tiny, token_ids, used

import wideneck as wn
from tiny import CACHE
from wideneck.attention import names, use
from wideneck.models import evaluating

ROUTES = {
    "fused": {"normalizer": "temperature", "temperature": 1.0},
    "dense": {"normalizer": "entmax", "alpha": 1.0, "learned": False},
}


def padded(ids, count=3):
    """The ids with padding on the left, and what makes a model skip it."""
    mask = F.pad(torch.ones_like(ids), (count, 0))
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    options = {"attention_mask": mask, "position_ids": positions}
    return F.pad(ids, (count, 0), value=2), options


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("model", MODELS)
def test_our_softmax_gives_the_models_own_logits_and_goes_without_a_trace(model, route):
    made = tiny(model, attn_implementation="eager")
    before, ids = copy.deepcopy(made), token_ids()
    assert use(made, **ROUTES[route]) is made
    with_padding, options = padded(ids)
    for inputs, more in ((ids, {}), (with_padding, options), (ids[:, :1], {})):
        ours, theirs = logits(made, inputs, **more), logits(before, inputs, **more)
        start = 0 if not more else 3
        torch.testing.assert_close(ours[:, start:], theirs[:, start:], rtol=0, atol=1e-5)

    use(made, "softmax")
    assert torch.equal(logits(made, ids), logits(before, ids))
    assert type(made) is type(before)
    assert made.config._attn_implementation == "eager"
    assert made.state_dict().keys() == before.state_dict().keys()
    assert vars(made).keys() == vars(before).keys()
    assert made._keep_in_fp32_modules_strict == before._keep_in_fp32_modules_strict


@pytest.mark.parametrize(("model", "name"), PAIRS)
def test_the_normalizer_changes_the_logits(model, name):
    # A temperature of 1 is the softmax.
    ids = token_ids()
    away = (logits(used(model, name), ids) - logits(tiny(model), ids)).abs().max()
    assert (away > 1e-3) == (name != "temperature")


@pytest.mark.parametrize(("model", "name"), PAIRS)
def test_cached_decoding_gives_the_full_pass(model, name):
    # In float64: how far two orders of float32 sums lie apart differs from processor to processor.
    made, ids = shaken(used(model, name)).double(), token_ids()
    whole = logits(made, ids)
    with torch.no_grad():
        first = made(input_ids=ids[:, :4], use_cache=True)
        cache, parts = first[CACHE], [first.logits]
        for block in (ids[:, 4:6], *ids[:, 6:].split(1, 1)):
            step = made(input_ids=block, **{CACHE: cache}, use_cache=True)
            parts.append(step.logits)
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("model", "name"), PAIRS)
def test_a_later_token_changes_no_bit_of_what_comes_before(model, name):
    made, ids = shaken(used(model, name)), token_ids()
    other = ids.clone()
    other[:, 8] = (other[:, 8] + 1) % 90
    before, after = logits(made, ids), logits(made, other)
    assert torch.equal(before[:, :8], after[:, :8])
    assert not torch.equal(before[:, 8:], after[:, 8:])


@pytest.mark.parametrize(("model", "name"), PAIRS)
def test_padding_on_the_left_changes_nothing(model, name):
    made, ids = shaken(used(model, name)), token_ids()
    inputs, options = padded(ids)
    found = logits(made, inputs, **options)[:, 3:]
    torch.testing.assert_close(found, logits(made, ids), rtol=0, atol=2e-5)


@pytest.mark.parametrize("name", ["ssmax", "logn", "asentmax", "relu", "sigmoid", "topk"])
def test_packed_documents_are_the_documents_by_themselves(name):
    made, ids = shaken(used("llama", name)), token_ids((1, 12))
    positions = torch.cat([torch.arange(5), torch.arange(7)])[None]
    packed = logits(made, ids, position_ids=positions, use_cache=False)
    apart = [logits(made, part, use_cache=False) for part in (ids[:, :5], ids[:, 5:])]
    torch.testing.assert_close(packed, torch.cat(apart, 1), rtol=0, atol=1e-5)


BORDERS = torch.tensor([0, 5, 6, 12], dtype=torch.int32)
RESTARTING = torch.cat([torch.arange(5), torch.arange(1), torch.arange(6)])[None]


@pytest.mark.parametrize("with_positions", [True, False])
@pytest.mark.parametrize(
    ("model", "name"),
    [
        *(("llama", name) for name in ("ssmax", "asentmax", "sink", "topk", "stickbreaking")),
        *((model, "ssmax") for model in ("mistral", "gemma2", "qwen2")),
    ],
)
def test_borders_of_packed_documents_are_kept(name, model, with_positions):
    """As `DataCollatorWithFlattening` and padding-free trainers give them; a window stays one."""
    made, ids = shaken(used(model, name)), token_ids((1, 12))
    options = {"cu_seq_lens_q": BORDERS, "cu_seq_lens_k": BORDERS, "use_cache": False}
    if with_positions:
        options["position_ids"] = RESTARTING
    packed = logits(made, ids, **options)
    # Rotary positions are relative, so it does not matter to them where a document begins.
    apart = [logits(made, part, use_cache=False) for part in (ids[:, :5], ids[:, 5:6], ids[:, 6:])]
    torch.testing.assert_close(packed, torch.cat(apart, 1), rtol=0, atol=1e-5)
    alone = logits(made, ids, use_cache=False)
    assert (alone[:, 6:] - packed[:, 6:]).abs().max() > 1e-4


def test_what_the_flattening_collator_gives_is_the_documents_by_themselves():
    parts = [token_ids((1, n), n)[0].tolist() for n in (5, 1, 6)]
    collate = tr.DataCollatorWithFlattening(return_flash_attn_kwargs=True, return_position_ids=True)
    batch = collate([{"input_ids": part} for part in parts])
    made = shaken(used("llama", "ssmax")).train()
    loss = made(**batch, use_cache=False).loss
    own = [made(input_ids=torch.tensor([p]), labels=torch.tensor([p]), use_cache=False).loss
           for p in parts if len(p) > 1]  # fmt: skip
    torch.testing.assert_close(loss, (4 * own[0] + 5 * own[1]) / 9)
    parameters = [p for n, p in made.named_parameters() if ".normalizer." in n]
    ours = torch.autograd.grad(loss, parameters)
    theirs = torch.autograd.grad((4 * own[0] + 5 * own[1]) / 9, parameters)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", LEARNED)
def test_a_step_of_training_moves_every_learned_number(model, name):
    made, ids = used(model, name).train(), token_ids()
    learned = {k: v for k, v in made.named_parameters() if ".normalizer." in k}
    assert len(learned) == (4 if name in ("ssmax", "asentmax") else 2)
    before = {k: v.detach().clone() for k, v in learned.items()}
    optimizer = torch.optim.AdamW(made.parameters(), lr=0.01, weight_decay=0)
    made(input_ids=ids, labels=ids).loss.backward()
    optimizer.step()
    for key, parameter in learned.items():
        assert parameter.dtype == torch.float32
        assert parameter.grad.isfinite().all()
        assert (parameter != before[key]).all(), key


@pytest.mark.parametrize("name", names())
def test_generation_takes_the_most_likely_tokens(name):
    made, prompt = used("mistral", name), token_ids((2, 4))
    options = {"attention_mask": torch.ones_like(prompt), "do_sample": False}
    tokens = made.generate(prompt, max_new_tokens=6, **options, eos_token_id=None)
    for i in range(4, tokens.shape[1]):
        best = logits(made, tokens[:, :i])[:, -1]
        chosen = best.gather(1, tokens[:, i : i + 1])
        torch.testing.assert_close(chosen[:, 0], best.amax(-1), rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", ["ssmax", "entmax"])
def test_beams_samples_padding_and_static_caches_generate(name):
    made, prompt = used("llama", name), token_ids((2, 5))
    inputs, more = padded(prompt)
    options = {"max_new_tokens": 5, "eos_token_id": None, "do_sample": False}
    plain = made.generate(prompt, attention_mask=torch.ones_like(prompt), **options)
    mask = more["attention_mask"]
    assert torch.equal(made.generate(inputs, attention_mask=mask, **options)[:, 3:], plain)
    static = made.generate(
        prompt, attention_mask=torch.ones_like(prompt), cache_implementation="static", **options
    )
    assert torch.equal(static, plain)
    for extra in ({"num_beams": 3}, {"do_sample": True, "top_p": 0.9}):
        found = made.generate(inputs, attention_mask=mask, **{**options, **extra})
        assert found.shape == (2, 13)


@pytest.mark.parametrize("name", ["topk", "sink", "sparsemax", "asentmax"])
def test_weights_are_given_where_they_are_asked_for(name):
    made, ids = used("llama", name), token_ids()
    out = made(input_ids=ids, output_attentions=True)
    assert [w.shape for w in out.attentions] == [(2, 4, 13, 13)] * 2
    assert all(torch.equal(w, w.tril()) for w in out.attentions)
    torch.testing.assert_close(out.logits, made(input_ids=ids).logits, rtol=0, atol=1e-5)


def test_another_normalizer_takes_the_place_of_the_former_and_starts_anew():
    made, ids = shaken(used("llama", "ssmax")), token_ids()
    use(made, "sink", logit=0.5)
    keys = [name for name in made.state_dict() if "normalizer" in name]
    assert keys == [f"model.layers.{i}.self_attn.normalizer.logit" for i in range(2)]
    assert torch.equal(logits(made, ids), logits(used("llama", "sink"), ids))
    use(use(made, "asentmax"), "softmax")
    assert torch.equal(logits(made, ids), logits(tiny("llama"), ids))
    assert not any(module._forward_pre_hooks for module in made.modules())


def test_a_softmax_on_an_untouched_model_does_nothing():
    made = tiny("llama")
    before = dict(vars(made))
    assert use(made, "softmax") is made
    assert vars(made) == before


@pytest.mark.parametrize("name", ["ssmax", "asentmax"])
def test_copies_and_pickles_are_whole_models(name):
    made, ids = shaken(used("llama", name)), token_ids()
    expected = logits(made, ids)
    for again in (copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        assert torch.equal(logits(again, ids), expected)
        shaken(again)
        assert torch.equal(logits(made, ids), expected)
        use(again, "softmax")
        assert torch.equal(logits(again, ids), logits(tiny("llama"), ids))
        assert torch.equal(logits(made, ids), expected)


@pytest.mark.parametrize("name", ["ssmax", "sink", "entmax", "asentmax"])
def test_bfloat16_models_learn_in_float32(name):
    torch.manual_seed(0)
    made = use(tiny("llama").bfloat16(), name).train()
    ids = token_ids()
    made(input_ids=ids, labels=ids).loss.backward()
    learned = [v for k, v in made.named_parameters() if ".normalizer." in k]
    assert all(v.dtype == v.grad.dtype == torch.float32 for v in learned)
    assert logits(made, ids).dtype == torch.bfloat16
    with evaluating(made):
        away = logits(made, ids).float() - logits(used_plain(name), ids)
    of_the_model = logits(tiny("llama").bfloat16(), ids).float() - logits(tiny("llama"), ids)
    assert away.abs().mean() < 2 * of_the_model.abs().mean()


def used_plain(name):
    return use(tiny("llama"), name)


@pytest.mark.parametrize("name", ["ssmax", "sink", "entmax15", "asentmax"])
def test_autocast_runs_forward_and_backward(name):
    plain, made, ids = tiny("llama"), use(tiny("llama"), name), token_ids()
    expected, of_the_plain = logits(made, ids), logits(plain, ids)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = made(input_ids=ids, labels=ids)
        rounded = logits(plain, ids).float() - of_the_plain
    out.loss.backward()
    assert (out.logits.float() - expected).abs().mean() < 2 * rounded.abs().mean()


# Newer versions of transformers say that the method has got another name.
@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing_enable.*:FutureWarning")
@pytest.mark.parametrize("name", ["ssmax", "sink", "asentmax"])
def test_gradient_checkpoints_change_no_gradient(name):
    made, ids = shaken(used("llama", name)).train(), token_ids()
    parameters = list(made.parameters())
    expected = torch.autograd.grad(made(input_ids=ids, labels=ids).loss, parameters)
    made.gradient_checkpointing_enable()
    found = torch.autograd.grad(made(input_ids=ids, labels=ids).loss, parameters)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("name", ["ssmax", "sink", "topk", "asentmax"])
def test_a_compiled_model_gives_the_same_logits_and_gradients(name):
    made, ids = shaken(used("llama", name)), token_ids()
    expected = made(input_ids=ids, labels=ids, use_cache=False)
    learned = [v for k, v in made.named_parameters() if ".normalizer." in k]
    compiled = torch.compile(made, backend="aot_eager")
    found = compiled(input_ids=ids, labels=ids, use_cache=False)
    torch.testing.assert_close(found.logits, expected.logits)
    if learned:
        first, second = (torch.autograd.grad(x.loss, learned) for x in (found, expected))
        for ours, theirs in zip(first, second, strict=True):
            torch.testing.assert_close(ours, theirs)


def test_threads_do_not_take_each_others_hidden_states():
    made = shaken(used("llama", "asentmax"))
    inputs = [token_ids((1, 20), seed) for seed in range(8)]
    expected = [logits(made, ids) for ids in inputs]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            found = list(pool.map(lambda ids: logits(made, ids), inputs))
            assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))


def test_dropout_is_for_training_only():
    config = tr.LlamaConfig(**vars(MODELS["llama"]()) | {"attention_dropout": 0.5})
    torch.manual_seed(0)
    made, ids = tr.LlamaForCausalLM(config), token_ids()
    for name in ("ssmax", "sink", "entmax15"):
        use(made, name)
        made.eval()
        assert torch.equal(logits(made, ids), logits(made, ids))
        made.train()
        assert not torch.equal(logits(made, ids), logits(made, ids))


@pytest.mark.parametrize("name", ["ssmax", "entmax"])
def test_a_head_goes_with_a_normalizer_in_either_order(name):
    ids = token_ids()
    first = use(wn.attach(tiny("llama"), "softmax"), name)
    second = wn.attach(use(tiny("llama"), name), "softmax")
    expected = logits(used_plain(name), ids).log_softmax(-1)
    for made in (first, second):
        torch.testing.assert_close(logits(made, ids), expected)
        loss = made(input_ids=ids, labels=ids).loss
        want = F.nll_loss(expected[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
        torch.testing.assert_close(loss, want)
        assert type(made) is type(first)
        use(made, "softmax")
        torch.testing.assert_close(logits(made, ids), logits(tiny("llama"), ids).log_softmax(-1))
        assert type(made) is type(first)


def test_the_global_random_state_and_the_modes_of_modules_are_left_alone():
    made = tiny("llama").train()
    made.model.layers[0].eval()
    modes = [module.training for module in made.modules()]
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    use(made, "topk")
    assert torch.equal(torch.rand(3), expected)
    use(made, "softmax")
    assert [module.training for module in made.modules()] == modes


def test_an_encoder_works_too():
    torch.manual_seed(0)
    config = tr.BertConfig(
        vocab_size=96, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=48, max_position_embeddings=64, initializer_range=0.2,
    )  # fmt: skip
    made, ids = tr.BertForMaskedLM(config).eval(), token_ids()
    expected = logits(made, ids)
    use(made, "ssmax", scale=0.0, bias=1.0)
    torch.testing.assert_close(logits(made, ids), expected)
    use(made, "sparsemax")
    assert not torch.allclose(logits(made, ids), expected)


def test_an_image_encoder_keeps_its_attention(tmp_path):
    torch.manual_seed(0)
    vision = tr.CLIPVisionConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
        image_size=8, patch_size=4,
    )  # fmt: skip
    config = tr.LlavaConfig(
        vision_config=vision, text_config=MODELS["llama"](), image_token_index=95
    )
    made = tr.LlavaForConditionalGeneration(config).eval()
    image = torch.randn(1, 3, 8, 8)
    ids = torch.tensor([[5, 95, 95, 95, 95, 7, 8]])
    expected = logits(made, ids, pixel_values=image)
    use(made, "temperature")
    torch.testing.assert_close(logits(made, ids, pixel_values=image), expected)
    use(made, "ssmax").save_pretrained(tmp_path)
    loaded = wn.load(tmp_path)
    for each in (made, loaded):
        assert each.config.vision_config._attn_implementation == "sdpa"
        assert each.config.text_config._attn_implementation == "wideneck"
    changed = logits(made, ids, pixel_values=image)
    assert torch.equal(logits(loaded, ids, pixel_values=image), changed)
    assert not torch.allclose(changed, expected)


def test_experts_keep_their_router():
    torch.manual_seed(0)
    config = tr.MixtralConfig(**vars(MODELS["llama"]()) | {"num_local_experts": 4})
    made, ids = tr.MixtralForCausalLM(config).eval(), token_ids()
    expected = logits(made, ids)
    use(made, "sparsemax")
    assert not torch.allclose(logits(made, ids), expected)
    assert torch.equal(logits(use(made, "softmax"), ids), expected)
