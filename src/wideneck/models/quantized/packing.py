"""Whole numbers of a few bits, packed without a gap into words of 32, the lowest bits first.

Word and bit of number i are those of bit i * bits of the row; 32 numbers fill `bits` words.
"""

import torch
from torch import Tensor

WORD = 32


def unpack(words: Tensor, bits: int, count: int) -> Tensor:
    """Numbers 0 .. 2^bits - 1.

    Args:
        words: (..., W) int32.
        bits: 1 to 8.
        count: numbers in a row, at most 32 W / bits.

    Returns:
        (..., count) int32.
    """
    mask = (1 << bits) - 1
    if WORD % bits == 0:
        numbers = (words[..., None] >> torch.arange(0, WORD, bits, dtype=torch.int32)) & mask
        return numbers.flatten(-2)[..., :count]
    at = torch.arange(count) * bits
    word, bit = at // WORD, at % WORD
    wide = words.to(torch.int64) & 0xFFFFFFFF
    # A number that begins in one word and ends in the next.
    after = (word + 1).clamp(max=words.shape[-1] - 1)
    both = wide[..., word] | (wide[..., after] << WORD)
    return ((both >> bit) & mask).to(torch.int32)


def num_words(bits: int, count: int) -> int:
    """Words that hold `count` numbers."""
    return -(-count * bits // WORD)
