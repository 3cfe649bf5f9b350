"""Every format with its table of telling changes."""

from bench.fuzz.case import Format
from bench.fuzz.configs import CONFIGS
from bench.fuzz.ggufs import GGUFS
from bench.fuzz.pickles import FORMATS as PICKLES
from bench.fuzz.recipes import RECIPES
from bench.fuzz.runs import OWN
from bench.fuzz.saved import SAVED
from bench.fuzz.series import FOLDERS
from bench.fuzz.tensors import TENSORS
from bench.fuzz.texts import TEXTS
from bench.fuzz.vocabularies import TOKENIZERS

FORMATS: dict[str, Format] = {
    one.name: one
    for one in (
        *CONFIGS,
        *TENSORS,
        *GGUFS,
        *PICKLES,
        *TOKENIZERS,
        *TEXTS,
        *RECIPES,
        *SAVED,
        *OWN,
        *FOLDERS,
    )
}
"""Name -> format."""
