"""A decoder with its memory: trained, interrupted, read and made to go on from prompts."""

import json
import shutil
from dataclasses import replace
from functools import partial

import pytest
import torch

from lab.tasks.small_continuation import TINY, corpus, gpt2, llama, start, text, tokenizer, trial
from wideneck.commands.reproduce import reproduce
from wideneck.errors import WideneckError
from wideneck.lab.registry import Request
from wideneck.lab.tasks import continuation_task
from wideneck.lab.tasks.continuation import Continuation
from wideneck.lab.tasks.runs import run
from wideneck.lab.tasks.trainer import last_checkpoint
from wideneck.lab.tasks.views import OFF, WRITTEN, trained_memory, with_memory

WHOLE = replace(TINY, trained_layers=None)


def weights(made):
    return {name: x.clone() for name, x in made.model.state_dict().items()}


def untold(share):
    pass


@pytest.mark.parametrize("objective", WRITTEN)
def test_the_last_layers_learn_and_the_others_do_not(objective, tmp_path):
    made = trial(objective)
    before = weights(made)
    made.train(tmp_path, untold)
    moved = {name for name, x in weights(made).items() if not torch.equal(x, before[name])}
    layers = {name.split(".")[2] for name in moved if name.startswith("model.layers.")}
    assert layers == {"2"}
    rest = {name for name in moved if not name.startswith("model.layers.")}
    learned = {"cache_memory.bias", "cache_memory.log_temperature"}
    assert rest == {"model.norm.weight"} | (learned if objective.startswith("trime") else set())


def test_training_lowers_the_loss(tmp_path):
    made = trial(recipe=replace(WHOLE, learning_rate=3e-3, num_steps=60))
    before = made.seen("test")
    made.train(tmp_path, untold)
    after = made.seen("test")
    assert after.nll[after.asked].mean() < 0.85 * before.nll[before.asked].mean()


@pytest.mark.parametrize(("model", "recipe"), [(llama, TINY), (gpt2, WHOLE)])
def test_an_interrupted_training_ends_as_one_that_was_not(model, recipe, tmp_path):
    whole = trial(model=model(), recipe=recipe)
    whole.train(tmp_path / "whole", untold)

    def kill(share):
        if share > 0.7:  # checkpoints are at every third
            raise InterruptedError

    with pytest.raises(InterruptedError):
        trial(model=model(), recipe=recipe).train(tmp_path / "cut", kill)
    again, shares = trial(model=model(), recipe=recipe), []
    again.train(tmp_path / "cut", shares.append)
    assert shares[0] == pytest.approx(5 / 6)
    for (name, a), b in zip(weights(whole).items(), weights(again).values(), strict=True):
        assert torch.equal(a, b), name


def test_a_checkpoint_that_is_half_written_is_not_gone_on_from(tmp_path):
    trial().train(tmp_path, untold)
    last = last_checkpoint(tmp_path)
    assert last == str(tmp_path / "checkpoint-6")
    shutil.copytree(last, tmp_path / "checkpoint-8")
    (tmp_path / "checkpoint-8" / "trainer_state.json").unlink()
    assert last_checkpoint(tmp_path) == last


