"""Encoder-decoders for pairs: made from scratch with their tokenizer, or a pretrained one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import BartConfig, BartForConditionalGeneration, PreTrainedTokenizerFast

from wideneck.errors import WideneckError
from wideneck.lab.tasks.pairs import Pair
from wideneck.models.language_model import load_encoder_decoder

IGNORE = -100
BEGIN, PADDING, END = "<s>", "<pad>", "</s>"


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A BART that is trained from scratch, as many layers on each side."""

    hidden_size: int
    num_layers: int
    num_heads: int
    vocab_size: int


Example = dict[str, list[int]]
"""A pair as token ids: `input_ids`, the source, and `labels`, the target."""


@dataclass(frozen=True)
class Encoder:
    """Pairs become ids here, each text with the special tokens of its tokenizer."""

    tokenizer: Any
    source_length: int
    """Tokens; a longer source is cut."""
    target_length: int
    """Tokens; a longer target is cut, and ends there as every text does."""

    def pairs(self, pairs: Sequence[Pair]) -> list[Example]:
        """All pairs as ids."""
        sources = self._ids([pair.source for pair in pairs], self.source_length)
        targets = self._ids([pair.target for pair in pairs], self.target_length)
        return [
            {"input_ids": source, "labels": target}
            for source, target in zip(sources, targets, strict=True)
        ]

    def num_cut(self, splits: Mapping[str, Sequence[Pair]]) -> dict[str, int]:
        """How many sources of each split are cut, and of targets those splits that have such."""
        sources = {
            split: self._num_longer([pair.source for pair in pairs], self.source_length)
            for split, pairs in splits.items()
        }
        targets = {
            f"targets of {split}": self._num_longer([p.target for p in pairs], self.target_length)
            for split, pairs in splits.items()
        }
        return sources | {name: number for name, number in targets.items() if number}

    def _num_longer(self, texts: list[str], length: int) -> int:
        return sum(len(ids) > length for ids in self.tokenizer(texts, verbose=False).input_ids)

    def _ids(self, texts: list[str], length: int) -> list[list[int]]:
        return self.tokenizer(texts, truncation=True, max_length=length).input_ids


def trained_tokenizer(pairs: Sequence[Pair], vocab_size: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE (Sennrich et al. 2016) of sources and targets alike; texts end with `END`."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[BEGIN, PADDING, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator((t for pair in pairs for t in (pair.source, pair.target)), trainer)
    inner.post_processor = processors.TemplateProcessing(
        single=f"$A {END}", special_tokens=[(END, inner.token_to_id(END))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token=BEGIN, pad_token=PADDING, eos_token=END
    )


def from_scratch(shape: Shape, positions: int, tokenizer: Any) -> Any:
    """A BART without dropout, whose start the current random state decides."""
    config = BartConfig(
        vocab_size=len(tokenizer),
        d_model=shape.hidden_size,
        encoder_layers=shape.num_layers,
        decoder_layers=shape.num_layers,
        encoder_attention_heads=shape.num_heads,
        decoder_attention_heads=shape.num_heads,
        encoder_ffn_dim=4 * shape.hidden_size,
        decoder_ffn_dim=4 * shape.hidden_size,
        max_position_embeddings=positions,
        scale_embedding=True,
        dropout=0.0,
        bos_token_id=tokenizer.bos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=tokenizer.eos_token_id,
        forced_eos_token_id=None,
    )
    return BartForConditionalGeneration(config)


def pretrained(source: str) -> tuple[Any, Any]:
    """Model and tokenizer.

    Raises:
        WideneckError: it is no encoder-decoder, or its tokenizer has no padding, has no end or puts
            none to a text.
    """
    loaded = load_encoder_decoder(source)
    for name in ("pad_token", "eos_token"):
        if getattr(loaded.tokenizer, name) is None:
            raise WideneckError(
                f"The tokenizer of {source} has no {name}, without which texts of unequal length "
                "make no batch: name a model whose tokenizer has one."
            )
    if loaded.tokenizer.eos_token_id not in loaded.tokenizer("a").input_ids:
        raise WideneckError(
            f"The tokenizer of {source} does not put its eos_token to the end of a text, so that "
            "no model learns where one ends: give the tokenizer that the model was trained with."
        )
    return loaded.model, loaded.tokenizer


def batched(examples: Sequence[Example], padding: int) -> dict[str, Tensor]:
    """What a model takes, padded on the right."""
    sources = [torch.tensor(one["input_ids"]) for one in examples]
    targets = [torch.tensor(one["labels"]) for one in examples]
    ids = pad_sequence(sources, batch_first=True, padding_value=padding)
    lengths = torch.tensor([len(source) for source in sources])
    return {
        "input_ids": ids,
        "attention_mask": (torch.arange(ids.shape[1]) < lengths[:, None]).long(),
        "labels": pad_sequence(targets, batch_first=True, padding_value=IGNORE),
    }
