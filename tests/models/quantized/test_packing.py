import pytest
import torch

from quantized_files import packed_bits
from wideneck.models.quantized.packing import num_words, unpack


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("count", [1, 7, 31, 32, 33, 100])
def test_numbers_come_out_of_the_bits_that_they_were_put_into(bits, count):
    torch.manual_seed(0)
    numbers = torch.randint(0, 1 << bits, (3, count), dtype=torch.int32)
    words = torch.tensor([packed_bits(row.tolist(), bits) for row in numbers], dtype=torch.int32)
    assert words.shape[1] == num_words(bits, count)
    assert torch.equal(unpack(words, bits, count), numbers)


@pytest.mark.parametrize("bits", range(1, 9))
def test_the_largest_number_has_no_sign(bits):
    words = torch.full((1, bits), -1, dtype=torch.int32)
    assert torch.equal(unpack(words, bits, 32), torch.full((1, 32), (1 << bits) - 1))
