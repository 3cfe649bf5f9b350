"""A model with a head or a normalizer of wideneck: its own class, saved in another way.

With a head the forward is another one, too.  The class keeps the name of the original, by which
transformers, its Trainer and its pipelines recognize a causal language model.
"""

import functools
import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, final

from torch import Tensor, nn

from wideneck.attached.guard import framed, guarded, is_own, own, unanswered
from wideneck.attached.head_in_model import Asked, Call, HeadCall, answering
from wideneck.attached.low_rank_start import read_start
from wideneck.attached.model_card import complete_card, write_card
from wideneck.attached.normalizer_places import place_saved
from wideneck.attached.own_config import own_config
from wideneck.attached.saved import pop_saved, writing_config
from wideneck.attached.swap import put_memory, serve_bias, swap_head
from wideneck.attached.token_call import REQUEST, Targets, TokenCall, ask_tokens
from wideneck.attached.trl_forward import TrlForward, recognized
from wideneck.attached.trl_trainer import check_builder
from wideneck.config import head_config
from wideneck.functional.token_outputs import TokenOutputs
from wideneck.memory.config import memory_config

if TYPE_CHECKING:
    from transformers import PreTrainedModel as _Model
else:
    # A second PreTrainedModel among the bases would bring its own class attributes in front.
    _Model = object


class SavedModel(_Model):
    """Mixed into a model's class, in front of it, so that its parts are saved and loaded."""

    def __init__(self: Any, config: Any, *args: Any, **kwargs: Any):
        saved = pop_saved(config)
        super().__init__(config, *args, **kwargs)
        if saved.attention is not None:
            place_saved(self, saved.attention)
        if saved.head is not None:
            swap_head(self, head_config(saved.head), saved.logit_scale)
            if saved.start is not None:
                self.get_output_embeddings().start = read_start(saved.start)
        if saved.memory is not None:
            put_memory(self, memory_config(saved.memory))

    def save_pretrained(self: Any, save_directory: Any, *args: Any, **kwargs: Any) -> None:
        """As transformers, but config.json names the parts: `wideneck.load` reads it."""
        with writing_config(self):
            super().save_pretrained(save_directory, *args, **kwargs)
        write_card(self, save_directory, **kwargs)

    def _upload_modified_files(self: Any, working_dir: Any, repo_id: str, *args: Any, **kw: Any):
        complete_card(self, working_dir, repo_id)
        return super()._upload_modified_files(working_dir, repo_id, *args, **kw)  # pyrefly: ignore

    def add_model_tags(self: Any, tags: Any) -> None:
        """As transformers; every trainer of TRL does so when it is built, and is looked at."""
        super().add_model_tags(tags)
        if "trl" in tags:
            check_builder()

    def __reduce__(self):
        return _blank, type(self).__bases__, vars(self)

    @classmethod
    @functools.cache
    def class_of(cls, original: type) -> Any:
        """The class of a model of the original class that is of this kind."""
        # The module is the original's too: transformers reads its own source there.
        body = {"__module__": original.__module__, **cls._replaced(original)}
        return type(original.__name__, (cls, original), body)

    @classmethod
    def _replaced(cls, original: type) -> dict[str, Any]:
        """What such a class has in place of the original's, beside what is mixed in."""
        return {}


@final
class NormalizedModel(SavedModel):
    """A model whose attention has a normalizer, with its own output layer."""


