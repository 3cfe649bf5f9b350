"""What TRL puts on a model, with its names and what it closes over, and its result without TRL."""

import types
from dataclasses import dataclass
from typing import Any

FUSED = """
def add_fused_lm_head(model, temperature=1.0, cast_lm_head_to_fp32=False, outputs=("log_probs",)):
    original_forward = model.forward
    text_config, backbone_attr = model.config, "base_model"
    logit_scale, final_logit_softcapping = 1.0, None

    def _fused_forward(self, *args, fused_lm_head=False, **kwargs):
        if not fused_lm_head:
            return original_forward(*args, **kwargs)
        hidden = getattr(self, backbone_attr)(**kwargs).last_hidden_state
        logits = hidden @ self.get_output_embeddings().weight.T
        return logits, temperature, cast_lm_head_to_fp32, outputs, text_config, logit_scale, (
            final_logit_softcapping
        )

    model.forward = MethodType(_fused_forward, model)


def add_future_lm_head(model, temperature=1.0, outputs=("log_probs",), minimum=0.1):
    def _fused_forward(self, *args, fused_lm_head=False, **kwargs):
        hidden = self.base_model(**kwargs).last_hidden_state
        return hidden @ self.get_output_embeddings().weight.T, temperature, outputs, minimum

    model.forward = MethodType(_fused_forward, model)
"""
REDIRECTED = """
def redirect(model, method):
    original_forward = model.forward

    def wrapped_forward(*args, **kwargs):
        model.forward = original_forward
        return method(*args, **kwargs)

    model.forward = wrapped_forward
"""


@dataclass
class FusedCausalLMOutput:
    loss: Any = None
    log_probs: Any = None
    entropy: Any = None
    log_sum_sq_probs: Any = None
    mean_logits: Any = None
    is_top1: Any = None
    label_mask: Any = None
    aux_loss: Any = None


def functions(module: str, source: str) -> types.SimpleNamespace:
    """The functions of a source as if they stood in a module of that name."""
    given = {"__name__": module, "MethodType": types.MethodType}
    given["FusedCausalLMOutput"] = FusedCausalLMOutput
    exec(source, given)
    return types.SimpleNamespace(**given)


utils = functions("trl.trainer.utils", FUSED)
redirection = functions("trl.models.utils", REDIRECTED)
