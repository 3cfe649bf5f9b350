"""`import wideneck` is free, and `import wideneck.auto` has transformers know its models."""

import subprocess
import sys

import pytest
import torch
from attachable import attached

LOAD = "AutoModelForCausalLM.from_pretrained(sys.argv[1])"
CHECK = "print(type(model.lm_head).__name__, model.lm_head.weight.shape[0])"
ORDERS = {
    "wideneck first": "import wideneck.auto; from transformers import AutoModelForCausalLM",
    "transformers first": "from transformers import AutoModelForCausalLM; import wideneck.auto",
    "a name is used": "from wideneck import attach; from transformers import AutoModelForCausalLM",
}


def python(code, *args):
    command = [sys.executable, "-c", f"import sys; {code}", *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    torch.manual_seed(0)
    attached("llama", "moss").save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("order", ORDERS)
def test_transformers_loads_the_model_in_either_order(order, folder):
    result = python(f"{ORDERS[order]}; model = {LOAD}; {CHECK}", folder)
    assert result.stdout.split() == ["MixtureHead", "96"], result.stderr


def test_import_loads_neither_torch_nor_transformers_and_leaves_the_finders():
    code = (
        "before = list(sys.meta_path); import wideneck; "
        "print('torch' in sys.modules, 'transformers' in sys.modules, sys.meta_path == before)"
    )
    assert python(code).stdout.split() == ["False", "False", "True"]


def test_a_second_registration_changes_nothing():
    code = (
        "import wideneck.auto; from wideneck.attached import registration; "
        "before = list(sys.meta_path); registration.register(); print(sys.meta_path == before)"
    )
    assert python(code).stdout.split() == ["True"]
