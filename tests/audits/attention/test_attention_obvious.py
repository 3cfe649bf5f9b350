"""The attention section against its second, obvious implementation, every field of its report."""

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
import transformers as tr

import wideneck as wn
from audits.attention import obvious_model as formulas
from audits.attention.obvious_model import ObviousModel
from audits.attention.obvious_rows import ELEMENTS
from audits.attention.obvious_section import ObviousSection
from tiny import GPT2, LLAMA
from tiny_text import character_tokenizer
from wideneck.attention import use
from wideneck.audits.attention import jacobian, selection
from wideneck.audits.attention.results import AttentionAudit, Spread
from wideneck.audits.attention.settings import AttentionSettings
from wideneck.data import cut_windows, read_text

SEED = 5
CONTEXT = 14
SETTINGS = AttentionSettings(
    context=CONTEXT,
    num_windows=3,
    sizes=(1, 3, 6),
    reference_size=3,
    num_queries=5,
    critical_up_to=6,
    level=0.3,
    temperatures=(0.3, 3.0),
    steps=(1e-2, 1.0),
    ablation_context=9,
)
GROUPED = {"hidden_size": 24, "num_attention_heads": 6, "num_key_value_heads": 2}
DOCUMENTS = (9, 15, 90, 33)
"""Characters, one a token: the first is shorter than a window, the third gives two."""


@dataclass(frozen=True)
class Case:
    """A model, what is asked of it, and what the report says that is not a number measured."""

    config: Any
    changes: dict = field(default_factory=dict)
    """Of the settings."""
    normalizer: str = "softmax"
    said: str = "softmax"
    limit: float | None = 0.5
    comparison: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    elements: int = ELEMENTS
    temperatures: tuple[float, ...] | None = None
    head_dim: int = 4


CASES = {
    "heads": Case(
        lambda: tr.GPT2Config(
            **GPT2 | {"n_layer": 2, "n_head": 4}, scale_attn_by_inverse_layer_idx=True
        ),
        {"draws": 3},
        temperatures=(2.0, 4.0),
        choices=("draws = 3",),
    ),
    "groups": Case(
        lambda: tr.LlamaConfig(**LLAMA | GROUPED | {"num_hidden_layers": 2}),
        {"normalize_distance": True, "normalize_geometry": False},
        temperatures=(2.0, 2.0),
        choices=("normalize_distance = True", "normalize_geometry = False"),
        comparison=("logn", "sparsemax", "stickbreaking"),
    ),
}


def model_of(case):
    torch.manual_seed(1)
    model = tr.AutoModelForCausalLM.from_config(case.config())
    for parameter in model.parameters():  # or every attention row is nearly uniform
        parameter.data.add_(0.3 * torch.randn_like(parameter))
    return model.eval()


def text_of(folder):
    noise = torch.randint(95, (sum(DOCUMENTS),), generator=torch.Generator().manual_seed(2))
    characters = "".join(chr(32 + int(i)) for i in noise)
    starts = [sum(DOCUMENTS[:i]) for i in range(len(DOCUMENTS))]
    parts = [characters[s : s + n] for s, n in zip(starts, DOCUMENTS, strict=True)]
    path = folder / "text.txt"
    path.write_text("\f".join(parts))
    return read_text(path)


COMPARED = {
    "logn": ("logn", formulas.logn, True),
    "sparsemax": ("sparsemax", formulas.sparsemax, True),
    "stickbreaking": ("stickbreaking", formulas.stickbreaking, False),
}


@pytest.mark.parametrize("name", CASES)
def test_every_field_is_that_of_the_obvious_implementation(name, tmp_path, monkeypatch):
    case = CASES[name]
    monkeypatch.setattr(selection, "BLOCK_ELEMENTS", case.elements)
    monkeypatch.setattr(jacobian, "BLOCK_ELEMENTS", case.elements)
    settings = dataclasses.replace(SETTINGS, **case.changes)
    model, text = model_of(case), text_of(tmp_path)
    tokenizer = character_tokenizer(bos=True)
    length = settings.context - 1
    windows = cut_windows(
        text,
        tokenizer,
        num_tokens=settings.num_windows * length,
        window=length,
        prefix=(0,),
        seed=SEED,
    )

    def section(formula, settings, **how):
        return ObviousSection(ObviousModel(model, formula), windows, settings, SEED, **how)

    own = section(
        formulas.softmax, settings, temperatures=case.temperatures, elements=case.elements
    )
    few = dataclasses.replace(settings, sizes=(settings.reference_size,), critical_up_to=0)
    comparison = [("softmax, the model's own", own)] if case.comparison else []
    for compared in case.comparison:
        said, formula, has_jacobian = COMPARED[compared]
        comparison.append((said, section(formula, few, has_jacobian=has_jacobian)))
    expected = own.audit(
        comparison,
        normalizer=case.said,
        choices=chosen(case),
        temperature=case.temperatures[0],
        jacobian_limit=case.limit,
        notes=[],
    )
    report = wn.audit(
        model,
        text,
        "attention",
        tokenizer=tokenizer,
        attention=settings,
        normalizers=case.comparison,
        seed=SEED,
    )
    assert report.attention is not None
    assert differences(report.attention, expected) == []


def chosen(case):
    """As the report names what is not the default, in the order of the settings."""
    told = ["critical_up_to = 6", "level = 0.3", "temperatures = (0.3, 3.0)", "steps = (0.01, 1.0)"]
    before = [c for c in case.choices if c.split()[0] in BEFORE]
    return [*before, *told, "ablation_context = 9"]


BEFORE = ("normalize_distance", "normalize_geometry", "include_masked", "drop_first", "draws")


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
