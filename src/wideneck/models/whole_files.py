"""All weights of a model, checked before another library loads them, and after.

Transformers takes a shard from wherever the index says, turns integers into floats, and a tensor
that is stored once and stands in many rows into a matrix.  What a config does not name it leaves
out, with a line in a log: 12 stored layers under `num_hidden_layers: 6` run as 6, and biases under
a config without them are dropped.  The numbers measured then are those of another model.  What
stays out without harm is what every model computes anew (masks, tables of rotations), and parts
that stand beside the language model: towers of other senses, heads of other tasks, layers that only
draft.
"""

import re
from collections.abc import Iterable
from typing import Any

from torch import nn

from wideneck.errors import WideneckError
from wideneck.files.boundary import reading
from wideneck.files.printable import shortened
from wideneck.models.checks import FLOATS, check_dtype, dtype_name
from wideneck.models.folder import STANDARD
from wideneck.models.parts import missing_parts, open_weights, parts_beside
from wideneck.models.quiet import quiet_transformers
from wideneck.models.source import ADAPTER, Source
from wideneck.models.text_part import text_config

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


def check_whole(source: Source) -> None:
    """Refuse a file that is not what its folder would load, as transformers loads folders.

    Raises:
        WideneckError: as `check_files`; or an adapter stands beside the model, which would be
            loaded in its place, or the file is only a part of a model.
    """
    names = source.folder.names()
    if ADAPTER in names:  # with PEFT installed, the adapter's base would be loaded
        raise WideneckError(
            f"{source.folder} holds a model and {ADAPTER} of an adapter, and which of the two is "
            "meant is unclear: move the adapter to a folder of its own."
        )
    if source.file in STANDARD or source.file.endswith(".index.json"):
        check_files(source)
        return
    if parts_beside(source.file, names):
        also = "".join(f", {name}" for name in missing_parts(source.file, names))
        raise WideneckError(
            f"{source.folder} holds parts of a model and no index that says what is in each: "
            f"download the index (model.safetensors.index.json{also}) as well."
        )
    raise WideneckError(
        f"{source.file} alone is no whole model: give the folder with config.json and "
        "model.safetensors, or a .gguf file."
    )


def check_files(source: Source) -> None:
    """Refuse what `read_head` would refuse of the head, for every matrix of the model.

    Cost: the header of each file; of .bin and .pt the names.

    Raises:
        WideneckError: a shard is outside the folder or does not fit its index, a header lies, a
            tensor claims more numbers than its file stores, or a matrix is stored as integers and
            config.json names no quantization that transformers undoes.
    """
    folder = source.folder
    config = folder.json("config.json") if "config.json" in folder.names() else {}
    quantization = config.get("quantization_config")
    packed = _unpacked(quantization, source)
    file = open_weights(source.folder, source.file)
    for name in file.names():
        file.check(name)
        if packed or not name.endswith(".weight") or len(file.shape(name)) < 2:
            continue
        if quantization and file.dtype(name) not in map(dtype_name, FLOATS):
            raise WideneckError(
                f"{name} is stored as {file.dtype(name)}, quantized by "
                f"{quantization_method(quantization)}, which transformers does not undo: give the "
                "original checkpoint, or audit its output layer alone (--section head)."
            )
        check_dtype(name, file.dtype(name))


def _unpacked(quantization: Any, source: Source) -> bool:
    """Whether transformers undoes it; it skips a method that it does not know, with a warning.

    The packed integers would then be taken for the weights.
    """
    if not quantization:
        return False
    from transformers.quantizers.auto import AutoHfQuantizer

    name, mend = f"config.json of {source.display}", "download it again"
    with reading(name, "its quantization_config", mend), quiet_transformers():
        return AutoHfQuantizer.supports_quant_method(quantization)


def quantization_method(quantization: Any) -> str:
    """What a `quantization_config` calls itself."""
    method = quantization.get("quant_method") if isinstance(quantization, dict) else None
    return shortened(str(method), 80)


def check_complete(model: Any, info: dict[str, Any], source: str) -> None:
    """Refuse a model of which a number does not come from its files, or that leaves one out.

    Args:
        model: as transformers has made it.
        info: what its `output_loading_info` gives.
        source: what the user calls the checkpoint.

    Raises:
        WideneckError: as `check_unused`; or a tensor is missing, or of another shape.
    """
    if info["mismatched_keys"]:
        name, stored, wanted = min(info["mismatched_keys"])
        raise WideneckError(
            f"{source} holds {name} of shape {tuple(stored)}, and its config asks for "
            f"{tuple(wanted)}: the weights and config.json do not belong together."
        )
    if info["missing_keys"]:
        missing = sorted(info["missing_keys"])
        raise WideneckError(
            f"{source} lacks {len(missing)} of the model's tensors ({missing[0]}, ...), "
            "which would be random numbers: it is incomplete or another kind of model."
        )
    if info["error_msgs"]:
        raise WideneckError(
            f"{source} cannot be loaded ({info['error_msgs'][0].splitlines()[0]}): "
            "download it again."
        )
    check_unused(model, info["unexpected_keys"], source)


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
        config = text_config(model.config)
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
