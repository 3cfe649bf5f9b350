"""What a model's config says about its output layer, asked of the model itself.

No list of architectures: transformers builds the model on the meta device (no memory, well
under a second) and the model names its own output and input embedding.  Where transformers
does not know the architecture, the plain JSON still says how large the vocabulary is.
"""

from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeAlias

import torch
from torch import nn

from wideneck.errors import WideneckError
from wideneck.files.boundary import reading
from wideneck.models.auto_class import auto_class
from wideneck.models.building import building, size_of_files
from wideneck.models.config_file import CONFIG, plain, read_config
from wideneck.models.folder import Folder
from wideneck.models.head_weights import PLAIN, HeadForm, form_of
from wideneck.models.quiet import quiet_transformers
from wideneck.models.text_part import text_config

Shape: TypeAlias = tuple[int | None, int | None]
"""Rows and columns of a matrix; None for one that nothing tells."""


@dataclass(frozen=True, kw_only=True)
class ExpectedHead:
    """What to look for in the checkpoint.  Without a model only its rows and `tied` are known.

    Names are those of the model's parameters, which a checkpoint may store with another prefix.
    """

    weight: str | None = None
    bias: str | None = None
    embedding: str | None = None
    shape: Shape = (None, None)
    embedding_shape: Shape = (None, None)
    tied: bool | None = None
    """Whether transformers would make the head and the embedding one parameter."""
    form: HeadForm = PLAIN
    """That of a head of wideneck, where the config names one."""

    @property
    def vocab_size(self) -> int | None:
        """Rows of the head."""
        return self.shape[0]


MEND = (
    "it is damaged, or of a model that this version of transformers does not know; upgrade "
    "transformers, or give the weights file in a folder without it"
)


def expected_head(folder: Folder) -> ExpectedHead:
    """Ask the config in the folder, if there is one; a model without a causal head is refused."""
    raw = read_config(folder)
    if raw is None:
        return ExpectedHead()
    with reading(folder, CONFIG, MEND):
        _refuse_by_config(raw, folder)
        model = _meta_model(raw, folder)
    return _from_json(raw) if model is None else expected_of(model, folder)


def expected_of(model: Any, folder: Folder) -> ExpectedHead:
    """What a model on the meta device expects of its checkpoint."""
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    if not isinstance(head, nn.Module) or not isinstance(head.weight, torch.Tensor):
        raise WideneckError(
            f"{type(model).__name__} ({folder}) names no output embedding, so its head is unknown."
        )
    name = module_name(model, head)
    rows, columns = head.weight.shape
    return ExpectedHead(
        weight=f"{name}.weight",
        bias=None if getattr(head, "bias", None) is None else f"{name}.bias",
        embedding=f"{module_name(model, embedding)}.weight",
        shape=(rows, columns),
        embedding_shape=tuple(embedding.weight.shape),
        tied=head.weight is embedding.weight,
        form=form_of(model),
    )


def module_name(model: nn.Module, module: nn.Module) -> str:
    """The dotted name of a submodule."""
    for name, other in model.named_modules(remove_duplicate=False):
        if other is module:
            return name
    raise WideneckError(f"{type(model).__name__} does not hold the embedding that it names.")


def _from_json(raw: dict[str, Any]) -> ExpectedHead:
    text = raw.get("text_config")
    levels = [level for level in (raw, text) if isinstance(level, dict)]
    sizes = [level["vocab_size"] for level in levels if isinstance(level.get("vocab_size"), int)]
    ties = [
        bool(level["tie_word_embeddings"]) for level in levels if "tie_word_embeddings" in level
    ]
    shape = (sizes[-1] if sizes else None, None)
    return ExpectedHead(shape=shape, embedding_shape=shape, tied=any(ties) if ties else None)


def _refuse_by_config(raw: dict[str, Any], folder: Folder) -> None:
    """Models with an output matrix that is no causal head: an encoder's, a translator's."""
    import transformers
    from transformers.models.auto import modeling_auto as auto

    if raw.get("is_encoder_decoder"):
        raise _no_head(folder, f"is an encoder-decoder model ({raw.get('model_type')})")
    causal = set()
    for names in chain(
        auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values(),
        auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES.values(),
        auto.MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES.values(),
    ):
        causal.update([names] if isinstance(names, str) else names)
    classes = [name for name in raw.get("architectures") or [] if isinstance(name, str)]
    # A class that transformers has never heard of comes with custom code: its name proves nothing.
    known = [name for name in classes if getattr(transformers, name, None) is not None]
    if known and not causal.intersection(classes):
        raise _no_head(folder, f"was saved as {known[0]}")


def _meta_model(raw: dict[str, Any], folder: Folder) -> Any:
    """The causal model of the config without memory.

    None where transformers does not know the architecture, or would need code of the stranger's or
    a package that is not installed to build it; a config that its own architecture cannot take is
    an error.
    """
    import transformers
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    kind = raw.get("model_type")
    # Not tested by a set alone: where there is no type, transformers guesses one from the path.
    if not isinstance(kind, str) or kind not in CONFIG_MAPPING:
        return None
    with quiet_transformers(), building(folder, size_of_files(folder), filled=False):
        try:
            config = plain(
                transformers.AutoConfig.from_pretrained(
                    folder.path(CONFIG).parent, trust_remote_code=False
                )
            )
            text = text_config(config)
            if config.is_encoder_decoder or text.is_encoder_decoder:
                raise _no_head(folder, f"is an encoder-decoder model ({config.model_type})")
            for candidate in (config, text):
                auto = auto_class(candidate)
                if auto is not None:
                    with torch.device("meta"):
                        return auto.from_config(candidate, trust_remote_code=False)
        except WideneckError:
            raise  # a model that its files cannot fill is refused, whoever wrote its code
        except Exception as error:
            # A package that only this model needs; or a config that was written for code of its
            # own, and only shares the name of an architecture.
            if isinstance(error, ImportError) or "auto_map" in raw:
                return None
            raise
    raise _no_head(folder, f"is a {config.model_type} model")


def _no_head(folder: Folder, found: str) -> WideneckError:
    return WideneckError(
        f"{folder} {found}, which has no causal language model head: give a causal language model "
        "(GPT, Llama, Pythia, ...)."
    )
