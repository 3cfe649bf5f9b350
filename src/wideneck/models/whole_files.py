"""All weights of a model, checked before another library loads them.

Transformers takes a shard from wherever the index says, turns integers into floats, and a tensor
that is stored once and stands in many rows into a matrix.
"""

from wideneck.models.checks import check_dtype
from wideneck.models.parts import open_weights
from wideneck.models.source import Source


def check_files(source: Source) -> None:
    """Refuse what `read_head` would refuse of the head, for every matrix of the model.

    Cost: the header of each file; of .bin and .pt the names.

    Raises:
        WideneckError: a shard is outside the folder or does not fit its index, a header lies, a
            tensor claims more numbers than its file stores, or a matrix is stored as integers and
            config.json names no quantization.
    """
    folder = source.folder
    config = folder.json("config.json") if "config.json" in folder.names() else {}
    packed = bool(config.get("quantization_config"))
    file = open_weights(source.folder, source.file)
    for name in file.names():
        file.check(name)
        if not packed and name.endswith(".weight") and len(file.shape(name)) > 1:
            check_dtype(name, file.dtype(name))
