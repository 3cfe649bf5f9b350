"""Judges against one pass a text, without padding and in float64; and what cannot judge."""

import json

import pytest
import torch
import transformers as tr
from small_judges import (
    BART,
    NLI,
    SIZES,
    WORDS,
    classifier,
    encoder,
    random_texts,
    saved,
    tokenizer,
)

from checkpoints import edit_config, edit_tensors, without
from wideneck.errors import WideneckError
from wideneck.lab.tasks.embeddings import Embeddings
from wideneck.lab.tasks.entailment import Entailment
from wideneck.lab.tasks.judge_reading import Reader
from wideneck.lab.tasks.judges import load_judge
from wideneck.lab.tasks.pmi import pmi

CLS, SEP = 2, 3
SOURCES = random_texts(0, 7, 3, 12, 1, 5, 9, 3, 2, 11, 4)
TEXTS = random_texts(1, 2, 5, 1, 3, 4, 6, 2, 1, 3, 5)


def ids(text):
    return [WORDS.index(word) if word in WORDS else 1 for word in text.split()]


def slow_probabilities(model, source, text):
    row = [CLS, *ids(source), SEP, *ids(text), SEP]
    more = {}
    if model.config.model_type == "bert":
        first = len(ids(source)) + 2
        more["token_type_ids"] = torch.tensor([[0] * first + [1] * (len(row) - first)])
    return model(input_ids=torch.tensor([row]), **more).logits[0].softmax(-1).tolist()


def slow_embedding(model, text, pooling="mean"):
    row = torch.tensor([[CLS, *ids(text), SEP]])
    states = model(input_ids=row).last_hidden_state[0]
    return states.mean(0) if pooling == "mean" else states[0]


def in_float64(judge):
    judge.reader.model.double()
    return judge


@torch.no_grad()
@pytest.mark.parametrize("kind", ["bert", "bart"])
def test_entailment_is_that_of_each_pair_by_itself(kind, tmp_path):
    model = (
        classifier()
        if kind == "bert"
        else tr.BartForSequenceClassification(tr.BartConfig(**BART, id2label=NLI))
    )
    judge = in_float64(load_judge(saved(model, tmp_path, types=kind == "bert")))
    found = judge.measures(SOURCES, TEXTS)
    turned = SOURCES[-1:] + SOURCES[:-1]
    for suffix, sources in (("", SOURCES), (" mismatched", turned)):
        expected = [
            slow_probabilities(judge.reader.model, *pair)
            for pair in zip(sources, TEXTS, strict=True)
        ]
        assert found[f"entailed{suffix}"] == pytest.approx([p[2] for p in expected], rel=1e-9)
        assert found[f"contradicted{suffix}"] == pytest.approx([p[0] for p in expected], rel=1e-9)
    assert found["cut"] == [0] * 10
    assert set(found) == set(judge.definitions)
    alone = judge.measures(SOURCES[:1], TEXTS[:1])
    assert alone["entailed"][0] == pytest.approx(found["entailed"][0], rel=1e-9)
    assert alone["entailed mismatched"] == [None]


@torch.no_grad()
@pytest.mark.parametrize("cls", [tr.RobertaForMaskedLM, tr.RobertaModel])
def test_cosines_are_those_of_each_text_by_itself(cls, tmp_path):
    judge = in_float64(load_judge(saved(encoder(cls), tmp_path)))
    found = judge.measures(SOURCES, TEXTS)
    one, two = (
        [slow_embedding(judge.reader.model, text) for text in texts] for texts in (SOURCES, TEXTS)
    )
    table = [[torch.cosine_similarity(s, t, dim=0).item() for s in one] for t in two]
    own = [table[i][i] for i in range(10)]
    assert found["cosine"] == pytest.approx(own, rel=1e-9)
    others = [(sum(row) - row[i]) / 9 for i, row in enumerate(table)]
    assert found["cosine mismatched"] == pytest.approx(others, rel=1e-9)
    assert set(found) == set(judge.definitions)
    alone = judge.measures(SOURCES[:1], TEXTS[:1])
    assert alone["cosine"][0] == pytest.approx(found["cosine"][0], rel=1e-9)
    assert alone["cosine mismatched"] == [None]


