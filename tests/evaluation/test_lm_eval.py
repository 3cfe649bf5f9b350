"""lm-eval on models with heads of wideneck, against their log-probabilities; without a network."""

import sys

import pytest
import torch

import wideneck as wn
from attached.attachable import attached, shaken
from attached.remembering import MATTERS
from tiny import tiny_model
from tiny_text import character_tokenizer
from wideneck.evaluation.documents import Window, document_losses

PAIRS = [("the first text", ", of 33"), ("another", " one"), ("a", "b"), ("the first text", "s")]


def with_memory():
    torch.manual_seed(0)
    return shaken(wn.attach_memory(tiny_model("gpt2"), **MATTERS))


MODELS = {
    "mos": lambda: shaken(attached("gpt2", "mos", num_components=3)),
    "sigsoftmax": lambda: shaken(attached("gpt2", "sigsoftmax", shift=0.0)),
    "memory": with_memory,
}


@pytest.fixture(scope="module", params=MODELS)
def folder(request, tmp_path_factory):
    path = tmp_path_factory.mktemp(request.param)
    MODELS[request.param]().save_pretrained(path)
    character_tokenizer().save_pretrained(path)
    return path


def requests(kind, arguments):
    from lm_eval.api.instance import Instance

    return [
        Instance(request_type=kind, doc={}, arguments=one, idx=number)
        for number, one in enumerate(arguments)
    ]


@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_likelihood_is_the_sum_of_the_model_s_log_probabilities(folder, batch_size):
    from lm_eval.models.huggingface import HFLM

    model, tokenizer = wn.load(folder), character_tokenizer()
    lm = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size)
    found = lm.loglikelihood(requests("loglikelihood", PAIRS), disable_tqdm=True)
    for (context, rest), (likelihood, greedy) in zip(PAIRS, found, strict=True):
        ids = torch.tensor(tokenizer(context + rest).input_ids)
        with torch.no_grad():
            log_p = model(ids[None, :-1]).logits[0, -len(rest) :]  # already normalized
        target = ids[-len(rest) :]
        assert likelihood == pytest.approx(log_p.gather(1, target[:, None]).sum().item(), rel=1e-5)
        assert greedy == bool((log_p.argmax(1) == target).all())


def test_a_rolling_likelihood_is_that_of_windows_of_the_model_s_length(folder):
    from lm_eval.models.huggingface import HFLM

    text = "".join(f"{k} green bottles hanging on a wall\n" for k in range(4))
    tokenizer = character_tokenizer()
    lm = HFLM(pretrained=wn.load(folder), tokenizer=tokenizer)
    (found,) = lm.loglikelihood_rolling(requests("loglikelihood_rolling", [(text,)]), True)
    # It puts a token in front, predicts the first one too, and lets the last window reach back.
    ids = torch.tensor([tokenizer.bos_token_id, *tokenizer(text).input_ids])
    total, longest = len(ids) - 1, 64
    windows = []
    for start in range(0, total, longest):
        stop = min(start + longest, total)
        first = max(0, stop - longest)
        windows.append(Window(ids[first:stop], ids[first + 1 : stop + 1], 0, 1))
    losses = document_losses(lm.model, windows)
    new = [nll[counted] for nll, counted in zip(losses.nll, losses.counted, strict=True)]
    new[-1] = new[-1][-(total % longest) :]
    assert len(torch.cat(new)) == total
    assert found == pytest.approx(-torch.cat(new).sum().item(), rel=1e-5)


def test_a_folder_is_found_by_its_name_once_wideneck_is_imported(folder):
    """As on the command line, where lm-eval is given `pretrained=FOLDER`."""
    from lm_eval.models.huggingface import HFLM

    named = HFLM(pretrained=str(folder), device="cpu")
    loaded = HFLM(pretrained=wn.load(folder), tokenizer=character_tokenizer())
    asked = requests("loglikelihood", PAIRS)
    assert named.loglikelihood(asked, disable_tqdm=True) == loaded.loglikelihood(
        asked, disable_tqdm=True
    )


def test_the_module_is_the_command_line_of_lm_eval(monkeypatch):
    import lm_eval.__main__

    from wideneck.evaluation.lm_eval import main

    called = []
    monkeypatch.setattr(lm_eval.__main__, "cli_evaluate", lambda: called.append(True))
    main()
    assert called


def test_a_missing_lm_eval_is_one_sentence(monkeypatch):
    from wideneck.evaluation.lm_eval import main

    monkeypatch.setitem(sys.modules, "lm_eval.__main__", None)
    with pytest.raises(SystemExit, match=r"pip install 'wideneck\[eval\]'"):
        main()