class ModelWithHead(SavedModel):
    """A model with a head of wideneck; its attention may have a normalizer, too.

    Logits are log-probabilities.  With labels in training mode no logits are formed and they
    are None, unless `wants_logits=True` is passed; in eval mode there are both, unless
    `skip_logits=True` is.
    """

    accepts_loss_kwargs = True
    """Tells the Trainer that `num_items_in_batch` is honoured."""

    asked_by_trl: TrlForward | None = None
    """What TRL has asked of the forward, which answers it."""

    @classmethod
    def _replaced(cls, original: type) -> dict[str, Any]:
        return {"forward": _forwarding(original)}

    def __call__(self: Any, *args: Any, **kwargs: Any) -> Any:
        return guarded(self, super().__call__, args, kwargs)  # pyrefly: ignore

    def __setattr__(self: Any, name: str, value: Any) -> None:
        if name == "forward":
            if is_own(value):  # whoever had replaced it takes it back
                vars(self).pop(name, None)
                return
            asked = recognized(value)
            if asked is not None:
                name, value = "asked_by_trl", asked
            else:
                value = framed(self, value)
        super().__setattr__(name, value)

    def _respond(self: Any, original: Any, options: dict[str, Any]) -> Any:
        """The forward, or what TRL has put in the place of it."""
        run = functools.partial(self._forward, original)
        if self.asked_by_trl is not None and self.asked_by_trl.takes(options):
            return self.asked_by_trl.answer(self, run, options)
        return run(options)

    def _ask(self: Any, call: Call, original: Any, options: dict[str, Any]) -> Any:
        """Run the original's forward, and have the head answer on the way."""
        with answering(call):
            result = original(self, return_dict=True, **options)
        if not call.answered:
            raise unanswered(self)
        call.collect(result.logits)
        return result

    def token_outputs(
        self: Any,
        *,
        labels: Tensor | None = None,
        shift_labels: Tensor | None = None,
        outputs: Sequence[str] = ("log_prob",),
        temperature: float | Tensor = 1.0,
        **inputs: Any,
    ) -> TokenOutputs:
        """`wideneck.token_outputs` of this model; of one that is wrapped, call that on the wrapper.

        Args:
            labels: (B, T), as the model takes them; the fields are then (B, T - 1).
            shift_labels: (B, T), aligned with the positions, in their place.
            outputs: the fields that are wanted.
            temperature: of the distribution.
            inputs: of the model's forward, by name.
        """
        return ask_tokens(self, labels, shift_labels, outputs, temperature, inputs)

    def resize_token_embeddings(self: Any, *args: Any, **kwargs: Any) -> Any:
        """As transformers; the head takes the new rows."""
        own_config(self)  # transformers writes the new size there
        head = self.get_output_embeddings()
        trained = {name: p.requires_grad for name, p in head.named_parameters()}
        embedding = super().resize_token_embeddings(*args, **kwargs)
        # transformers gives every parameter of the layer the flag of its weight.
        for name, parameter in head.named_parameters():
            parameter.requires_grad_(trained[name])
        if head.weight.ndim == 2:  # ZeRO-3 may have released it
            head.vocab_size = len(head.weight)  # Marian ties the new weight without asking for it
        serve_bias(self, head)
        return embedding

    def _get_resized_lm_head(
        self: Any,
        old_lm_head: Any,
        new_num_tokens: int | None = None,
        transposed: bool = False,
        mean_resizing: bool = True,
    ) -> Any:
        rows, columns = old_lm_head.weight.shape
        linear = nn.Linear(columns, rows, bias=False, device="meta")
        linear.weight = old_lm_head.weight
        linear.bias = old_lm_head._parameters.get("bias")  # not a final bias, which is the model's
        resized = super()._get_resized_lm_head(linear, new_num_tokens, transposed, mean_resizing)
        old_lm_head.weight, old_lm_head.bias = resized.weight, resized.bias
        old_lm_head.vocab_size = resized.weight.shape[0]
        return old_lm_head


@final
class AttachedModel(ModelWithHead):
    """A model whose head is all that it predicts from."""

    def _forward(self: Any, original: Any, options: dict[str, Any]) -> Any:
        request = options.pop(REQUEST, None)
        if request is not None:
            head = self.get_output_embeddings()
            tokens = TokenCall(head, Targets.taken(self, options), request)
            return tokens.result(self._ask(tokens, original, options))
        asked = Asked.taken(self, options)
        call = HeadCall(self.get_output_embeddings(), asked)
        result = self._ask(call, original, options)
        return asked.result(self, result, call.loss, call.log_probs)


def _forwarding(original: type) -> Any:
    """A forward with the signature of the original, which generate() and the Trainer read."""
    signature = inspect.signature(original.forward)
    names = tuple(signature.parameters)[1:]  # without self

    @functools.wraps(original.forward)
    def forward(self, *args, **kwargs):
        options = {**dict(zip(names, args, strict=False)), **kwargs}
        return guarded(self, self._respond, (original.forward, options), {}, own=True)

    # Whoever unwraps a model, as accelerate does, must arrive here and not at the original.
    vars(forward).pop("__wrapped__")
    forward.__signature__ = signature  # pyrefly: ignore
    return own(forward)


def original_class(cls: type) -> type:
    """The class of transformers behind a model's class, which may be that itself."""
    return cls.__bases__[-1] if issubclass(cls, SavedModel) else cls


def _blank(mixin: Any, original: type) -> Any:
    made = mixin.class_of(original)
    return made.__new__(made)
