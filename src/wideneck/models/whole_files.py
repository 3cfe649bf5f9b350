"""All weights of a model, checked before another library loads them.

Transformers takes a shard from wherever the index says, turns integers into floats, and a tensor
that is stored once and stands in many rows into a matrix.
"""

from typing import Any

from wideneck.files.boundary import reading
from wideneck.models.checks import check_dtype
from wideneck.models.parts import open_weights
from wideneck.models.quiet import quiet_transformers
from wideneck.models.source import Source


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
    packed = _unpacked(config.get("quantization_config"), source)
    file = open_weights(source.folder, source.file)
    for name in file.names():
        file.check(name)
        if not packed and name.endswith(".weight") and len(file.shape(name)) > 1:
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
