"""The attention section against its second, obvious implementation, every field of its report."""

import copy
import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pytest
import torch
import transformers as tr

import wideneck as wn
from audits.attention import obvious_model as formulas
from audits.attention.obvious_model import ObviousModel
from audits.attention.obvious_section import ObviousSection
from tiny import GPT2, LLAMA
from tiny_text import character_tokenizer
from wideneck.attention import use
from wideneck.audits.attention import jacobian, selection
from wideneck.audits.attention.results import Spread
from wideneck.audits.attention.settings import AttentionSettings
from wideneck.data import cut_windows, read_text

SEED = 5
CONTEXT = 14
SETTINGS = AttentionSettings(
    context=CONTEXT,
    num_windows=2,
    sizes=(1, 3, 6),
    reference_size=3,
    num_queries=4,
    level=0.3,
    temperatures=(0.3, 3.0),
    steps=(1e-2, 1.0),
    ablation_context=9,
)
TWO = {"num_hidden_layers": 2}
TWO_LAYERS = {"n_layer": 2}
GROUPED = TWO | {"num_attention_heads": 4, "num_key_value_heads": 2}
DOCUMENTS = (9, 15, 90, 33)
"""Characters, one a token: the first is shorter than a window, the third gives two."""


OWN = "the model's own ({})"
NARROW = "it takes heads of width 16, 32, 64, 128 or 256, here 4"


def dense(name, why_not_adasplash):
    """The route of a normalizer that needs all scores of a query, on a CPU."""
    return (
        f"dense (not sdpa: {name} is no softmax of changed scores; not flex: {name} looks at all "
        f"scores of a query at once; not adasplash: {why_not_adasplash})"
    )


@dataclass(frozen=True)
class Case:
    """A model, what is asked of it, and what the report says that is not a number measured."""

    config: Any
    temperatures: tuple[float, ...]
    """What each layer divides q k by."""
    changes: dict = field(default_factory=dict)
    """Of the settings."""
    choices: tuple[str, ...] = ()
    start: dict | None = None
    """The normalizer that the model is under."""
    numbers: tuple[str, ...] = ()
    """Its parameters, which differ from head to head and from layer to layer."""
    said: str = "softmax"
    route: str = OWN
    limit: float | None = 0.5
    steps: bool = True
    comparison: tuple[str, ...] = ()
    elements: int = 2**16
    noise: float = 0.2
    """Of every weight; without, attention rows would be nearly uniform."""


