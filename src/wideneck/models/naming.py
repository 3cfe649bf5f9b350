"""Finds the output layer and the input embedding among a checkpoint's names.

The same parameter is `transformer.wte.weight` in a saved GPT-2 and `wte.weight` in the one on
the hub; a vision model puts `language_model.` before or into the middle.  So names are compared
by their dotted ends, from strict to loose, and shapes decide.  A name that only ends as the head's
does must begin as that of the input embedding: a checkpoint may also hold the head of a smaller
model that drafts, or of further tokens.  What stays ambiguous is refused.
"""

from wideneck.errors import WideneckError
from wideneck.files.printable import listed
from wideneck.models.checks import check_sides
from wideneck.models.expected_head import ExpectedHead, Shape
from wideneck.models.tensor_file import TensorFile

HEADS = (
    "lm_head.weight",
    "embed_out.weight",
    "output_projection.weight",
    "unembed.weight",
    "lm_head.linear.weight",
    "output.weight",
)
EMBEDDINGS = (
    "embed_tokens.weight",
    "wte.weight",
    "embed_in.weight",
    "word_embeddings.weight",
    "tok_embeddings.weight",
    "token_embedding.weight",
    "embeddings.weight",
    "embedding.weight",
)
DOTTED = tuple(f".{name}" for name in EMBEDDINGS)


def find_head(file: TensorFile, expected: ExpectedHead, embedding: str | None) -> str | None:
    """The stored name of the head's matrix, or None where the checkpoint has none.

    Args:
        embedding: the stored name of the input embedding, which says where the model itself is.

    Raises:
        WideneckError: several tensors could be the head, it has a wrong shape or is packed, or only
            parts beside the model have one and the model is not said to be tied.
    """
    found, others = _find(file, "head", expected.weight, HEADS, expected.shape, embedding)
    if found is None:
        names = HEADS[:2] if expected.weight is None else (expected.weight,)
        _refuse_packed(file, expected, embedding, names)
        if others and not expected.tied:
            raise WideneckError(
                f"The only heads in the checkpoint ({listed(others)}) are of parts beside the "
                f"model of {embedding} by their names, such as one that drafts, and no config.json "
                "says that this matrix is the head as well: give a checkpoint that holds the head, "
                "or its config.json."
            )
    return found


def find_embedding(file: TensorFile, expected: ExpectedHead) -> str | None:
    """The stored name of the input embedding, or None where the checkpoint has none.

    Raises:
        WideneckError: several tensors could be it, as that of a draft beside it; it has a wrong
            shape; or it is packed and the model's head as well.
    """
    role = "input embedding"
    found, _ = _find(file, role, expected.embedding, EMBEDDINGS, expected.embedding_shape)
    if expected.embedding is not None:
        if expected.tied and found not in (None, expected.embedding):
            _refuse_packed(file, expected, found, (expected.embedding,))
    elif found is not None:
        # No name says which of those that frameworks have for it is this model's.
        rows = file.shape(found)[0]
        same = [s for s in file.names() if s in EMBEDDINGS or s.endswith(DOTTED)]
        beside = [s for s in same if _fits(file.shape(s), (rows, None))]
        if len(beside) > 1:
            raise _several(role, beside)
    return found


def find_bias(
    file: TensorFile, head: str, expected: ExpectedHead, embedding: str | None
) -> str | None:
    """The stored name of the head's bias.  A model that has one must find it, and no other.

    A tied head has its bias under a name of its own, so the model's name for it is what counts; or
    that of the module around the head, to which BERT and its kind tie it (`lm_head.bias` for
    `lm_head.decoder.bias`).
    """
    if expected.weight is None:
        bias = head.removesuffix("weight") + "bias"
        return bias if bias in file.names() else None
    if expected.bias is None:
        _refuse_unused_bias(file, head)
        return None
    around = expected.bias.rpartition(".")[0].rpartition(".")[0]
    known = [expected.bias, f"{around}.bias"] if around else [expected.bias]
    names = file.names()
    found = [stored for name in known if (stored := _one_by_name(names, name, embedding))]
    if not found:
        raise WideneckError(
            f"The model's head has a bias, but the checkpoint with {head} holds no "
            f"{expected.bias}: it is incomplete, or belongs to another version of the model."
        )
    if len(found) > 1 and not file.read(found[0]).equal(file.read(found[1])):
        raise WideneckError(
            f"{found[0]} and {found[1]} are one bias of the head, and the checkpoint holds "
            "different numbers under the two names: it is damaged, or was put together wrongly."
        )
    return found[0]


def _refuse_unused_bias(file: TensorFile, head: str) -> None:
    """Of a model without one; writers of quantized layers leave zeros there."""
    name = head.removesuffix("weight") + "bias"
    if head.endswith(".weight") and name in file.names() and file.read(name).any():
        raise WideneckError(
            f"The checkpoint holds {name}, and the model of config.json has no such bias: the "
            "weights and config.json do not belong together, so give the config.json that was "
            "saved with them."
        )


def _one_by_name(names: list[str], name: str, embedding: str | None) -> str | None:
    tiers = (
        [stored for stored in tier if not _is_beside(stored, name, embedding)]
        for tier in _by_name(names, name)
    )
    return next((tier[0] for tier in tiers if len(tier) == 1), None)


