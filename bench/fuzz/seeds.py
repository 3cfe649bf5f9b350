"""The good folders, made once in a session: tiny, of random weights, and without a network.

Every function is run in a child of its own (see `bench.fuzz.session`), in an empty folder.
"""

import json
import shutil
import string
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

V, D = 96, 16
SHORT = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
SIZES = {
    "vocab_size": V,
    "hidden_size": D,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 64,
    **SHORT,
}
RECIPE = """seed = 3

[data]
text = "text.txt"

[model]
name = "transformer"
architecture = "llama"
context = 16

[model.options]
hidden_size = 16
intermediate_size = 32
num_hidden_layers = 1
num_attention_heads = 2
num_key_value_heads = 1

[head]
name = "moss"
num_components = 2

[optimizer]
name = "adamw"
learning_rate = 1e-2

[training]
epochs = 1
batch_size = 8
evaluation_batch_size = 8
log_every = 5
evaluate_every = 0.5
"""
ON_STATES = """[data]
text = "text.txt"

[model]
name = "states"
model = "model"
train_tokens = 256
valid_tokens = 64
window = 16

[head]
name = "sigsoftmax"

[optimizer]
name = "adamw"
learning_rate = 1e-2

[training]
epochs = 1
batch_size = 32
"""


def tokenizer() -> Any:
    """A byte-level BPE of 96 tokens: the printable characters as bytes show, and a few merges."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = f"!,.{string.digits}:{string.ascii_uppercase}{string.ascii_lowercase}"
    singles = ["<s>", "</s>", "<pad>", "<unk>", "Ġ", "Ċ", *letters]
    merges = [("t", "h"), ("th", "e"), ("Ġ", "the"), ("i", "n"), ("Ġ", "a"), ("o", "n"), ("a", "n")]
    merges += [("e", "r"), ("Ġ", "o"), ("r", "e"), ("o", "t"), ("l", "e"), ("l", "l")]
    words = [*singles, *(a + b for a, b in merges)]
    words += [f"<extra{i}>" for i in range(V - len(words))]
    inner = Tokenizer(models.BPE({w: i for i, w in enumerate(words)}, merges, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


def text(documents: int = 4) -> str:
    """Documents of some 800 characters each, apart by form feeds."""
    lines = (f"{k} bottles hanging on the wall {k * k}, line {k % 7}.\n" for k in range(80))
    whole = "".join(lines)
    size = len(whole) // documents
    return "\f".join(whole[i * size : (i + 1) * size] for i in range(documents))


def saved(folder: Path, kind: str = "LlamaConfig", **changes: Any) -> Any:
    """model/ with its tokenizer, and text.txt."""
    import torch
    import transformers

    torch.manual_seed(0)
    config = getattr(transformers, kind)(**(SIZES | changes))
    model: Any = transformers.AutoModelForCausalLM.from_config(config)
    model.eval().save_pretrained(folder / "model")
    tokenizer().save_pretrained(folder / "model")
    (folder / "text.txt").write_text(text())
    return model


def sharded(folder: Path) -> None:
    model = saved(folder)
    (folder / "model/model.safetensors").unlink()
    model.save_pretrained(folder / "model", max_shard_size="10KB")


def pickled(folder: Path) -> None:
    import torch

    model = saved(folder)
    (folder / "model/model.safetensors").unlink()
    torch.save(model.state_dict(), folder / "model/pytorch_model.bin")


def moss(folder: Path) -> None:
    """Save a model whose head is a mixture of sigsoftmaxes."""
    import wideneck as wn

    wn.attach(saved(folder), "moss", num_components=2).save_pretrained(folder / "model")


def memory(folder: Path) -> None:
    import wideneck as wn

    wn.attach_memory(saved(folder)).save_pretrained(folder / "model")


def normalizer(folder: Path) -> None:
    import wideneck as wn

    wn.attention.use(saved(folder), "ssmax").save_pretrained(folder / "model")


def gguf(folder: Path) -> None:
    """model/tiny.gguf: llama, float32, with its own tokenizer."""
    from gguf import MODEL_ARCH, GGUFWriter, get_tensor_name_map

    model = saved(folder)
    vocabulary = sorted(tokenizer().get_vocab().items(), key=lambda item: item[1])
    merges = json.loads((folder / "model/tokenizer.json").read_text())["model"]["merges"]
    shutil.rmtree(folder / "model")
    (folder / "model").mkdir()
    writer = GGUFWriter(folder / "model/tiny.gguf", "llama")
    writer.add_block_count(2)
    writer.add_context_length(64)
    writer.add_embedding_length(D)
    writer.add_feed_forward_length(32)
    writer.add_head_count(2)
    writer.add_head_count_kv(1)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(8)
    writer.add_vocab_size(V)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([token for token, _ in vocabulary])
    writer.add_token_types([1] * V)
    writer.add_token_merges([" ".join(merge) for merge in merges])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_unk_token_id(3)
    names = get_tensor_name_map(MODEL_ARCH.LLAMA, 2)
    for name, tensor in model.state_dict().items():
        new = names.get_name(name, (".weight",))
        assert new is not None, name
        writer.add_tensor(new, tensor.numpy())
    finish(writer)


def finish(writer: Any) -> None:
    """Write what a GGUFWriter was given."""
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def series(folder: Path) -> None:
    """checkpoints/step1, step2 and step3."""
    model = saved(folder)
    (folder / "checkpoints").mkdir()
    for step in (1, 2, 3):
        model.lm_head.weight.data.mul_(1 + step / 10)
        model.save_pretrained(folder / f"checkpoints/step{step}")
    shutil.rmtree(folder / "model")


def recipes(folder: Path) -> None:
    (folder / "text.txt").write_text(text())
    (folder / "recipe.toml").write_text(RECIPE)
    (folder / "states.toml").write_text(ON_STATES)
    saved(folder)


def finished(folder: Path) -> None:
    """run/: a run that is done."""
    (folder / "text.txt").write_text(text())
    (folder / "recipe.toml").write_text(RECIPE)
    command("train", "recipe.toml", "--out", "run")


def interrupted(folder: Path) -> None:
    """run/: a run that was killed after its second checkpoint."""
    _interrupt()
    (folder / "text.txt").write_text(text())
    (folder / "recipe.toml").write_text(
        RECIPE.replace("log_every", "checkpoint_every = 0\nlog_every")
    )
    command("train", "recipe.toml", "--out", "run")


def states(folder: Path) -> None:
    """run/ and states-*/: a head on cached states, killed after its second checkpoint."""
    _interrupt()
    saved(folder)
    (folder / "recipe.toml").write_text(ON_STATES + "checkpoint_every = 0\n")
    command("train", "recipe.toml", "--out", "runs/run")


def reproduction(folder: Path) -> None:
    """out/: the finished runs of `wideneck reproduce attention` on a tiny model."""
    saved(folder, max_position_embeddings=2048)
    (folder / "text.txt").write_text(text(1) * 2)
    command(*REPRODUCE)


REPRODUCE = ("reproduce", "attention", "--model", "model", "--text", "text.txt", "--seeds", "1")
REPRODUCE += ("--out", "out")


def command(*argv: str) -> None:
    """A command line of wideneck, in this process."""
    from wideneck.cli import main

    sys.argv = ["wideneck", *argv]
    main()


def _interrupt() -> None:
    """Let training stop where its second checkpoint is written, as a killed run would."""
    from wideneck.training.loop import Trainer

    save, saves = Trainer.save, []

    def twice(self: Any) -> None:
        save(self)
        saves.append(1)
        if len(saves) == 2:
            raise SystemExit(0)

    Trainer.save = twice


SEEDS: dict[str, Callable[[Path], object]] = {
    "llama": saved,
    "cohere": partial(saved, kind="CohereConfig", logit_scale=0.0625),
    "gemma2": partial(saved, kind="Gemma2Config", head_dim=8, final_logit_softcapping=30.0),
}
made = (sharded, pickled, moss, memory, normalizer, gguf, series)
made += (recipes, finished, interrupted, states, reproduction)
SEEDS |= {make.__name__: make for make in made}
"""Name -> what makes the folder."""