def test_several_texts_of_one_source_are_no_mismatch_of_each_other(tmp_path):
    judge = in_float64(load_judge(saved(encoder(), tmp_path)))
    found = judge.measures(["a b", "a b", "c d"], ["e", "f", "g"])
    apart = judge.measures(["a b", "c d"], ["e", "g"])
    assert found["cosine mismatched"][0] == pytest.approx(apart["cosine mismatched"][0])


@torch.no_grad()
def test_a_long_source_is_cut_at_its_end_and_counted(tmp_path):
    judge = in_float64(load_judge(saved(classifier(), tmp_path, types=True)))
    long, fits = random_texts(2, 40, 16)
    found = judge.measures([long, fits], ["a b c d e"] * 2)
    assert found["cut"] == [1, 0]
    # 24 positions, less three marks and the text
    cut = " ".join(long.split()[:16])
    expected = slow_probabilities(judge.reader.model, cut, "a b c d e")[2]
    assert found["entailed"][0] == pytest.approx(expected, rel=1e-9)


@torch.no_grad()
def test_an_encoder_cuts_each_text_and_counts_the_pair(tmp_path):
    # RoBERTa numbers positions from behind that of padding.
    judge = in_float64(load_judge(saved(encoder(), tmp_path)))
    assert judge.reader.limit == 23
    long, fits = random_texts(2, 40, 21)
    found = judge.measures([long, fits, "a", fits], ["b", "c", long, fits])
    assert found["cut"] == [1, 0, 1, 0]
    cut = slow_embedding(judge.reader.model, " ".join(long.split()[:21]))
    expected = torch.cosine_similarity(cut, slow_embedding(judge.reader.model, "b"), dim=0).item()
    assert found["cosine"][0] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("make", [classifier, encoder])
def test_what_is_empty_has_no_measure_and_disturbs_nothing(make, tmp_path):
    judge = in_float64(load_judge(saved(make(), tmp_path)))
    found = judge.measures(["a b", "", "c d", " ", "e f g"], [" ", "h", "i j", "", "k"])
    alone = judge.measures(["c d", "e f g"], ["i j", "k"])
    for name, values in found.items():
        assert values[:2] + values[3:4] == [None] * 3
        assert [values[2], values[4]] == pytest.approx(alone[name])
    assert judge.measures([], []) == {name: [] for name in judge.definitions}
    assert judge.measures(["a"], [""]) == {name: [None] for name in judge.definitions}


def test_a_text_that_leaves_no_room_for_a_source_has_no_entailment(tmp_path):
    judge = load_judge(saved(classifier(), tmp_path))
    fits, fills = random_texts(2, 20, 21)
    found = judge.measures(["a b", "a b"], [fits, fills])
    assert [value is None for value in found["entailed"]] == [False, True]
    assert found["cut"] == [1, None]


def test_a_label_of_contradiction_need_not_be_there(tmp_path):
    labels = {0: "entailment", 1: "not_entailment"}
    judge = load_judge(saved(classifier(labels), tmp_path))
    assert set(judge.definitions) == {"entailed", "entailed mismatched", "cut"}
    assert set(judge.measures(["a"], ["b"])) == set(judge.definitions)


@torch.no_grad()
def test_the_first_token_is_taken_where_the_files_say_so(tmp_path):
    modules(saved(encoder(), tmp_path), "Transformer", "Pooling", "Normalize", cls_token=True)
    judge = in_float64(load_judge(tmp_path))
    one, two = (slow_embedding(judge.reader.model, text, "cls") for text in ("a b", "c"))
    expected = torch.cosine_similarity(one, two, dim=0).item()
    assert judge.measures(["a b"], ["c"])["cosine"][0] == pytest.approx(expected, rel=1e-9)
    assert "state of the first token" in judge.definitions["cosine"]


