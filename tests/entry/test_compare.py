"""`wideneck.compare` from what a user names: models of other tokenizers, groups, and mistakes."""

import gc
import math
import weakref

import pytest
import torch
import transformers as tr

import wideneck as wn
from attached.attachable import attached, shaken
from hand_made_tokenizers import byte_level
from tiny import LLAMA, tiny_model
from tiny_text import character_tokenizer, write_text
from wideneck.data.text import cut_passages, read_text
from wideneck.errors import WideneckError
from wideneck.evaluation.comparison import reading

SMALL = {"num_tokens": 240, "context": 20}


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    return write_text(tmp_path_factory.mktemp("text") / "text.txt")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A model of characters, one of bytes, and the first with a mixture."""
    found = {}
    torch.manual_seed(0)
    models = {
        "characters": (shaken(tiny_model("gpt2")), character_tokenizer(bos=True)),
        "bytes": (tr.LlamaForCausalLM(tr.LlamaConfig(**LLAMA | {"vocab_size": 300})), byte_level()),
        "mixture": (shaken(attached("gpt2", "mos", num_components=2)), character_tokenizer()),
    }
    for name, (model, tokenizer) in models.items():
        found[name] = tmp_path_factory.mktemp("models") / name
        model.save_pretrained(found[name])
        tokenizer.save_pretrained(found[name])
    return found


@torch.no_grad()
def bits(folder, passage, bos):
    """What a model needs for a passage after its first token, and the bytes of that."""
    tokenizer = tr.AutoTokenizer.from_pretrained(folder)
    model = tr.AutoModelForCausalLM.from_pretrained(folder).double().eval()
    encoded = tokenizer(passage, add_special_tokens=False, return_offsets_mapping=True)
    ids = encoded.input_ids
    log_p = model(torch.tensor([[*bos, *ids]])).logits[0, len(bos) : -1].log_softmax(-1)
    nats = -log_p.gather(1, torch.tensor(ids[1:])[:, None]).sum().item()
    return nats / math.log(2), len(passage[encoded.offset_mapping[0][1] :].encode())


def test_other_tokenizers_are_compared_by_the_bits_of_the_same_passages(folders, text):
    found = wn.compare(folders["characters"], folders["bytes"], text=text, **SMALL)
    passages, _ = cut_passages(
        read_text(text), character_tokenizer(), num_tokens=240, window=20, seed=0
    )
    assert all(len(passage) == 21 for passage in passages)
    means = []
    for name, bos in (("characters", [0]), ("bytes", [])):
        sums = torch.tensor([bits(folders[name], one, bos) for one in passages]).sum(0)
        means.append((sums[0] / sums[1]).item())
    values = [model.bits_per_byte.value for model in found.models]
    assert values == pytest.approx(means, rel=1e-5)
    apart = found.differences[0]
    assert apart.bits_per_byte.value == pytest.approx(means[1] - means[0], abs=1e-5)
    assert apart.bits_per_byte.over == "documents"
    assert apart.loss is None
    assert apart.kinds == []
    assert any("tokenizers differ" in note for note in found.source.notes)


@pytest.mark.parametrize("other", ["mixture", "bytes"])
def test_a_single_document_has_intervals_over_windows_and_says_so(folders, tmp_path, other):
    one = tmp_path / "one.txt"
    write_text(one, documents=1)
    found = wn.compare(folders["characters"], folders[other], text=one, **SMALL)
    assert found.differences[0].bits_per_byte.over == "windows"
    assert any("intervals are over windows" in note for note in found.source.notes)


def test_a_saved_attached_model_is_read_with_its_head_and_the_same_path_may_come_twice(
    folders, text
):
    found = wn.compare(folders["mixture"], str(folders["mixture"]), text=text, **SMALL)
    assert [model.head for model in found.models] == ["mos", "mos"]
    assert found.models[1].model == f"{folders['mixture']} (2)"
    assert found.differences[0].loss.value == 0


def test_groups_are_compared_over_their_models(folders, text):
    def moved(seed):
        model = tiny_model("gpt2")
        torch.manual_seed(seed)
        for weight in model.parameters():
            weight.data.add_(0.1 * torch.randn_like(weight))
        return model

    models = [moved(seed) for seed in range(5)]
    shared = {"text": text, "tokenizer": character_tokenizer(), **SMALL}
    found = wn.compare(models[:2], models[2:], names=["few", "more"], **shared)
    alone = wn.compare(*models, **shared)
    losses = [model.loss.value for model in alone.models]
    row = found.groups[0].rows[0]
    assert found.groups[0].group == "more"
    assert row.difference == pytest.approx(sum(losses[2:]) / 3 - sum(losses[:2]) / 2)
    assert row.low < row.difference < row.high
    assert found.differences == []
    assert {row.name for row in found.groups[0].rows} > {"all", "context: new in the window"}


def test_one_model_at_a_time_is_in_memory(folders, text, monkeypatch):
    bodies = []
    load = reading.load_language_model

    def watched(*args, **options):
        gc.collect()
        assert not [body for body in bodies if body() is not None]
        loaded = load(*args, **options)
        bodies.append(weakref.ref(loaded.model))
        return loaded

    monkeypatch.setattr(reading, "load_language_model", watched)
    wn.compare(folders["characters"], folders["mixture"], folders["characters"], text=text, **SMALL)
    assert len(bodies) == 3


def mistakes(folders):
    """What a message says -> models and options; and the options of all."""
    model, tokenizer = tiny_model("gpt2"), character_tokenizer()
    headless = tr.LlamaModel(tr.LlamaConfig(**LLAMA))
    paths = folders["characters"], folders["mixture"]
    return {
        "two models": ([model], {}),
        "empty: give at least one": ([[model], []], {}),
        "both came": ([model, [model]], {}),
        "2 to be named, and 1": ([model, model], {"names": ["a"]}),
        "brings no tokenizer": ([model, model], {"tokenizer": None}),
        "no output layer|by which wideneck gets to know": ([headless, headless], {}),
        "at least one token": ([model, model], {"num_tokens": 0}),
        "give --context 64": ([model, model], {"context": 100}),
        "different tokenizers": ([[paths[0]], [folders["bytes"], folders["bytes"]]], {}),
        "shorter than one window": ([model, model], {"context": 5000}),
    }, {"tokenizer": tokenizer, **SMALL}


@pytest.mark.parametrize("said", mistakes({"characters": 0, "mixture": 0, "bytes": 0})[0])
def test_a_mistake_is_one_sentence(folders, text, said):
    cases, shared = mistakes(folders)
    models, options = cases[said]
    with pytest.raises(WideneckError, match=said) as caught:
        wn.compare(*models, text=text, **shared | options)
    assert "\n" not in str(caught.value)
