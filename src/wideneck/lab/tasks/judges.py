"""A judge of texts and their sources that the user names: a Hugging Face id, or a folder.

Three kinds serve, and the config says which one it is: a classifier of sequences that knows
entailment (`Entailment`), an encoder (`Embeddings`), and a causal language model (`Likelihood`).
Weights of the first two are read from safetensors alone, and no code of a stranger runs.

Cost: the model in float32; `measures` runs a classifier on each pair and on as many mismatched
ones, an encoder once on each text and each different source, a language model three times on each
text.
"""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, Protocol

import torch

from wideneck.errors import WideneckError
from wideneck.files.boundary import failing, reading, reason
from wideneck.files.printable import listed
from wideneck.lab.tasks.embeddings import Embeddings, pooling_of
from wideneck.lab.tasks.entailment import Entailment, label_places
from wideneck.lab.tasks.judge_reading import Reader
from wideneck.lab.tasks.pmi import Likelihood
from wideneck.models.building import building, size_of_files
from wideneck.models.config_file import CONFIG, plain, read_config
from wideneck.models.language_model import load_language_model
from wideneck.models.quiet import quiet_transformers
from wideneck.models.source import Source, resolve
from wideneck.models.tokens import load_tokenizer
from wideneck.models.whole_files import check_complete, check_whole

CLASSIFIER = "ForSequenceClassification"
CONTINUES = ("ForCausalLM", "LMHeadModel")
ENCODER = re.compile(r"\w+?(Model|ForMaskedLM|ForPreTraining|ForCL)")
"""Classes that encoders are saved by; ForCL is SimCSE's."""
SERVES = (
    "a classifier of sequences with a label entailment (NLI), an encoder of sentences such as "
    "BERT, RoBERTa or SimCSE, or a causal language model"
)


class Judge(Protocol):
    """What `load_judge` gives."""

    definitions: dict[str, str]
    """Each measure's name and what it is."""

    def measures(
        self, sources: Sequence[str], texts: Sequence[str]
    ) -> dict[str, list[float | None]]:
        """The measures of `definitions`, one value a text; None where it has none."""


def load_judge(source: str | os.PathLike) -> Judge:
    """Load the judge that the user names, with its tokenizer.

    Raises:
        WideneckError: it is of neither kind; its weights are not safetensors, are not complete or
            belong to another config; a classifier has no label entailment; the tokenizer is
            missing, adds no special tokens or has no token for padding; its embeddings are made
            otherwise than by a mean or the first token.
    """
    found = resolve(source)
    if _continues(found):
        return Likelihood(load_language_model(source))
    if not found.file.endswith((".safetensors", ".safetensors.index.json")):
        raise WideneckError(
            f"The judge {found.display} has its weights in {found.file}, and those of a judge are "
            "read from safetensors alone: save it again with safe_serialization=True."
        )
    if read_config(found.folder) is None:
        raise WideneckError(
            f"The judge {found.display} has no {CONFIG}, without which its weights are no model: "
            "download that as well."
        )
    check_whole(found)
    config = _config(found)
    classifies = _classifies(config, found.display)
    if classifies:
        places = label_places(config.id2label, found.display)
        return Entailment(_reader(found, config, classifies), places)
    pooling = pooling_of(found.folder)
    return Embeddings(_reader(found, config, classifies), pooling)


@cache
def loaded_judge(source: str) -> Judge:
    """`load_judge`, once a process."""
    return load_judge(source)


def _continues(source: Source) -> bool:
    """Whether it is a causal language model."""
    if source.is_gguf:
        return True
    names = (read_config(source.folder) or {}).get("architectures") or []
    return any(str(name).endswith(CONTINUES) for name in names)


def _classifies(config: Any, judge: str) -> bool:
    """Whether it is a classifier of sequences; else it is an encoder."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    names = [str(name) for name in config.architectures or []]
    if any(name.endswith(CLASSIFIER) for name in names):
        return True
    # What fills gaps reads a text from both sides; BART does so with a decoder behind.
    fills_gaps = config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES
    decodes = config.is_encoder_decoder or getattr(config, "is_decoder", False)
    if fills_gaps and not decodes and all(ENCODER.fullmatch(name) for name in names):
        return False
    kind = listed(names) or f"model of type {config.model_type}"
    raise WideneckError(f"The judge {judge} is a {kind}, which cannot judge: name {SERVES}.")


def _config(source: Source) -> Any:
    from transformers import AutoConfig

    with _loading(source):
        return plain(AutoConfig.from_pretrained(**_where(source)))


def _reader(source: Source, config: Any, classifies: bool) -> Reader:
    from transformers import AutoModel, AutoModelForSequenceClassification

    tokenizer = _tokenizer(source)
    auto = AutoModelForSequenceClassification if classifies else AutoModel
    with _loading(source), building(source.display, size_of_files(source.folder)):
        model, info = auto.from_pretrained(
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # so that they can be named
            **_where(source),
        )
    check_complete(model, info if classifies else _of_encoder(model, info), source.display)
    return Reader(model.eval(), tokenizer)


def _tokenizer(source: Source) -> Any:
    tokenizer = load_tokenizer(source.folder)
    if tokenizer is None:
        raise WideneckError(
            f"The judge {source.display} has no tokenizer beside its weights: put its "
            "tokenizer.json there, or name a complete model."
        )
    name = f"The tokenizer of the judge {source.display}"
    with reading(name, "its special tokens", "download it again"):
        marks, pad = tokenizer.num_special_tokens_to_add(pair=True), tokenizer.pad_token_id
    if marks == 0 or pad is None:
        lacks = "token for padding" if marks else "special tokens between a source and a text"
        raise WideneckError(f"{name} has no {lacks}: give the one that the judge was trained with.")
    return tokenizer


def _of_encoder(model: Any, info: dict[str, Any]) -> dict[str, Any]:
    """What was found on loading, without the heads above an encoder, and without its pooler.

    Neither changes the last layer's states.
    """
    own = {model.base_model_prefix, *(name for name, _ in model.named_children())}
    return info | {
        "missing_keys": {x for x in info["missing_keys"] if "pooler" not in x.split(".")},
        "unexpected_keys": {x for x in info["unexpected_keys"] if x.split(".")[0] in own},
    }


def _where(source: Source) -> dict[str, Any]:
    name, revision = source.folder.pretrained
    return {
        "pretrained_model_name_or_path": name,
        "revision": revision or "main",
        "trust_remote_code": False,
    }


@contextmanager
def _loading(source: Source) -> Iterator[None]:
    """The boundary around what other people's model files do with a stranger's config."""
    with (
        failing(
            lambda error: (
                f"The judge {source.display} cannot be loaded ({reason(error)}): expected "
                f"{SERVES}, of an architecture that transformers knows, with complete weights."
            )
        ),
        quiet_transformers(),
    ):
        yield