CASES = {
    "heads of two scales": Case(
        lambda: tr.GPT2Config(
            **GPT2 | {"n_layer": 2, "n_head": 4}, scale_attn_by_inverse_layer_idx=True
        ),
        (2.0, 4.0),
        {"num_windows": 4, "draws": 3, "critical_up_to": 5},
        choices=("draws = 3", "critical_up_to = 5"),
    ),
    "grouped heads": Case(
        lambda: tr.GraniteConfig(
            **LLAMA | GROUPED, attention_multiplier=0.4, logits_scaling=8.0, head_dim=4
        ),
        (2.5, 2.5),
        {"normalize_distance": True, "normalize_geometry": False},
        choices=("normalize_distance = True", "normalize_geometry = False"),
        comparison=("ssmax", "sparsemax", "stickbreaking"),
    ),
    "windows and capped scores": Case(
        lambda: tr.Gemma2Config(
            **LLAMA | TWO | {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 6},
            sliding_window=5,
            query_pre_attn_scalar=9,
            attn_logit_softcapping=2.0,
            final_logit_softcapping=5.0,
        ),
        (3.0, 3.0),
        {"num_windows": 1, "vectors": "hidden", "drop_first": True, "critical_up_to": 7},
        choices=("drop_first = True", "critical_up_to = 7"),
        steps=False,
    ),
    "long, a block of queries at a time": Case(
        lambda: tr.Qwen3Config(
            **LLAMA | TWO | {"head_dim": 4},
            layer_types=["sliding_attention", "full_attention"],
            use_sliding_window=True,
            sliding_window=20,
        ),
        (2.0, 2.0),
        {
            "context": 40,
            "sizes": (1, 4),
            "reference_size": 4,
            "critical_up_to": 4,
            "level": 0.02,  # below 2 / 70, the least of four heads against four
        },
        choices=("critical_up_to = 4",),
        elements=100,
    ),
    "scaled by head": Case(
        lambda: tr.LlamaConfig(**LLAMA | TWO | {"hidden_size": 24, "num_attention_heads": 6}),
        (2.0, 2.0),
        {"vectors": "embeddings"},
        start={"name": "ssmax", "scale": 0.2, "bias": 0.3},
        numbers=("scale", "bias"),
        said="ssmax (scale 0.2, bias 0.3)",
        route="sdpa",
        limit=None,
        steps=False,
    ),
    "a sink, and keys that are hidden": Case(
        lambda: tr.GPT2Config(**GPT2 | TWO_LAYERS),
        (math.sqrt(8), math.sqrt(8)),
        {"num_windows": 3, "include_masked": True, "sizes": (1, 2, 3), "ablation_context": 0},
        choices=("include_masked = True",),
        start={"name": "sink", "logit": 0.7, "learned": False},
        said="sink (logit 0.7)",
        route="sdpa",
        steps=False,
    ),
    "numbers by query": Case(
        lambda: tr.LlamaConfig(**LLAMA | GROUPED),
        (2.0, 2.0),
        {"sizes": (1, 2), "reference_size": 2, "ablation_context": 0},
        start={"name": "asentmax"},
        numbers=("beta", "gamma"),
        said="asentmax (alpha 1.5, delta 1, reach 2, beta 0.693147, gamma 0)",
        route=dense("asentmax", NARROW),
        limit=None,
        steps=False,
        noise=0.1,
    ),
}


def model_of(case):
    torch.manual_seed(1)
    model = tr.AutoModelForCausalLM.from_config(case.config())
    for parameter in model.parameters():
        parameter.data.add_(case.noise * torch.randn_like(parameter))
    return model.eval()


def text_of(folder):
    noise = torch.randint(95, (sum(DOCUMENTS),), generator=torch.Generator().manual_seed(2))
    characters = "".join(chr(32 + int(i)) for i in noise)
    starts = [sum(DOCUMENTS[:i]) for i in range(len(DOCUMENTS))]
    parts = [characters[s : s + n] for s, n in zip(starts, DOCUMENTS, strict=True)]
    path = folder / "text.txt"
    path.write_text("\f".join(parts))
    return read_text(path)


class Compared(NamedTuple):
    """A normalizer that the model is put under for a comparison."""

    config: str | dict
    said: str
    formula: Any
    route: str
    has_jacobian: bool = True


COMPARED = {
    "ssmax": Compared(
        {"name": "ssmax", "scale": 0.4, "bias": 0.2},
        "ssmax (scale 0.4, bias 0.2)",
        formulas.scaled(0.4, 0.2),
        "sdpa",
    ),
    "sparsemax": Compared("sparsemax", "sparsemax", formulas.sparsemax, dense("sparsemax", NARROW)),
    "stickbreaking": Compared(
        "stickbreaking",
        "stickbreaking",
        formulas.stickbreaking,
        dense("stickbreaking", "stickbreaking is no entmax"),
        False,
    ),
}


def put_under(model, case):
    """The model under the normalizer of its case, and the formula of that."""
    if case.start is None:
        return formulas.softmax
    use(model, case.start)
    found = {name: [] for name in case.numbers}
    for module in model.modules():
        for name in case.numbers if hasattr(module, "normalizer") else ():
            parameter = getattr(module.normalizer, name)
            parameter.data.add_(0.1 * torch.randn_like(parameter))
            found[name].append(parameter.detach().double().clone())
    if case.start["name"] == "sink":
        return formulas.sink(case.start["logit"])
    return getattr(formulas, case.start["name"])(**found)


@pytest.mark.parametrize("name", CASES)
def test_every_field_is_that_of_the_obvious_implementation(name, tmp_path, monkeypatch):
    monkeypatch.setattr(selection, "BLOCK_ELEMENTS", CASES[name].elements)
    monkeypatch.setattr(jacobian, "BLOCK_ELEMENTS", CASES[name].elements)
    text = text_of(tmp_path)
    assert differences(audited(CASES[name], text), expected_of(CASES[name], text)) == []


