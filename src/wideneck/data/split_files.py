"""A folder that holds one file for each split."""

import re
from pathlib import Path

from wideneck.errors import WideneckError
from wideneck.files.printable import listed

MARK = re.compile(r"(?<![a-z])(train|val|test)")
"""What tells a split by the name of its file; "valid" and "validation" begin with "val"."""
SPLITS = {"train": "train", "val": "valid", "test": "test"}
"""Marks for our names."""


def split_files(
    folder: Path, kind: str, endings: tuple[str, ...], needed: tuple[str, ...]
) -> dict[str, Path]:
    """The file of each split, by our names; other files may lie beside them.

    Args:
        folder: it.
        kind: what messages call such a file.
        endings: how its name may end, with or without .gz after it; "" for no ending.
        needed: marks of the splits that must be there.

    Raises:
        WideneckError: a split that is needed has no file, or one has several.
    """
    names = sorted(f.name for f in folder.iterdir() if f.is_file() and f.name[0] != ".")
    found: dict[str, list[str]] = {mark: [] for mark in SPLITS}
    for name in names:
        marks = MARK.findall(name.lower())
        if marks and Path(name.removesuffix(".gz")).suffix in endings:
            found[marks[-1]].append(name)  # the last: before it stands the name of the text
    for mark, candidates in found.items():
        if len(candidates) > 1:
            raise WideneckError(
                f"{folder} holds {len(candidates)} files that could be the {mark} split "
                f"({listed(candidates)}): leave one of them there."
            )
        if not candidates and mark in needed:
            raise WideneckError(
                f"{folder} should hold a {kind} with '{mark}' in its name ({_either(endings)}, "
                f"each also .gz), it holds {listed(names) or 'no file'}."
            )
    return {SPLITS[mark]: folder / files[0] for mark, files in found.items() if files}


def _either(endings: tuple[str, ...]) -> str:
    *others, last = sorted((e or "no ending" for e in endings), key="no ending".__eq__)
    return f"{', '.join(others)} or {last}"
