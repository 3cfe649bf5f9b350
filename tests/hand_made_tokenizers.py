"""Small tokenizers of the three kinds that there are, each with tokens of many categories."""

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from wideneck.audits.tokens.spelling import LETTERS

LETTER = {byte: letter for letter, byte in LETTERS.items()}


def letters(text: bytes) -> str:
    """As byte-level BPE spells them."""
    return "".join(LETTER[byte] for byte in text)


def byte_level() -> PreTrainedTokenizerFast:
    """All 256 bytes, « and », whole words, half a character, and names of no vocabulary."""
    whole = ["he", "hell", "hello", "ll", letters("«".encode()), letters("»".encode())]
    half = letters("é世".encode()[:3])
    first = letters("é".encode())
    lost = ["zebra", "[lost]", "[PAD300]", "<unused7>", "<|reserved_special_token_12|>"]
    strings = [*(LETTER[b] for b in range(256)), *whole, first, half, *lost]
    merges = [
        ("h", "e"),
        ("l", "l"),
        ("he", "ll"),
        ("hell", "o"),
        *((a[0], a[1]) for a in (*whole[-2:], first)),
        (first, half[2]),
    ]
    tokenizer = Tokenizer(models.BPE({s: i for i, s in enumerate(strings)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken("<|end|>", special=True)])
    tokenizer.add_tokens([AddedToken("<tool>")])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>")


def with_fallback() -> PreTrainedTokenizerFast:
    """As SentencePiece makes them: pieces, and a token for each byte to fall back on."""
    pieces = ["<unk>", "<s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    pieces += [*"▁helo«»zyA", "▁h", "el", "▁hel", "lo", "▁hello", "▁world", "<unused7>", "[x]"]
    merges = [("▁", "h"), ("e", "l"), ("▁h", "el"), ("l", "o"), ("▁hel", "lo")]
    model = models.BPE(
        {p: i for i, p in enumerate(pieces)},
        merges,
        unk_token="<unk>",
        byte_fallback=True,
        fuse_unk=True,
    )
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>")


def word_piece() -> PreTrainedTokenizerFast:
    """As BERT's: words, pieces that continue one, no bytes."""
    words = ["[PAD]", "[UNK]", "[unused3]", "«", "»", "z", "я", "run", "##ning", "##s", "Run"]
    words += ["[old]", "don't", "яю", "##ю"]
    tokenizer = Tokenizer(models.WordPiece({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]")
