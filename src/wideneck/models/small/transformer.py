"""Any decoder of transformers, built with fresh weights and without its output layer.

Architectures are not listed: the config's own fields say what can be set, and a few tokens through
the new model show whether it is causal and how wide its hidden states are.
"""

from contextlib import AbstractContextManager
from difflib import get_close_matches
from typing import Any, final

import torch
from torch import Tensor, nn

from wideneck.errors import WideneckError
from wideneck.files.boundary import failing, reason
from wideneck.models.asking import evaluating
from wideneck.models.causality import look_ahead
from wideneck.models.quiet import quiet_transformers
from wideneck.models.small.backbone import Backbone, Output
from wideneck.models.small.config import Transformer
from wideneck.registry import check_option

POSITIONS = "max_position_embeddings"
PROBE = 4
"""Tokens."""


@final
class TransformerBackbone(Backbone):
    """A base model of transformers; no state is carried.

    Scales and soft caps that the architecture puts on its logits belong to its output layer and
    are not part of this.

    Raises:
        WideneckError: an architecture that is unknown or no causal language model, an unknown
            option, or options that transformers cannot build a model of.
    """

    def __init__(self, config: Transformer, *, vocab_size: int):
        super().__init__()
        self.config, self.context = config, config.context
        with quiet_transformers(), refusing(config.architecture):
            self.model = base_model(config, vocab_size)
            if not isinstance(self.model.get_input_embeddings(), nn.Embedding):
                raise WideneckError(
                    f"{config.architecture} has no embedding of its tokens alone; choose another "
                    "architecture."
                )
            self.hidden_size = self._probed_width()

    @property
    def embedding(self) -> nn.Embedding:
        return self.model.get_input_embeddings()

    def forward(self, ids: Tensor, state: list[Tensor] | None = None) -> Output:
        if ids.shape[1] > self.config.context:
            raise WideneckError(
                f"This {self.config.architecture} reads windows of at most {self.config.context} "
                f"tokens, got {ids.shape[1]}; cut the text into windows, or build the model with "
                "a longer context."
            )
        hidden = self.model(input_ids=ids, use_cache=False).last_hidden_state
        return Output(hidden, hidden, [])

    def penalty(self, output: Output) -> Tensor:
        """0: nothing is added to the loss."""
        return output.hidden.new_zeros(())

    def _probed_width(self) -> int:
        """D, from a few tokens, none of which may change what stands before it."""
        weight = self.embedding.weight
        num_tokens = min(PROBE, self.config.context)
        ids = torch.zeros(1, num_tokens, dtype=torch.long, device=weight.device)
        if weight.is_meta:
            with torch.no_grad(), evaluating(self):
                return self(ids).hidden.shape[-1]
        found = look_ahead(self, lambda rows: self(rows).hidden, ids, len(weight))
        if found.sees_later:
            raise WideneckError(
                f"{self.config.architecture} with these options sees the tokens that it is to "
                "predict; choose a causal language model (some need is_decoder = true)."
            )
        return found.answers.shape[-1]


def base_model(config: Transformer, vocab_size: int) -> Any:
    """The model of transformers below its output layer, fresh; raises as the backbone."""
    from transformers import AutoModel

    with quiet_transformers(), refusing(config.architecture):
        return AutoModel.from_config(hf_config(config, vocab_size))


def hf_config(config: Transformer, vocab_size: int) -> Any:
    """The config of transformers: the architecture's defaults, the options, and what is ours.

    Raises:
        WideneckError: the architecture is unknown or no causal language model, an option is
            unknown or of the wrong type.
    """
    from transformers import AutoConfig, PreTrainedConfig
    from transformers.models.auto import modeling_auto as auto

    architecture = config.architecture
    types = auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.keys() & auto.MODEL_MAPPING_NAMES.keys()
    if architecture not in types:
        close = get_close_matches(architecture, sorted(types), n=1)
        question = f" Did you mean '{close[0]}'?" if close else ""
        raise WideneckError(
            f"transformers has no causal language model of the type '{architecture}'.{question}"
        )
    default = AutoConfig.for_model(architecture)
    if default.get_text_config() is not default:
        raise WideneckError(
            f"{architecture} is more than a language model; give the type of its text part, "
            f"'{default.get_text_config().model_type}'."
        )
    aliases = default.attribute_map
    fields = {*default.to_dict(), *aliases}
    ours = {"vocab_size", "use_cache", "tie_word_embeddings", POSITIONS}
    ours |= {aliases.get(name, name) for name in ours}
    known = sorted(fields - ours - set(PreTrainedConfig().to_dict()))
    for option in config.options:
        if option in ours:
            raise WideneckError(
                f"The option {option} of {architecture} follows from the vocabulary and from "
                "context and tied of the model; leave it out of its options."
            )
        check_option(option, known, architecture)
    fixed: dict[str, Any] = {"vocab_size": vocab_size, "use_cache": False}
    if POSITIONS in fields:
        fixed[POSITIONS] = config.context
    if "tie_word_embeddings" in fields:
        fixed["tie_word_embeddings"] = config.tied
    if "pad_token_id" not in config.options:
        fixed["pad_token_id"] = None  # else that word's embedding may stay 0, and never learn
    with quiet_transformers(), refusing(architecture):  # it warns of ids, a line each
        result = AutoConfig.for_model(architecture, **config.options)
        for name, value in fixed.items():
            setattr(result, name, value)
    return result


def refusing(architecture: str) -> AbstractContextManager[None]:
    """What transformers says of options that make no model, as our error."""
    return failing(
        lambda error: (
            f"transformers cannot build a {architecture} with these options: {reason(error)}"
        )
    )
