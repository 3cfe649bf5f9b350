"""Tiny models that see: a decoder of text beside a tower for images with as many layers."""

import torch
import transformers as tr

from tiny import LLAMA, V

IMAGE_TOKEN, VIDEO_TOKEN = 90, 93
VISION = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 8,
    "patch_size": 4,
}
TEXT = LLAMA | {"num_hidden_layers": 2}


def llava():
    config = tr.LlavaConfig(
        vision_config=tr.CLIPVisionConfig(**VISION),
        text_config=tr.LlamaConfig(**TEXT),
        image_token_id=IMAGE_TOKEN,
        vision_feature_layer=-1,
    )
    return tr.LlavaForConditionalGeneration(config), {"pixel_values": torch.randn(1, 3, 8, 8)}


def gemma3():
    config = tr.Gemma3Config(
        text_config=tr.Gemma3TextConfig(**TEXT, head_dim=8, sliding_window=8),
        vision_config=tr.SiglipVisionConfig(**VISION, vision_use_head=False),
        mm_tokens_per_image=4,
        image_token_id=IMAGE_TOKEN,
        boi_token_id=91,
        eoi_token_id=92,
    )
    return tr.Gemma3ForConditionalGeneration(config), {"pixel_values": torch.randn(1, 3, 8, 8)}


def qwen(family):
    def make():
        rope = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e4}
        text = {**TEXT, "rope_parameters": rope}
        vision = {
            "depth": 2, "num_heads": 2, "patch_size": 4, "temporal_patch_size": 2,
            "spatial_merge_size": 2, "in_channels": 3, "intermediate_size": 32, "hidden_size": 16,
        }  # fmt: skip
        if family == "Qwen2VL":
            vision |= {"embed_dim": 16, "mlp_ratio": 2}
        else:
            vision |= {"out_hidden_size": 16}
        if family == "Qwen3VL":
            text |= {"head_dim": 8}
            vision |= {"num_position_embeddings": 16, "deepstack_visual_indexes": [0]}
        if family == "Qwen2_5_VL":
            vision |= {"window_size": 16, "fullatt_block_indexes": [0]}
        config = getattr(tr, f"{family}Config")(
            text_config=text,
            vision_config=vision,
            image_token_id=IMAGE_TOKEN,
            vision_start_token_id=91,
            vision_end_token_id=92,
            video_token_id=VIDEO_TOKEN,
        )
        model = getattr(tr, f"{family}ForConditionalGeneration")(config)
        grid = torch.tensor([[1, 4, 4]])
        return model, {"pixel_values": torch.randn(16, 3 * 2 * 16), "image_grid_thw": grid}

    return make


SEEING = {
    "llava": llava,
    "gemma3": gemma3,
    "qwen2-vl": qwen("Qwen2VL"),
    "qwen2.5-vl": qwen("Qwen2_5_VL"),
    "qwen3-vl": qwen("Qwen3VL"),
}
TWINS = {
    "gemma3": (tr.Gemma3TextConfig, tr.Gemma3ForCausalLM),
    "qwen3-vl": (tr.Qwen3Config, tr.Qwen3ForCausalLM),
}
"""Classes of transformers for the text part alone."""


def seeing(name):
    """The model, and a prompt with an image in it."""
    torch.manual_seed(0)
    model, image = SEEING[name]()
    ids = torch.tensor([[5, 6, 91, *[IMAGE_TOKEN] * 4, 92, 7, 8, 9, 10]])
    inputs = {"input_ids": ids, **image}
    kinds = (ids == IMAGE_TOKEN).long()
    if name.startswith("qwen"):
        inputs["mm_token_type_ids"] = kinds
    if name == "gemma3":
        inputs["token_type_ids"] = kinds
    return model.eval(), inputs


def text_twin(name, model):
    """The text part of a model as a model of its own, with the same weights."""
    config_class, model_class = TWINS[name]
    text = model.config.text_config
    more = {"tie_word_embeddings": model.config.tie_word_embeddings, "head_dim": 8}
    more |= {"rms_norm_eps": text.rms_norm_eps}
    if name == "gemma3":
        more |= {"sliding_window": text.sliding_window}
    twin = model_class(config_class(**TEXT, **more))
    assert twin.config.vocab_size == V
    twin.model.load_state_dict(model.model.language_model.state_dict())
    twin.lm_head.load_state_dict(model.lm_head.state_dict())
    return twin.eval()