def audited(case, text):
    model = model_of(case)
    put_under(model, case)
    report = wn.audit(
        model,
        text,
        "attention",
        tokenizer=character_tokenizer(bos=True),
        attention=dataclasses.replace(SETTINGS, **case.changes),
        normalizers=[COMPARED[name].config for name in case.comparison],
        seed=SEED,
    )
    return report.attention


def expected_of(case, text):
    settings = dataclasses.replace(SETTINGS, **case.changes)
    model = model_of(case)
    plain = copy.deepcopy(model)
    formula = put_under(model, case)
    length = settings.context - 1
    windows = cut_windows(
        text,
        character_tokenizer(bos=True),
        num_tokens=settings.num_windows * length,
        window=length,
        prefix=(0,),
        seed=SEED,
    )
    own = ObviousSection(
        ObviousModel(plain, formula),
        windows,
        settings,
        SEED,
        temperatures=case.temperatures if case.steps else None,
        elements=case.elements,
    )
    route = case.route.format(plain.config._attn_implementation)
    comparison = [("softmax, the model's own", own, route)] if case.comparison else []
    few = dataclasses.replace(settings, sizes=(settings.reference_size,), critical_up_to=0)
    for other in (COMPARED[name] for name in case.comparison):
        under = ObviousModel(plain, other.formula)
        how = {"has_jacobian": other.has_jacobian, "compared": True}
        section = ObviousSection(under, windows, few, SEED, **how)
        comparison.append((other.said, section, other.route))
    return own.audit(
        comparison,
        normalizer=case.said,
        route=route,
        choices=[*case.choices, *changed_of(settings)],
        temperature=case.temperatures[0],
        jacobian_limit=case.limit,
        notes=[],
    )


def changed_of(settings):
    """What no case leaves at its default, as the report names it."""
    names = ("level", "temperatures", "steps", "ablation_context")
    return [f"{name} = {getattr(settings, name)}" for name in names]


def differences(found, expected, path="attention"):
    """Where they differ, as lines; a field that is not expected is a difference."""
    if dataclasses.is_dataclass(expected):
        expected = vars_of(expected)
    if dataclasses.is_dataclass(found):
        found = vars_of(found)
    if isinstance(found, dict):
        if not isinstance(expected, dict) or set(found) != set(expected):
            return [f"{path}: fields {sorted(found)}, expected {expected}"]
        return [
            line
            for name, value in found.items()
            for line in differences(value, expected[name], f"{path}.{name}")
        ]
    if isinstance(found, list):
        if len(found) != len(expected):
            return [f"{path}: {len(found)} entries, expected {len(expected)}"]
        return [
            line
            for i, (a, b) in enumerate(zip(found, expected, strict=True))
            for line in differences(a, b, f"{path}[{i}]")
        ]
    if isinstance(found, float) and isinstance(expected, float):
        near = math.isclose(found, expected, rel_tol=1e-4, abs_tol=1e-6)
        same = near or (math.isnan(found) and math.isnan(expected))
    else:
        same = type(found) is type(expected) and found == expected
    return [] if same else [f"{path}: {found!r}, expected {expected!r}"]


def vars_of(record):
    return {f.name: getattr(record, f.name) for f in dataclasses.fields(record)}


def test_a_field_that_the_obvious_implementation_lacks_is_a_difference():
    found = Spread(lowest=0.0, quarter=0.25, median=0.5, three_quarters=0.75, highest=1.0)
    same = vars_of(found)
    assert differences(found, same) == []
    fewer = {name: value for name, value in same.items() if name != "median"}
    for expected in (fewer, same | {"another": 1.0}, same | {"median": 0.5001}, [found]):
        assert len(differences([found], [expected])) == 1
    assert len(differences([found], [same, same])) == 1
    assert len(differences(1, 1.0)) == len(differences(None, math.nan)) == 1
    assert differences(math.nan, math.nan) == differences(None, None) == []
