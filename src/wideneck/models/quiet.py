"""Keeps transformers, and what it uses, from writing to the terminal while this package uses it.

Its warnings are for people who train or generate; its progress bars would mix with ours.  What
we have to say ourselves comes as a `WideneckError` or as our own progress.
"""

import logging as root_logging
import warnings
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def quiet_transformers() -> Generator[None, None, None]:
    """Silence transformers inside the block; every setting is put back after it."""
    from transformers import modeling_gguf_pytorch_utils as gguf_loader
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    bars = logging.is_progress_bar_enabled()
    # The GGUF loader takes its bar from tqdm itself, beyond the reach of the switch above.
    gguf_bar = vars(gguf_loader).get("tqdm")
    disabled = root_logging.root.manager.disable
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Its dependencies have loggers of their own, and Python prints what nobody handles.
        root_logging.disable(root_logging.CRITICAL)
        logging.set_verbosity(logging.CRITICAL)
        logging.disable_progress_bar()
        vars(gguf_loader)["tqdm"] = lambda iterable, **_options: iterable
        try:
            yield
        finally:
            vars(gguf_loader)["tqdm"] = gguf_bar
            logging.set_verbosity(verbosity)
            root_logging.disable(disabled)
            if bars:
                logging.enable_progress_bar()
