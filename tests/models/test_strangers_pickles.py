"""Files of torch.save whose tensors claim what the file does not hold."""

import shutil
import zipfile
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from checkpoints import assert_is_head_of, saved
from tiny import D, V, tiny_model
from wideneck.errors import WideneckError
from wideneck.models import read_head
from wideneck.models.pickle_file import PickleFile


class Claim:
    """Pickled as the tensor of a storage with any offset, shape and strides."""

    def __init__(self, storage, offset, shape, stride):
        self.claim = (storage, offset, shape, stride, False, {})

    def __reduce__(self):
        return torch._utils._rebuild_tensor_v2, self.claim


def claims(path, offset, shape, stride, **how):
    storage = torch.arange(1.0, 1.0 + 2 * V).untyped_storage()
    typed = torch.storage.TypedStorage(wrap_storage=storage, dtype=torch.float32, _internal=True)
    torch.save({"lm_head.weight": Claim(typed, offset, shape, stride)}, path, **how)
    return path


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    ("offset", "shape", "stride", "message"),
    [
        (0, (V, D), (0, 0), r"shape \(96, 16\), and the file stores only 192 numbers"),
        (0, (V, D), (1, 0), "used again and again"),
        (0, (V, D), (1, 1), "used again and again"),
        (0, (2**40, 2**20), (0, 0), "used again and again"),
        (0, (V, D), (D, 1), "its tensors cannot be read"),
        (0, (2**40, D), (D, 1), "its tensors cannot be read"),
        (0, (-1, D), (D, 1), "its tensors cannot be read"),
        (2 * V, (2, 2), (2, 1), "its tensors cannot be read"),
        (0, (2, 2), (-2, 1), "its tensors cannot be read"),
        (0, (2**62, 4), (0, 0), "its tensors cannot be read"),
    ],
)
def test_a_tensor_larger_than_its_storage_is_refused(
    tmp_path, zipped, offset, shape, stride, message
):
    path = claims(tmp_path / "a.bin", offset, shape, stride, _use_new_zipfile_serialization=zipped)
    with pytest.raises(WideneckError, match=message) as caught:
        read_head(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_views_that_repeat_nothing_are_read(tmp_path):
    """Columns, slices and transposes of one storage, and two names of one tensor."""
    base = torch.randn(2 * V, 2 * D)
    tensors = {
        "slice": base[::2, ::2],
        "transposed": base.T,
        "row": base[:1].expand(1, 2 * D),
        "again": base,
        "bias": base[:, 3],
    }
    torch.save(tensors, tmp_path / "a.bin")
    file = PickleFile(tmp_path / "a.bin")
    for name, tensor in tensors.items():
        assert torch.equal(file.read(name), tensor)
    torch.save({"lm_head.weight": base, "model.embed_tokens.weight": base}, tmp_path / "b.bin")
    assert read_head(tmp_path / "b.bin").tied


def test_a_parameter_is_read(tmp_path):
    weight = torch.nn.Parameter(torch.randn(V, D))
    torch.save({"lm_head.weight": weight}, tmp_path / "a.bin")
    assert torch.equal(read_head(tmp_path / "a.bin").weight, weight)


@pytest.mark.parametrize("tensor", [torch.eye(V).to_sparse(), torch.empty(V, D, device="meta")])
def test_a_tensor_without_plain_numbers_is_refused(tmp_path, tensor):
    torch.save({"lm_head.weight": tensor}, tmp_path / "a.bin")
    with pytest.raises(WideneckError, match=r"lm_head\.weight of .* should be plain numbers"):
        read_head(tmp_path / "a.bin")


def compressed(path):
    with zipfile.ZipFile(path) as archive:
        records = [(info.filename, archive.read(info)) for info in archive.infolist()]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in records:
            archive.writestr(name, data)
    return path


def test_compressed_records_are_refused(tmp_path):
    """Mapped, their bytes would be taken for numbers; unpacked, they may be a bomb."""
    torch.save({"lm_head.weight": torch.zeros(V, D)}, tmp_path / "a.bin")
    with pytest.raises(WideneckError, match="its records are compressed"):
        read_head(compressed(tmp_path / "a.bin"))


def save_two(path):
    torch.save({"lm_head.weight": torch.randn(V, D), "other": torch.randn(V)}, path)
    return path


def replaced(path, old, new):
    data = path.read_bytes()
    assert data.count(old) == 1
    path.write_bytes(data.replace(old, new))


def test_a_storage_longer_than_its_record_is_refused(tmp_path):
    """Torch would read on into the records behind it."""
    path = save_two(tmp_path / "a.bin")
    # The pickle's numbers of elements: 96 in one byte, 96 x 16 in two.
    replaced(path, b"M\x00\x06t", b"M\x40\x06t")
    with pytest.raises(WideneckError, match="do not have the sizes of the records"):
        read_head(path)


def test_a_storage_shorter_than_its_record_is_refused(tmp_path):
    path = save_two(tmp_path / "a.bin")
    replaced(path, b"K\x60t", b"K\x40t")
    with pytest.raises(WideneckError, match=r"cannot be read"):
        read_head(path)


def test_a_record_that_no_tensor_uses_is_refused(tmp_path):
    path = save_two(tmp_path / "a.bin")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("a/data/7", bytes(64))
    with pytest.raises(WideneckError, match="do not have the sizes of the records"):
        read_head(path)


def test_absurd_numbers_of_records_are_refused_at_once(tmp_path, monkeypatch):
    import wideneck.models.pickle_file as pickle_file

    path = save_two(tmp_path / "a.bin")
    for name in ("MOST_RECORDS", "LARGEST_PICKLE", "LARGEST_DIRECTORY"):
        with monkeypatch.context() as patch:
            patch.setattr(pickle_file, name, 3)
            with pytest.raises(WideneckError, match=r"a\.bin: its tensors cannot be read .* 3"):
                read_head(path)
    assert read_head(path).weight.shape == (V, D)


@pytest.mark.parametrize("zipped", [True, False])
def test_pt_is_read_like_bin(tmp_path, zipped):
    model: Any = tiny_model("llama")
    model.config.save_pretrained(tmp_path)
    path = tmp_path / "weights.pt"
    torch.save(model.state_dict(), path, _use_new_zipfile_serialization=zipped)
    assert_is_head_of(read_head(path), model)
    assert_is_head_of(read_head(tmp_path), model)


def test_parts_in_pt_are_read(tmp_path):
    model: Any = tiny_model("llama")
    folder = saved(model, tmp_path / "saved", max_shard_size="4KB")
    for shard in folder.glob("*.safetensors"):
        torch.save(load_file(shard), tmp_path / f"{shard.stem}.pt")
    shutil.copy(folder / "config.json", tmp_path)
    assert_is_head_of(read_head(tmp_path), model)


def test_a_pickle_that_shrinks_while_it_is_read_is_refused(tmp_path):
    path = save_two(tmp_path / "a.bin")
    file = PickleFile(path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(WideneckError, match="has changed while it was read"):
        file.read("lm_head.weight")


def test_the_name_that_a_file_was_saved_under_is_part_of_the_names_of_its_records(tmp_path):
    path = tmp_path / "data.bin"
    matrix = torch.randn(V, D)
    torch.save({"lm_head.weight": matrix}, path)
    assert "data/data.pkl" in zipfile.ZipFile(path).namelist()
    assert read_head(path).weight.equal(matrix)
