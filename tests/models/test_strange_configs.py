"""A config of a few bytes that asks for everything: refused before it is built, in a moment."""

import logging
import time
import warnings

import pytest
import torch
from torch import nn

from checkpoints import edit_config, saved
from tiny import tiny_model
from wideneck.errors import WideneckError
from wideneck.models import ask, read_head
from wideneck.models.building import building
from wideneck.models.config_file import check_counts
from wideneck.models.language_model import load_language_model
from wideneck.models.quiet import quiet_transformers
from wideneck.models.tokens import LARGEST_ID, load_tokenizer, token_strings


@pytest.fixture
def folder(tmp_path):
    return saved(tiny_model("llama"), tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {"num_hidden_layers": 10**12},
        {"num_hidden_layers": -(10**9)},
        {"num_labels": 10**9},
        {"num_attention_heads": 10**9},
        {"text_config": {"num_hidden_layers": 10**9}},
        {"num_hidden_layers": 60_000},
    ],
)
def test_counts_that_no_model_has_are_refused_in_a_moment(folder, changes):
    edit_config(folder, **changes)
    started = time.perf_counter()
    for reader in (read_head, lambda path: load_language_model(path, tokenizer=object())):
        with pytest.raises(WideneckError, match=r"which no model has|cannot fill|cannot be read"):
            reader(folder)
    assert time.perf_counter() - started < 30


def test_large_numbers_that_are_no_sizes_are_left_alone(folder):
    edit_config(folder, model_max_length=int(1e30), seed=2**64 - 1, parameter_count=7 * 10**9)
    read_head(folder)
    load_language_model(folder, tokenizer=_Plain())


def test_gguf_files_may_count_other_things_than_parts_of_a_model():
    check_counts(
        {
            "general.parameter_count": 8_030_261_312,  # as Ollama writes it
            "quantize.imatrix.chunks_count": 70_000,  # as llama-quantize does
            "llama.block_count": 32,
        },
        "The metadata of a GGUF file",
    )
    for key in ("block_count", "attention.head_count_kv", "expert_used_count"):
        with pytest.raises(WideneckError, match=key):
            check_counts({f"llama.{key}": 10**9}, "The metadata of a GGUF file")


def test_the_counts_of_real_models_pass():
    check_counts(
        {
            "num_hidden_layers": 126,
            "max_position_embeddings": 10_485_760,
            "vocab_size": 262_208,
            "rope_theta": 10**11,
            "head_dim": 256,
            "block_size": 131_072,
            "n_positions": 2**20,
            "num_experts": 512,
            "layer_norm_eps": 1e-5,
        },
        "config.json",
    )


def test_a_model_that_its_files_cannot_fill_is_stopped_while_it_is_built():
    wide = (lambda: nn.Linear(2**12, 2**12, device="meta")), True, "numbers"
    many = nn.Identity, False, "modules and tensors"
    for make, filled, what in (wide, many):
        modules = nn.ModuleList()
        with pytest.raises(WideneckError, match=rf"m: .* {what}, which files of 1,000 bytes"):
            _build(modules, make, filled)
        assert len(modules) < (20 if filled else 10_001)
    for _ in range(10_001):
        modules.append(nn.Identity())  # nothing is counted outside


def _build(modules, make, filled):
    with building("m", 1000, filled=filled):
        for _ in range(10**6):
            modules.append(make())


def test_numbers_on_the_meta_device_are_free_where_no_weights_are_read():
    """The head of a 70B model may stand alone in its file, beside the whole config."""
    with building("m", 1000, filled=False), torch.device("meta"):
        nn.Linear(2**20, 2**20)


@pytest.mark.parametrize(
    "changes",
    [
        {"vocab_size": 0},
        {"num_attention_heads": 0},
        {"hidden_size": "x"},
        {"architectures": 7},
        {"text_config": []},
    ],
)
def test_a_broken_config_of_a_known_architecture_is_an_error_by_name(folder, changes):
    edit_config(folder, **changes)
    with pytest.raises(WideneckError, match=str(folder)) as caught:
        read_head(folder)
    assert "\n" not in str(caught.value)


def test_an_unknown_architecture_is_read_by_its_json(folder):
    edit_config(folder, model_type="never-heard-of", architectures=["NeverForCausalLM"])
    assert read_head(folder).name == "lm_head.weight"


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation"])
def test_a_kernel_that_the_config_names_is_not_fetched(folder, key):
    edit_config(folder, **{key: "evil/kernel", "return_dict": False})
    model = load_language_model(folder, tokenizer=_Plain()).model
    assert model.config._attn_implementation in ("sdpa", "eager")
    assert ask(model, input_ids=torch.arange(3)[None]).logits.shape == (1, 3, 96)
    read_head(folder)


class _Plain:
    """A tokenizer as far as loading asks."""

    def __call__(self, text, **_options):
        return type("Encoding", (), {"input_ids": [3]})()


class _Panic(BaseException):
    """As the Rust libraries raise: no Exception to Python."""


_Panic.__module__ = "pyo3_runtime"


@pytest.mark.parametrize(
    "error", [_Panic("index"), MemoryError(), AssertionError("x"), KeyError(3)]
)
def test_whatever_a_model_raises_is_one_sentence(error):
    class Model(nn.Module):
        def forward(self, **_inputs):
            raise error

    with pytest.raises(WideneckError, match="Model does not run on input_ids alone"):
        ask(Model(), input_ids=torch.arange(3), use_cache=False)


def test_an_interruption_of_a_model_stays_one():
    class Model(nn.Module):
        def forward(self, **_inputs):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ask(Model(), input_ids=torch.arange(3))


@pytest.mark.parametrize("token", [-1, LARGEST_ID + 1, 10**12])
def test_an_id_that_no_vocabulary_has_allocates_nothing(token):
    class Tokenizer:
        def get_vocab(self):
            return {"a": 0, "b": token}

    with pytest.raises(WideneckError, match="which no vocabulary has"):
        token_strings(Tokenizer())


def test_a_panic_of_the_tokenizer_is_one_sentence(folder, monkeypatch):
    def panic(*_args, **_options):
        raise _Panic("range end index 5 out of range")

    (folder / "tokenizer.json").write_text("{}")
    monkeypatch.setattr("transformers.AutoTokenizer.from_pretrained", panic)
    from wideneck.models.folder import LocalFolder

    with pytest.raises(WideneckError, match=r"tokenizer of .* cannot be loaded .*range end index"):
        load_tokenizer(LocalFolder(folder))


def test_no_library_speaks_while_it_is_quiet(capfd, monkeypatch):
    # A command line that another test has run in this process silences loggers for good.
    monkeypatch.setattr(logging.root.manager, "disable", logging.NOTSET)
    with quiet_transformers():
        for name in ("transformers", "huggingface_hub", "torch", "some.library"):
            logging.getLogger(name).error("a word")
        warnings.warn("another", stacklevel=1)
    assert capfd.readouterr() == ("", "")
    assert logging.root.manager.disable == logging.NOTSET