def modules(folder, *kinds, **modes):
    types = [{"type": f"sentence_transformers.models.{kind}"} for kind in kinds]
    (folder / "modules.json").write_text(json.dumps(types))
    (folder / "1_Pooling").mkdir()
    chosen = {f"pooling_mode_{name}": value for name, value in modes.items()}
    (folder / "1_Pooling/config.json").write_text(json.dumps(chosen))


@pytest.mark.parametrize(
    ("kinds", "modes", "said"),
    [
        (["Transformer", "Pooling", "Dense"], {"mean_tokens": True}, "modules Dense besides"),
        (["Transformer", "Pooling"], {"max_tokens": True}, "pools by max, and"),
        (["Transformer", "Pooling"], {"max_tokens": True, "mean_tokens": True}, "by max, mean"),
        (["Transformer", "Pooling"], {"mean_tokens": False}, "pools by nothing"),
    ],
)
def test_embeddings_that_are_made_otherwise_are_refused(kinds, modes, said, tmp_path):
    modules(saved(encoder(), tmp_path), *kinds, **modes)
    with pytest.raises(WideneckError, match=said):
        load_judge(tmp_path)


def test_a_list_of_modules_that_is_none_is_refused(tmp_path):
    saved(encoder(), tmp_path)
    (tmp_path / "modules.json").write_text('{"type": 3}')
    with pytest.raises(WideneckError, match=r"modules\.json of .*cannot be read"):
        load_judge(tmp_path)


def gpt2():
    return tr.GPT2LMHeadModel(tr.GPT2Config(vocab_size=30, n_embd=16, n_layer=1, n_head=2))


def bart():
    return tr.BartForConditionalGeneration(tr.BartConfig(**BART))


def bart_without_a_head():
    return tr.BartModel(tr.BartConfig(**BART))


def tagger():
    return tr.BertForTokenClassification(tr.BertConfig(**SIZES))


def test_a_causal_language_model_judges_by_what_the_source_adds(tmp_path):
    judge = load_judge(saved(gpt2(), tmp_path))
    found = judge.measures(["a b c", "d e"], ["f g h", "a"])
    ids = tokenizer().convert_tokens_to_ids
    given = [ids("a b c".split()), ids("d e".split())], [ids("f g h".split()), ids(["a"])]
    assert found == pmi(judge.loaded.model, *given)
    assert found["pmi"][0] is not None
    assert found["pmi"][1] is None  # of one token
    assert set(judge.definitions) == set(found)


@pytest.mark.parametrize("make", [bart, bart_without_a_head, tagger])
def test_what_is_no_classifier_and_no_encoder_is_refused(make, tmp_path):
    model = make()
    with pytest.raises(WideneckError, match=r"label entailment \(NLI\), an encoder") as found:
        load_judge(saved(model, tmp_path))
    assert f"is a {type(model).__name__}, which cannot judge" in str(found.value)


@pytest.mark.parametrize("labels", [("POSITIVE", "NEGATIVE"), ("entailment", "Entailment")])
def test_a_classifier_without_one_label_of_entailment_is_refused(labels, tmp_path):
    with pytest.raises(WideneckError, match=f"has the labels {labels[0]}, {labels[1]}"):
        load_judge(saved(classifier(dict(enumerate(labels))), tmp_path))


def test_a_label_beyond_the_last_is_none(tmp_path):
    with pytest.raises(WideneckError, match="one label entailment"):
        load_judge(saved(classifier({0: "neutral", 5: "entailment"}), tmp_path))


def test_a_judge_without_a_tokenizer_is_refused(tmp_path):
    classifier().save_pretrained(tmp_path)
    with pytest.raises(WideneckError, match="no tokenizer beside its weights"):
        load_judge(tmp_path)


@pytest.mark.parametrize(
    ("lacking", "said"),
    [({"marks": False}, "no special tokens between"), ({"pad": None}, "no token for padding")],
)
def test_a_tokenizer_without_special_tokens_is_refused(lacking, said, tmp_path):
    with pytest.raises(WideneckError, match=said):
        load_judge(saved(classifier(), tmp_path, **lacking))


