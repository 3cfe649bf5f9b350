"""Which Auto class of transformers makes the model of a config: a decoder of text, or a wrapper.

transformers keeps them in different lists, and some wrappers in several: for the config of Llama 4,
AutoModelForCausalLM has the text part alone, whose parameters have other names than those of a
folder that holds the whole.
"""

from typing import Any

AUTO = ("AutoModelForCausalLM", "AutoModelForImageTextToText", "AutoModelForMultimodalLM")
"""The lists of models that predict the next token."""


def auto_class(config: Any) -> Any:
    """The Auto class for a config of transformers; None where no list has it.

    The one whose class the config names among its architectures, or else the first that knows it.
    """
    import transformers

    known = {}
    for name in AUTO:
        auto = getattr(transformers, name)
        if type(config) in auto._model_mapping:
            found = auto._model_mapping[type(config)]
            known[auto] = {c.__name__ for c in (found if isinstance(found, tuple) else (found,))}
    named = [auto for auto, names in known.items() if names & {*(config.architectures or ())}]
    return next(iter([*named, *known]), None)
