"""The config with which a head starts from a model's own predictions.

Each activation says where it starts, `Activation.start`, exactly or by a shift out of the range of
the model's final logits with the margin of `LogitRange`, 5 and half the range.  No log-probability
moves by more than the logit that moves most: by less than e^-5, unless the model gives logits half
the probed range beyond it.  A soft cap starts on a model with that cap only.
"""

from dataclasses import fields, replace
from typing import Any

from wideneck import config as c
from wideneck.activation import Probe
from wideneck.errors import WideneckError
from wideneck.models import LogitMap


def start_config(
    head: str | dict | c.HeadConfig,
    options: dict[str, Any],
    logit_map: LogitMap,
    probe: Probe,
    model: str,
) -> c.HeadConfig:
    """The head asked for, with every number that was not given set to its start.

    A field of a config that has its default counts as not given.  The range of the logits is probed
    only where a start depends on it.
    """
    given = _given(head, options)
    config = c.head_config(head, **options)
    if isinstance(config, c.MoC | c.LowRank) and logit_map.cap is not None:
        raise _other_cap(model, c.name_of(config), logit_map.cap)
    if isinstance(config, c.LowRank):
        return config  # its factors are cut from the model's matrix, by a text
    if not isinstance(config, c.MoC | c.Mixture):
        return _start_activation(config, given, logit_map, probe, model)
    if config.embedding_size is not None:
        raise WideneckError(
            "A mixture with an embedding_size cannot start from a model's predictions, because its "
            "output matrix is as wide as its hidden states: leave it out, or build the mixture "
            "with wideneck.heads.build and train from scratch."
        )
    if "projection" not in given:
        config = replace(config, projection="residual")
    if config.projection != "residual":
        raise WideneckError(
            "A mixture with projection='tanh' cannot start from a model's predictions: give "
            "projection='residual', or build it with wideneck.heads.build and train from scratch."
        )
    if isinstance(config, c.MoC):
        return config
    inner = options.get("activation", head.get("activation") if isinstance(head, dict) else None)
    given = _given(config.activation if inner is None else inner, {})
    return replace(
        config, activation=_start_activation(config.activation, given, logit_map, probe, model)
    )


def _start_activation(
    config: c.Activation, given: set[str], logit_map: LogitMap, probe: Probe, model: str
) -> c.Activation:
    if logit_map.cap is not None:
        return _capped(config, given, logit_map.cap, model)
    numbers = config.start(given, probe, model)
    if numbers and "learned" not in given:
        numbers["learned"] = True
    return replace(config, **numbers)


def _capped(config: c.Activation, given: set[str], cap: float, model: str) -> c.SoftCap:
    """A model's soft cap is an activation of its own; no other one can be put on top of it."""
    if isinstance(config, c.SoftCap):
        return config if "cap" in given else replace(config, cap=cap)
    if not isinstance(config, c.Softmax):
        raise _other_cap(model, c.name_of(config), cap)
    return c.SoftCap(cap=cap)


def _other_cap(model: str, head: str, cap: float) -> WideneckError:
    return WideneckError(
        f"{model} caps its logits softly at {cap:g}, from which a {head} head cannot start: "
        "attach 'softmax', 'softcap' or 'mos', which keep the cap."
    )


def _given(head: Any, options: dict[str, Any]) -> set[str]:
    """The fields that the user named, or changed in a config object."""
    if isinstance(head, str):
        return set(options)
    if isinstance(head, dict):
        return {str(name) for name in head} | set(options)
    if type(head) not in {type(config) for config in c.HEADS.values()}:
        return set(options)  # head_config says what is wrong with it
    default = type(head)()
    pairs = {f.name: (getattr(head, f.name), getattr(default, f.name)) for f in fields(head)}
    same = {n for n, (a, b) in pairs.items() if a is b or (type(a) is type(b) and a == b)}
    return (pairs.keys() - same) | set(options)