def test_pickled_weights_are_refused_unread(tmp_path):
    saved(classifier(), tmp_path)
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "pytorch_model.bin").write_bytes(b"cposix\nsystem\n(S'false'\ntR.")
    with pytest.raises(WideneckError, match=r"pytorch_model\.bin, and .* safetensors alone"):
        load_judge(tmp_path)


def test_weights_without_a_config_are_refused(tmp_path):
    saved(classifier(), tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(WideneckError, match=r"no config\.json"):
        load_judge(tmp_path)


def test_a_config_of_a_stranger_with_code_is_refused(tmp_path):
    saved(encoder(), tmp_path)
    edit_config(tmp_path, model_type="mine", auto_map={"AutoConfig": "code.Config"})
    (tmp_path / "code.py").write_text("raise SystemExit('run')")
    with pytest.raises(WideneckError, match="cannot be loaded"):
        load_judge(tmp_path)


def test_an_encoder_that_lacks_a_layer_is_refused(tmp_path):
    saved(encoder(), tmp_path)
    edit_tensors(tmp_path, without("roberta.encoder.layer.1.output.dense.weight"))
    with pytest.raises(WideneckError, match="lacks 1 of the model's tensors"):
        load_judge(tmp_path)


def test_an_encoder_that_holds_more_layers_than_its_config_says_is_refused(tmp_path):
    saved(encoder(), tmp_path)
    edit_config(tmp_path, num_hidden_layers=1)
    with pytest.raises(WideneckError, match=r"encoder\.layer\.1.*belong"):
        load_judge(tmp_path)


def test_a_judge_that_is_nowhere_is_refused(tmp_path):
    with pytest.raises(WideneckError, match="no file or folder"):
        load_judge(tmp_path / "none")


class Follows(torch.nn.Module):
    """Entailment is certain where each word of the hypothesis stands in the premise."""

    device = torch.device("cpu")
    config = tr.BertConfig(**SIZES)

    def get_input_embeddings(self):
        return None

    def forward(self, input_ids, attention_mask):
        assert attention_mask.equal((input_ids != 0).long())
        rows = []
        for row in input_ids.tolist():
            first, second = row.index(SEP), len(row) - row[::-1].index(SEP) - 1
            follows = set(row[first + 1 : second]) <= set(row[1:first])
            rows.append([-50.0, 0.0, 50.0] if follows else [50.0, 0.0, -50.0])
        return tr.modeling_outputs.SequenceClassifierOutput(logits=torch.tensor(rows))


def test_a_planted_judge_tells_what_follows_from_what_does_not():
    judge = Entailment(Reader(Follows(), tokenizer()), {"entailed": 2, "contradicted": 0})
    sources = ["a b c d", "e f g", "h i j k l"]
    found = judge.measures(sources, ["b d", "e h", "k i l"])
    assert found["entailed"] == pytest.approx([1, 0, 1])
    assert found["contradicted"] == pytest.approx([0, 1, 0])
    # The sources of others, and a text that is its own source.
    assert found["entailed mismatched"] == pytest.approx([0, 0, 0])
    assert judge.measures(sources, sources)["entailed"] == pytest.approx([1, 1, 1])


def test_a_planted_encoder_finds_texts_of_the_same_words(tmp_path):
    """Without layers the embedding is the mean over the words', which here are single axes."""
    size = len(WORDS)
    model = tr.BertModel(tr.BertConfig(**SIZES | {"hidden_size": size, "num_hidden_layers": 0}))
    table = model.embeddings
    table.word_embeddings.weight.data = torch.eye(size)
    for other in (table.position_embeddings, table.token_type_embeddings):
        other.weight.data.zero_()
    judge = Embeddings(Reader(model.eval(), tokenizer()), "mean")
    sources = ["a b c", "d e f", "g h i"]
    found = judge.measures(sources, ["c a b", "f e d", "h g i"])
    assert found["cosine"] == pytest.approx([1, 1, 1])
    assert max(found["cosine mismatched"]) < 0.6
    half = judge.measures(sources, ["a b x", "x y z", "g h i"])["cosine"]
    assert half[2] > half[0] > half[1]
