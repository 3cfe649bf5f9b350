"""Tiny judges on disk, with tokenizers of single words made by hand."""

import torch
import transformers as tr
from tokenizers import Tokenizer, models, pre_tokenizers, processors

MARKS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
WORDS = [*MARKS, *"abcdefghijklmnopqrstuvwxyz"]
SIZES = {
    "vocab_size": len(WORDS),
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 24,
    "pad_token_id": 0,
    "bos_token_id": 2,
    "eos_token_id": 3,
}
BART = {
    "vocab_size": len(WORDS),
    "d_model": 16,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "max_position_embeddings": 24,
    "pad_token_id": 0,
    "bos_token_id": 2,
    "eos_token_id": 3,
    "decoder_start_token_id": 3,
}
NLI = {0: "CONTRADICTION", 1: "neutral", 2: "Entailment"}


def tokenizer(*, marks=True, types=False, pad="[PAD]"):
    made = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    if marks:
        made.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]",
            pair="[CLS] $A [SEP] $B:1 [SEP]:1",
            special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
        )
    # What a file says of sides and cutting is that of another use.
    made.enable_truncation(5)
    return tr.PreTrainedTokenizerFast(
        tokenizer_object=made,
        pad_token=pad,
        unk_token="[UNK]",
        padding_side="left",
        truncation_side="left",
        model_input_names=["input_ids", *["token_type_ids"] * types, "attention_mask"],
    )


def saved(model, folder, **of_tokenizer):
    """The folder of a model in float32 with a tokenizer, its weights far from where they start."""
    torch.manual_seed(0)
    for parameter in model.parameters():
        parameter.data.add_(0.3 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    tokenizer(**of_tokenizer).save_pretrained(folder)
    return folder


def classifier(labels=NLI, **sizes):
    config = tr.BertConfig(**SIZES | sizes, id2label=labels)
    return tr.BertForSequenceClassification(config)


def encoder(cls=tr.RobertaForMaskedLM, **sizes):
    return cls(tr.RobertaConfig(**SIZES | {"type_vocab_size": 1} | sizes))


def random_texts(seed, *lengths):
    draw = torch.Generator().manual_seed(seed)
    return [
        " ".join(WORDS[i] for i in torch.randint(4, len(WORDS), (n,), generator=draw))
        for n in lengths
    ]
