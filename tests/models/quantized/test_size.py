"""Scales that are stored as their inverse give a matrix of another size, which is refused."""

import numpy as np
import pytest
import torch

from checkpoints import edit_tensors
from quantized_files import LAYOUTS, write, written
from wideneck.errors import WideneckError
from wideneck.models import read_head
from wideneck.models.quantized import size

# Rounded to float32, e4m3 or float16, an inverse is none; these are the ones that readers confuse.
CONFUSED = [name for name in LAYOUTS if name.startswith(("fp8", "int", "nvfp4", "gptq", "awq"))]


def embedding(case, times=1.0):
    rms = float(np.sqrt(np.square(case.weight, dtype=np.float64).mean()))
    generator = torch.Generator().manual_seed(0)
    return torch.randn(case.weight.shape, generator=generator) * rms * times


def inverted(case):
    part = case.scales[-1]
    # The groups' scales of NVFP4 are never confused, and 16 bits cannot hold an inverse.
    case.parts[part] = 1 / case.parts[part].float()
    return case


@pytest.mark.parametrize("name", CONFUSED)
@pytest.mark.parametrize("beside", [True, False], ids=["an embedding beside", "alone"])
def test_the_inverse_of_a_scale_is_refused(tmp_path, name, beside):
    case = written(name)
    other = embedding(case) if beside else None
    read_head(write(tmp_path, case, embedding=other))
    with pytest.raises(WideneckError, match=r"seem to be stored the other way") as caught:
        read_head(write(tmp_path, inverted(case), embedding=other))
    assert "\n" not in str(caught.value)
    assert ("times those of model.embed_tokens.weight" in str(caught.value)) == beside


@pytest.mark.parametrize(
    ("name", "times"),
    [("fp8 row", 50), ("fp8 row", 1 / 50), ("nvfp4 divided", 50), ("int4 groups", 5)],
)
def test_an_embedding_of_another_size_alone_proves_nothing(tmp_path, name, times):
    """Models that scale their embedding, or start it at 1, have heads fifty times smaller."""
    case = written(name)
    head = read_head(write(tmp_path, case, embedding=embedding(case, times)))
    assert np.array_equal(head.weight.numpy(), case.weight)


def test_the_root_mean_square_is_of_rows_over_the_whole_matrix(tmp_path, monkeypatch):
    """Rows of no size at the beginning, as of tokens that no text has, decide nothing."""
    monkeypatch.setattr(size, "ROWS", 3)
    case = written("fp8 block")
    other = embedding(case)
    other[:30] = 0
    read_head(write(tmp_path, case, embedding=other))
    with pytest.raises(WideneckError, match="the other way"):
        read_head(write(tmp_path, inverted(case), embedding=other))


def test_an_embedding_with_the_same_mistake_proves_nothing(tmp_path):
    case = inverted(written("fp8 row"))
    write(tmp_path, case)
    beside = {f"model.embed_tokens.{part}": x.clone() for part, x in case.parts.items()}
    edit_tensors(tmp_path, lambda tensors: tensors | beside)
    with pytest.raises(WideneckError, match=r"times those of a head, .*the other way"):
        read_head(tmp_path)


def test_a_head_of_zeros_has_no_size(tmp_path):
    case = written("int8 row")
    case.parts["weight"].zero_()
    assert not read_head(write(tmp_path, case, embedding=torch.ones(37, 96))).weight.any()
