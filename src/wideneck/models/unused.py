"""What a checkpoint holds and the model of its config does not use.

Transformers leaves out what a config does not name, with a line in a log: 12 stored layers under
`num_hidden_layers: 6` run as 6, and biases under a config without them are dropped.  The numbers
measured then are those of another model.  What stays out without harm is what every model
computes anew (masks, tables of rotations), and parts that stand beside the language model: towers
of other senses, heads of other tasks, layers that only draft.
"""

import re
from collections.abc import Iterable
from typing import Any

from torch import nn

from wideneck.errors import WideneckError

COMPUTED = re.compile(
    r"(^|\.)(rotary_emb|rotary_pos_emb|rope)\.|(^|\.)(masked_bias|causal_mask|position_ids)$"
    r"|(^|\.)\w*(attn|attention)\.bias$|\.(kv|[qkv])_scale$"
    r"|(^|\.)(\w*inv_freq|freqs_cis|(cos|sin)_cached|_float_tensor)$"
)
"""Buffers of earlier versions, and the scales of a quantized cache."""
BESIDE = re.compile(
    r"vision|visual|image|audio|speech|video|multi_?modal|(^|[._])mm_|projector|mtp|nextn|draft"
    r"|medusa|eagle|pooler|seq_relationship|classif|(^|\.)score\.|v_head|value_head|reward"
    r"|qa_outputs|summary|(^|\.)(connector|aligner|resampler|vpm|apm|tts|talker)\."
)
"""Words in the names of parts that add nothing to the next token's logits."""
DRAFTED = ("num_nextn_predict_layers", "mtp_num_layers", "num_mtp_layers")
"""What configs call the layers behind the last that only draft (DeepSeek, GLM, MiMo)."""


def check_unused(model: Any, names: Iterable[str], source: str) -> None:
    """Refuse stored tensors without which the model would be another one.

    Args:
        model: as transformers has made it.
        names: tensors of the checkpoint that it has not used.
        source: what the user calls the checkpoint.

    Raises:
        WideneckError: one of them is of a layer beyond the last, in a layer, a bias or norm that
            the model has not, or of a part that is none of those in `BESIDE`.
    """
    wrong = [(name, why) for name in sorted(names) if (why := _harm(model, name)) is not None]
    if wrong:
        name, why = wrong[0]
        more = f" and {len(wrong) - 1} more tensors" if len(wrong) > 1 else ""
        raise WideneckError(
            f"{source} holds {name}{more}, and {why}: the weights and config.json do not belong "
            "together, and another model than the stored one would be measured."
        )


def _harm(model: Any, name: str) -> str | None:
    """Why the model would be another one without a tensor; None where it would not."""
    if COMPUTED.search(name):
        return None
    path, rest = max((_walk(root, name) for root in _roots(model)), key=lambda found: len(found[0]))
    last = path[-1]
    if isinstance(last, nn.ModuleList) and rest and rest[0].isdecimal():
        config = model.config.get_text_config()
        drafted = [getattr(config, key, None) for key in DRAFTED]
        allowed = sum(n for n in drafted if type(n) is int and n > 0)
        if int(rest[0]) < len(last) + allowed:
            return None
        return f"the config makes {len(last)} of these layers"
    if len(rest) == 1 and rest[0] in last._buffers:
        return None
    is_none = len(rest) == 1 and rest[0] in last._parameters  # such as a bias
    in_layer = any(isinstance(module, nn.ModuleList) for module in path)
    if BESIDE.search(name) and not is_none and not in_layer:
        return None
    return "the model of the config has no place for it"


def _roots(model: Any) -> list[nn.Module]:
    """A checkpoint of a base model has names without its prefix."""
    base = getattr(model, "base_model", model)
    return [model] if base is model else [model, base]


def _walk(root: nn.Module, name: str) -> tuple[list[nn.Module], list[str]]:
    """The modules along a dotted name as far as they go, and what is left of it."""
    path, parts = [root], name.split(".")
    for i, part in enumerate(parts):
        child = path[-1]._modules.get(part)
        if child is None:
            return path, parts[i:]
        path.append(child)
    return path, []