def test_from_stored_states_training_is_that_of_the_whole_model(tmp_path):
    by_states, by_model = trial("trime"), trial("trime")
    by_model.start.first = None
    by_model.start.states = dict.fromkeys(by_model.start.states)
    ran = {}
    for one, name in ((by_states, "states"), (by_model, "model")):
        ran[name] = []
        one.model.model.layers[0].register_forward_hook(lambda *_, to=ran[name]: to.append(1))
        one.train(tmp_path / name, untold)
    assert len(ran["states"]) == 0
    assert len(ran["model"]) >= 6
    for (name, a), b in zip(weights(by_states).items(), weights(by_model).values(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4, msg=name)


def test_a_run_begins_where_every_run_begins_whatever_was_trained_before(tmp_path):
    shared = start()
    first = weights(Continuation(shared, "trime", 0))
    Continuation(shared, "trime_histalign", 1).train(tmp_path / "1", untold)
    again = Continuation(shared, "trime", 0)
    assert all(torch.equal(x, first[name]) for name, x in weights(again).items())
    assert again.model.cache_memory.config.alpha == 0


def test_the_seed_decides_the_order_of_the_blocks(tmp_path):
    found = []
    for seed in (0, 0, 1):
        made = trial(seed=seed)
        made.train(tmp_path / str(len(found)), untold)
        found.append(weights(made)["model.norm.weight"])
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_a_lost_loss_ends_the_run_with_a_sentence(tmp_path):
    made = trial(recipe=replace(TINY, learning_rate=1e30))
    with pytest.raises(WideneckError, match="no longer finite at step"):
        made.train(tmp_path, untold)


@pytest.mark.parametrize("split", ["valid", "test"])
@pytest.mark.parametrize("recipe", [TINY, WHOLE], ids=["states", "whole"])
def test_what_is_seen_gives_the_model_s_own_loss(split, recipe):
    made = trial("trime", recipe=recipe)
    memory = replace(trained_memory(made.model), temperature=0.7, bias=-0.5)
    losses, share = made.seen(split).likelihoods(memory)
    own = []
    some = made.start.held_out[split]
    with torch.no_grad(), with_memory(made.model, memory):
        for ids, real in zip(some.ids, some.real, strict=True):
            row = ids[real][None]
            own.append(made.model.eval()(input_ids=row, labels=row).loss.item())
    assert made.seen(split).means(losses) == pytest.approx(own, rel=1e-5)
    assert share.max() > 0.01


def test_what_was_seen_before_training_is_not_what_is_seen_after(tmp_path):
    made = trial()
    before = made.seen("test")
    assert made.seen("test") is before
    made.train(tmp_path, untold)
    assert not torch.equal(made.seen("test").nll, before.nll)


def test_rows_are_the_log_probabilities_of_the_mixture_and_of_the_layer():
    made = trial()
    full, alone = made.rows()
    assert full.shape == alone.shape == (50, 96)
    seen = made.seen("test")
    asked = seen.target[seen.asked][:50, None]
    memory = trained_memory(made.model)
    expected = seen.likelihoods(memory)[0][seen.asked][:50]
    torch.testing.assert_close(-full.gather(1, asked)[:, 0], expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(
        -alone.gather(1, asked)[:, 0], seen.nll[seen.asked][:50], atol=1e-5, rtol=0
    )


def test_the_memory_counts_the_targets_of_the_test():
    made = trial()
    made.model.cache_memory.statistics.take(False)
    made.start.read("test")
    full, alone = trial(recipe=replace(TINY, num_rank_rows=10_000)).rows()
    seen = made.seen("test")
    target = seen.target[seen.asked]
    found = made.model.cache_memory.statistics.take(False)
    # The memory of the other runs counted them too, but not this one.
    assert found["accuracy"] == pytest.approx((full.argmax(1) == target).double().mean().item())
    assert found["accuracy_model_only"] == pytest.approx(
        (alone.argmax(1) == target).double().mean().item()
    )


def test_prompts_and_references_are_of_test_documents_alone():
    made = trial()
    held_out = corpus()
    assert len(made.start.prompts) == 4
    texts = tokenizer().batch_decode(made.start.prompts)
    for place, prompt in zip(made.subjects, texts, strict=False):
        assert held_out.test[place].startswith(prompt)
        assert not any(prompt in document for document in (*held_out.train, *held_out.valid))
    trained = "".join(tokenizer().batch_decode(made.start.blocks))
    assert "train" in trained
    assert "test" not in trained
    assert "valid" not in trained


def test_continuations_come_prompt_by_prompt_and_draw_by_draw():
    made = trial()
    texts = made.write()
    assert len(texts) == len(made.subjects) == 3 * 4
    assert made.subjects == 3 * made.documents[:4]
    assert [len(one) for one in texts] == 12 * [6]
    draws = [texts[i : i + 4] for i in (0, 4, 8)]
    assert draws[0] != draws[1] != draws[2]


def test_more_documents_may_be_continued_than_are_read_or_fewer():
    made = trial(recipe=replace(TINY, num_test=3))
    assert len(made.documents) == len(made.seen("test").nll) == 3
    assert made.subjects[:3] == made.documents
    assert len(made.write()) == len(made.subjects) == 3 * 4


def test_draws_are_the_seed_s_and_no_objective_s():
    shared = start()
    texts = {
        (name, seed): Continuation(shared, name, seed).write()
        for name in ("trime", "cross_entropy")
        for seed in (0, 1)
    }
    assert texts["trime", 0] == texts["cross_entropy", 0]
    assert texts["trime", 0] != texts["trime", 1]


def test_a_penalty_that_a_model_brings_is_not_applied():
    made = trial()
    texts = made.write()
    made.model.generation_config.repetition_penalty = 5.0
    assert made.write() == texts


def test_a_memory_that_is_all_writes_what_the_prompt_holds():
    made = trial("trime")
    with with_memory(made.model, replace(OFF, bias=50.0)):
        texts = made.write()
    prompts = tokenizer().batch_decode(made.start.prompts)
    for prompt, written in zip(3 * prompts, texts, strict=True):
        assert set(written) <= set(prompt)


def test_a_text_ends_where_the_model_ends_it():
    ending = replace(TINY, fewest_new=1, most_new=30, num_draws=20)
    made = trial(recipe=ending)
    made.model.generation_config.eos_token_id = list(range(0, 96, 8))
    ends = set(tokenizer().convert_ids_to_tokens(range(0, 96, 8)))
    texts = made.write()
    assert min(map(len, texts)) < max(map(len, texts)) <= 30
    assert not any(ends & set(one[1:]) for one in texts)
    made.start.recipe = replace(ending, fewest_new=30)
    assert {len(one) for one in made.write()} == {30}  # as it may not end before


def test_the_reference_is_how_the_documents_go_on():
    made = trial()
    heard = []
    made.start.measure = heard.append
    made.beside()
    for place, written in zip(made.documents, heard[0], strict=False):
        assert corpus().test[place][8:14] == written


def test_a_run_writes_in_the_views_of_its_objective(tmp_path):
    found = run(partial(trial, "cross_entropy"), "cross_entropy", 0, tmp_path)
    written = {name for name, view in found.views.items() if view.texts}
    assert written == {"off", "fitted"}
    assert found.views["off"].memory_share == 0
    assert found.rank_model <= found.rank_bound == 17
    for name in ("diversity", "rep-2", "rep-w", "pmi", "cosine", "prompt_words", "tokens"):
        assert len(found.views["off"].each[name]) == 12
        assert name in found.beside["reference"]
    # The model is the judge's own before training, so a pmi cannot be without a prompt.
    assert found.alignment != found.alignment_before


@pytest.mark.parametrize(
    ("changes", "recipe", "says"),
    [
        ({"test": None}, {}, "bottles has no test split"),
        (
            {"test": text("test", 1)},
            {},
            "has 1 documents of at least 14 tokens, and two are needed",
        ),
        ({"valid": ("short", "too")}, {}, "The valid split of bottles has 0 documents"),
        ({"train": ("a short text",)}, {}, "has 12 tokens, and one step takes 4 blocks of 40"),
        ({}, {"words": (1, 5)}, "at least 14 tokens and 1 to 5 words"),
        ({}, {"window": 65}, "has 64 positions, and this task reads 65 tokens"),
        ({}, {"trained_layers": 4}, "has 3 layers, and the last 4 are to be trained"),
    ],
)
def test_what_does_not_suffice_is_refused(changes, recipe, says):
    with pytest.raises(WideneckError, match=says):
        start(recipe=replace(TINY, **recipe), text=corpus(**changes))


def test_the_last_layers_of_a_model_of_another_build_are_not_found():
    with pytest.raises(WideneckError, match="not built like Llama"):
        start(model=gpt2())


def test_long_documents_count_once_and_by_their_beginning():
    long = tuple(one + 100 * " and so on" for one in text("test", 3))
    made = start(text=corpus(test=long)).held_out["test"]
    assert sorted(made.documents) == [0, 1, 2]
    assert made.ids.shape == (3, 40)
    assert made.real.all()


@pytest.mark.parametrize("scale", ["small", "paper"])
def test_both_scales_run_on_a_model_and_a_text_that_the_user_names(scale, tmp_path, monkeypatch):
    model, data = tmp_path / "model", tmp_path / "data"
    (llama() if scale == "small" else gpt2()).save_pretrained(model)
    tokenizer().save_pretrained(model)
    data.mkdir()
    for split in ("train", "valid", "test"):
        (data / f"{split}.txt").write_text("\f".join(text(split, 3)))
    ours = continuation_task.recipe_of(scale)
    tiny = {
        name: getattr(TINY, name)
        for name in ("window", "batch_size", "micro_batch", "prompt", "most_new", "num_rank_rows")
    }
    tiny |= {"trained_layers": ours.trained_layers and 1, "fewest_new": min(6, ours.fewest_new)}
    tiny |= {"words": ours.words and (5, 100), "num_steps": ours.num_steps and 2}
    monkeypatch.setattr(continuation_task, "recipe_of", lambda scale: replace(ours, **tiny))
    own = {"task": "continuation", "data": str(data)}
    asked = continuation_task.prepared(
        Request(paper="histalign", model=str(model), scale=scale, own=own)
    )
    assert asked.settings["documents"] == {"train": 3, "valid": 3, "test": 3}
    found = run(partial(asked.begin, "trime_histalign", 0), "trime_histalign", 0, tmp_path / "run")
    assert len(found.views["full"].texts) == 3 * 3
    assert found.views["full"].temperature == (1.0 if scale == "paper" else pytest.approx(0.1, 9))


def test_writing_prompts_go_from_their_files_to_the_table(tmp_path, monkeypatch, capsys):
    gpt2().save_pretrained(tmp_path / "model")
    tokenizer().save_pretrained(tmp_path / "model")
    data = tmp_path / "data"
    data.mkdir()
    for split in ("train", "valid", "test"):  # a story is a line
        stories = (story.replace(" ", " <newline> ", 1) for story in text(split, 3))
        (data / f"{split}.wp_target").write_text("".join(f"{story}\n" for story in stories))
        (data / f"{split}.wp_source").write_text(3 * "[ WP ] You keep a lighthouse .\n")
    ours = continuation_task.recipe_of("paper")
    tiny = {name: getattr(TINY, name) for name in ("window", "batch_size", "micro_batch")}
    tiny |= {"prompt": 8, "most_new": 6, "num_rank_rows": 50, "words": (5, 100), "num_epochs": 1}
    monkeypatch.setattr(continuation_task, "recipe_of", lambda scale: replace(ours, **tiny))
    asked = {"model": str(tmp_path / "model"), "data": str(data), "scale": "paper", "num_seeds": 1}
    reproduce("histalign", task="continuation", out=tmp_path / "runs", **asked)
    printed = capsys.readouterr().out
    assert "Documents: train (3), valid (3), test (3)." in printed
    *_, line = (one for one in printed.splitlines() if "WritingPrompts, GPT2-small" in one)
    assert "paper's difference" in line
    runs = [json.loads(file.read_text()) for file in (tmp_path / "runs").glob("*-seed0.json")]
    assert len(runs) == 4
    assert all(len(run["views"]["off"]["texts"]) == 3 * ours.num_draws for run in runs)


def test_the_paper_s_scale_asks_for_its_stories():
    request = Request(paper="histalign", scale="paper", own={"task": "continuation"})
    with pytest.raises(WideneckError, match="needs its stories"):
        continuation_task.prepared(request)
