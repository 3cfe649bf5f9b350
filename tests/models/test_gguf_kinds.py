"""Every kind of block that the gguf package decodes, a few rows at a time."""

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Kind

from wideneck.models import gguf_head, read_head

ROWS, COLUMNS = 7, 512


def decoded(kind):
    """Random bytes of a matrix and its numbers; None where the package has no decoder.

    Bytes below 0x70 make no infinite and no NaN number of two bytes.
    """
    block, size = gguf.GGML_QUANT_SIZES[kind]
    generator = np.random.default_rng(0)
    shape = (ROWS, COLUMNS // block * size)
    data = generator.integers(0, 0x70, shape, dtype=np.uint8)
    try:
        return data, gguf.dequantize(data, kind)
    except NotImplementedError:
        return None


BLOCKS = {
    kind.name: made
    for kind in Kind
    if gguf.GGML_QUANT_SIZES[kind][0] > 1 and (made := decoded(kind)) is not None
}


def test_the_kinds_are_those_that_models_come_in():
    assert {"Q8_0", "Q4_0", "Q5_1", "Q6_K", "Q4_K", "Q3_K", "IQ4_NL", "MXFP4"} <= set(BLOCKS)
    assert len(BLOCKS) > 20


@pytest.mark.parametrize("name", BLOCKS)
def test_blocks_of_rows_are_what_the_package_decodes_at_once(tmp_path, monkeypatch, name):
    monkeypatch.setattr(gguf_head, "BLOCK", 3 * COLUMNS)
    data, want = BLOCKS[name]
    writer = gguf.GGUFWriter(tmp_path / "a.gguf", "llama")
    writer.add_tensor("output.weight", data, raw_dtype=Kind[name])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    head = read_head(tmp_path / "a.gguf")
    assert torch.equal(head.weight, torch.from_numpy(want.reshape(ROWS, COLUMNS)))
    assert head.dtype == name
