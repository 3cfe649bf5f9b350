"""Models on accelerators, over a map of devices, in bfloat16, and by several processes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import transformers as tr

import wideneck as wn
from tiny import LLAMA
from tiny_text import character_tokenizer, write_text
from wideneck.audits.output.layer import OutputLayer
from wideneck.audits.states import collect_states
from wideneck.commands.audit import audited
from wideneck.commands.evaluate import _shared, evaluate
from wideneck.data import cut_windows, read_text
from wideneck.entry.audit import default_tokens
from wideneck.errors import WideneckError
from wideneck.models import load_language_model, measure_logit_map, read_head
from wideneck.models.device_map import is_offloaded
from wideneck.models.placement import Placement, placement
from wideneck.models.ranks import Ranks

HERE = Path(__file__).parent
SECTIONS = ("head", "output", "attention", "memory")
MAP = {
    "model.embed_tokens": "cpu",
    "model.layers.0": "disk",
    "model.layers.1": "cpu",
    "model.norm": "cpu",
    "model.rotary_emb": "cpu",
    "lm_head": "disk",
}


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    return write_text(tmp_path_factory.mktemp("text") / "text.txt")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("llama")
    config = tr.LlamaConfig(**LLAMA | {"num_hidden_layers": 2}, initializer_range=0.3)
    tr.LlamaForCausalLM(config).save_pretrained(path)
    character_tokenizer(bos=True).save_pretrained(path)
    return path


def printed(script, *arguments, given=None):
    """The lines that a script prints, with one thread and products that repeat to the bit."""
    paths = [str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH", "")]
    result = subprocess.run(
        [sys.executable, str(HERE / script), *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"},
        input=given,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout.splitlines()


def report(folder, text, **options):
    settings = wn.AttentionSettings(context=32, num_windows=3, sizes=(1, 5), ablation_context=24)
    return wn.audit(
        folder, text, SECTIONS, num_tokens=256, attention=settings, argmaxable=False, **options
    )


def measured(found):
    """The sections, as they are written."""
    return {name: found.to_dict()[name] for name in SECTIONS}


def close(value, other, *, beside=1e-5):
    """Equal but for rounding of float32."""
    if isinstance(value, dict):
        return value.keys() == other.keys() and all(close(value[k], other[k]) for k in value)
    if isinstance(value, list):
        same = len(value) == len(other)
        return same and all(close(x, y) for x, y in zip(value, other, strict=True))
    if isinstance(value, float) and isinstance(other, float):
        return other == pytest.approx(value, rel=1e-3, abs=beside)
    return value == other


@pytest.fixture(scope="module")
def plain(folder, text):
    return report(folder, text, device="cpu")


def test_a_model_on_cpu_and_disk_has_the_report_of_one_in_memory(folder, text, plain):
    mapped = report(folder, text, device_map=MAP, batch=1)
    assert measured(mapped) == measured(plain)
    assert mapped.provenance.device_map == MAP
    assert (plain.provenance.device, plain.provenance.device_map) == ("cpu", None)
    together = report(folder, text, device_map=MAP)  # windows all at once, as layers come once
    assert close(measured(together), measured(plain))


def test_offloaded_layers_come_once_for_all_windows(folder, text):
    loaded = load_language_model(folder, placement=placement(device_map=MAP))
    assert is_offloaded(loaded.model)
    windows = cut_windows(
        read_text(text), loaded.tokenizer, num_tokens=256, window=60, prefix=loaded.bos, seed=0
    )
    passes = []
    layer = loaded.model.model.layers[0]
    layer.register_forward_pre_hook(lambda _, args: passes.append(len(args[0])))
    collect_states(loaded.model, windows)
    assert passes == [len(windows.ids)]


def test_a_map_may_come_from_a_file_and_serves_an_evaluation(folder, text, tmp_path):
    file = tmp_path / "map.json"
    file.write_text(json.dumps(MAP))
    options = {"num_contexts": 40, "num_tokens": 150, "context": 30}
    alone = evaluate(folder, text, device="cpu", **options).to_dict()
    for batch in (1, "auto"):
        mapped = evaluate(folder, text, device_map=str(file), batch=batch, **options).to_dict()
        assert mapped["source"].pop("device_map") == MAP
        for one in (mapped, alone):
            one.pop("source") if "source" in one else None
        assert close(mapped, alone)


def test_a_map_with_a_module_inside_another_has_the_same_numbers(folder, text):
    options = {"num_tokens": 100, "context": 30, "batch": 1}
    alone = evaluate(folder, text, device="cpu", **options)
    for mapped in (
        {"": "cpu", "model.layers.1": "disk"},
        {"": "disk", "model.layers.1.mlp": "cpu"},
    ):
        assert evaluate(folder, text, device_map=mapped, **options).plain == alone.plain


@pytest.mark.parametrize("unlike", [0, 1])
def test_processes_that_evaluate_other_texts_or_heads_are_refused(folder, text, unlike):
    class Unlike(Ranks):
        def _exchanged(self, value, failed=None, *, last=False):
            other = list(value)
            other[unlike] = other[unlike][::-1]
            return [value, tuple(other)]

    names = ("split", "dynamic", "cache_size", "num_contexts", "context", "tokenizer", "progress")
    with pytest.raises(WideneckError, match="do not agree on the text and the head"):
        _shared(Unlike(0, 2), folder, text, num_tokens=60, places={}, **dict.fromkeys(names))


def test_bfloat16_stays_near_float32(folder, text, plain):
    half = report(folder, text, dtype="bfloat16")
    assert half.provenance.compute_dtype == "bfloat16"
    # The head is read from its file, and measured as it is stored.
    exact, found = plain.to_dict()["head"], half.to_dict()["head"]
    weighted = ("data_weighted", "data_weighted_null")
    for one in (exact, found):
        for name in weighted:
            one["spectrum"].pop(name)
    assert found == exact
    # One rounding of bfloat16 of the largest logit bounds the loss and every ablation.
    step = 2.0**-8 * max(abs(plain.output.logits.maximum), abs(plain.output.logits.minimum))
    assert 0 < abs(half.output.loss.nats_per_token.value - plain.output.loss.nats_per_token.value)
    assert half.output.loss.nats_per_token.value == pytest.approx(
        plain.output.loss.nats_per_token.value, abs=step
    )
    for ours, theirs in zip(half.attention.heads, plain.attention.heads, strict=True):
        assert ours.ablation.value == pytest.approx(theirs.ablation.value, abs=step)
        assert ours.entropy == pytest.approx(theirs.entropy, abs=2.0**-6)


@torch.no_grad()
def test_scores_of_a_model_in_bfloat16_are_no_less_exact_than_its_own(folder, text):
    loaded = load_language_model(folder, placement=Placement(dtype=torch.bfloat16))
    windows = cut_windows(
        read_text(text), loaded.tokenizer, num_tokens=256, window=60, prefix=loaded.bos, seed=0
    )
    states = collect_states(loaded.model, windows)
    head = read_head(loaded.model)
    ours = OutputLayer.of(head, measure_logit_map(loaded.model)).logits(states.hidden[0])
    own = loaded.model(input_ids=windows.ids[:1]).logits[0, len(loaded.bos) :]
    exact = states.hidden[0].double() @ head.weight.double().T
    errors = [(scores.double() - exact).abs().mean() for scores in (ours, own)]
    assert errors[0] < errors[1] / 100


def test_an_accelerator_reads_enough_for_the_fitted_truncations():
    gpu = torch.device("cuda:0")
    assert [default_tokens(gpu, d) for d in (576, 1024, 4096)] == [4096, 4096, 16384]
    assert default_tokens(torch.device("cpu"), 4096) == 4096


def test_a_series_takes_no_place():
    names = ("section", "tokens", "argmaxable", "verify_tokens", "normalizer", "attention")
    names = (*names, "cost_limit", "html", "json")
    with pytest.raises(WideneckError, match="what says where a model runs"):
        audited(
            ["a", "b"], None, series=True, seed=0, where={"device": "cpu"}, **dict.fromkeys(names)
        )


def test_a_head_of_wideneck_stays_where_it_is_computed(folder, text, tmp_path):
    made = wn.attach(tr.AutoModelForCausalLM.from_pretrained(folder), "mos", num_components=2)
    made.save_pretrained(tmp_path)
    character_tokenizer(bos=True).save_pretrained(tmp_path)
    mapped = report(tmp_path, text, device_map={"model": "disk", "lm_head": "cpu"}, batch=1)
    assert measured(mapped)["output"] == measured(report(tmp_path, text, device="cpu"))["output"]
    with pytest.raises(WideneckError, match="give its module a device that computes"):
        report(tmp_path, text, device_map={"model": "cpu", "lm_head": "disk"})


def test_a_report_of_an_accelerator_is_that_of_the_cpu(text, monkeypatch):
    monkeypatch.setenv("TORCHDYNAMO_DISABLE", "1")  # for half the time: it cannot trace the device
    kinds = ("degenerate", "bias", "mixture")
    lines = printed("audits_on_a_device.py", text, *kinds)
    for line in lines:
        here, there = json.loads(line)
        assert there["provenance"].pop("device") != here["provenance"].pop("device")
        decided = (here["head"] or {}).get("argmaxable", {}).get("decided_by", {"all": 1})
        assert sum(decided.values()) > 0
        for one in (there, here):  # which kernel computes it outside of the audit is the device's
            for point in (one["attention"] or {}).get("comparison", []):
                point.pop("route")
        for name in SECTIONS:
            assert close(there[name], here[name]), name
    assert len(lines) == len(kinds)


def test_every_number_of_processes_writes_the_same_report(folder, text, tmp_path):
    def arguments(command, name):
        given = [command, str(folder), "--text", str(text), "--device", "cpu"]
        more = ["--json", str(tmp_path / name), "--tokens", "320"]
        if command == "audit":
            more += ["--no-argmaxable", "--normalizer", "sink"]
            more += [x for section in SECTIONS for x in ("--section", section)]
            settings = ("context=32", "num_windows=5", "sizes=1,5", "critical_up_to=4")
            more += [x for one in settings for x in ("--attention", one)]
        else:
            more += ["--with", "ranks:num_contexts=50", "--context", "60"]
        return given + more

    worlds = {"audit": (1, 2, 4), "evaluate": (1, 3)}
    runs = [
        [arguments(command, f"{command}-{world}.json")] * world
        for command, some in worlds.items()
        for world in some
    ]
    few = [*arguments("audit", "few.json"), "--tokens", "60"]
    unlike = [
        arguments("audit", "unlike.json"),
        [*arguments("audit", "unlike.json"), "--seed", "1"],
    ]
    gone = [[*arguments("audit", "gone.json"), "--text", str(tmp_path / "no.txt")]] * 2
    results = json.loads(
        printed("audits_on_ranks.py", given=json.dumps([*runs, [few] * 2, unlike, gone]))[-1]
    )
    *good, too_many, disagreeing, missing = results
    for one, ranks in zip(good, runs, strict=True):
        assert one["codes"] == [0] * len(ranks), one["said"]
        assert one["said"][1:] == [""] * (len(ranks) - 1)
    for command, source in (("audit", "provenance"), ("evaluate", "source")):
        texts = set()
        for world in worlds[command]:
            content = json.loads((tmp_path / f"{command}-{world}.json").read_text())
            for name in ("seconds", "time", "command"):
                del content[source][name]
            texts.add(json.dumps(content))
        assert len(texts) == 1, command
    for one, sentence in (
        (too_many, "2 processes are more than the windows of text that they share (1)"),
        (disagreeing, "do not agree on their arguments"),
        (missing, "no.txt"),
    ):
        assert one["codes"] == [1, 1]
        assert one["said"][0].startswith("wideneck: ")
        assert sentence in one["said"][0]
        assert one["said"][0].count("\n") == 1
        assert one["said"][1] == ""
    assert not any((tmp_path / name).exists() for name in ("few.json", "unlike.json", "gone.json"))