def _is_beside(stored: str, end: str, embedding: str | None) -> bool:
    """Whether a name has a prefix before `end` that leads to another part than the embedding's."""
    prefix = stored.removesuffix(end)
    return prefix != stored and embedding is not None and not embedding.startswith(prefix)


def only_matrix(file: TensorFile) -> str:
    """The single 2-D tensor of a file whose names say nothing."""
    names = file.names()
    matrices = [name for name in names if len(file.shape(name)) == 2] if len(names) <= 64 else []
    if len(matrices) == 1:
        return matrices[0]
    raise WideneckError(
        f"No output layer was found: expected a name such as {HEADS[0]} or {EMBEDDINGS[0]}, or a "
        f"file with one matrix alone, found {listed(names) or 'no tensor'}."
    )


def ends_with(name: str, end: str) -> bool:
    """Whether `name` is `end` or has it after a dot."""
    return name == end or name.endswith(f".{end}")


def _by_name(names: list[str], name: str) -> list[list[str]]:
    """The same name, then one that is the other with a prefix."""
    same = [stored for stored in names if stored == name]
    likely = _likely(names, name, (name,))
    return [same, [s for s in likely if ends_with(s, name) or ends_with(name, s)]]


def _likely(names: list[str], name: str | None, ends: tuple[str, ...]) -> list[str]:
    """In one pass, the few of a million names that have such an end, or are an end of `name`."""
    return [s for s in names if s.endswith(ends) or (name is not None and name.endswith(s))]


def _find(
    file: TensorFile,
    role: str,
    name: str | None,
    well_known: tuple[str, ...],
    shape: Shape,
    within: str | None = None,
) -> tuple[str | None, list[str]]:
    """The one tensor that the names and shapes lead to, and those that fit and are of another part.

    Args:
        within: as `embedding` of `_is_beside`.
    """
    ends = well_known if name is None else (".".join(name.split(".")[-2:]), *well_known)
    names = _likely(file.names(), name, ends)
    tiers = [(end, [s for s in names if ends_with(s, end)]) for end in ends]
    if name is not None:
        tiers = [(name, tier) for tier in _by_name(names, name)] + tiers
    own: list[list[str]] = []
    others: list[str] = []
    for end, tier in tiers:
        own.append([s for s in tier if not _is_beside(s, end, within)])
        # A projection or another modality may share the last name, not the shape.
        fitting = [s for s in tier if _fits(file.shape(s), shape)]
        others += [s for s in fitting if s not in own[-1] and s not in others]
        fitting = [s for s in fitting if s in own[-1]]
        if len(fitting) > 1:
            raise _several(role, fitting)
        if fitting:
            for passed in _strict(own, name):
                if not file.shape(passed):  # a name as good, of a quantization that is not read
                    file.refuse_packed(passed)
            return fitting[0], others
        if name is not None and name in tier:
            break  # it is this one; a looser name is of another part
    strict = _strict(own, name)
    if strict:
        # Packed numbers have a shape of their own, so the storage is judged first.
        file.refuse_packed(strict[0])
        _refuse_shape(strict[0], file.shape(strict[0]), shape)
    return None, others


def _strict(tiers: list[list[str]], name: str | None) -> list[str]:
    """Only these may speak of a wrong shape or form: a loose match is then another layer."""
    return [stored for tier in tiers[: 1 if name is None else 2] for stored in tier]


def _several(role: str, names: list[str]) -> WideneckError:
    return WideneckError(
        f"Several tensors could be the {role}: {listed(names)}; wideneck does not guess, so name a "
        "file that holds one of them alone."
    )


def _fits(shape: tuple[int, ...], wanted: Shape) -> bool:
    sides = zip(shape, wanted, strict=False)
    return len(shape) == 2 and all(side in (None, length) for length, side in sides)


def _refuse_shape(name: str, shape: tuple[int, ...], wanted: Shape) -> None:
    check_sides(name, shape)
    rows, columns = wanted
    if rows == shape[1] and rows != shape[0]:
        raise WideneckError(
            f"{name} has shape {shape}, but config.json says vocab_size {rows}: the matrix is "
            "transposed (rows must be the vocabulary), so store it the other way."
        )
    raise WideneckError(
        f"{name} has shape {shape}, but config.json expects ({rows}, {columns or 'hidden size'}): "
        "the weights and the config do not belong together."
    )


def _refuse_packed(
    file: TensorFile, expected: ExpectedHead, embedding: str | None, weights: tuple[str, ...]
) -> None:
    """A quantized or wrapped matrix has other names; taking another one for it would be wrong."""
    modules = [name.removesuffix(".weight") for name in weights]
    packed = []
    for name in file.names():
        for module in modules:
            before, found, rest = f".{name}".partition(f".{module}.")
            if not found or rest == "bias" or (expected.form.is_ours and "." in rest):
                continue  # heads of wideneck have parts of their own
            if name != embedding and not _is_beside(name, name[len(before) :], embedding):
                packed.append(name)
    if packed:
        raise WideneckError(
            f"The head is stored in a form that wideneck does not read ({listed(packed)}), "
            "quantized or wrapped by another library: give the original checkpoint or a GGUF file."
        )
