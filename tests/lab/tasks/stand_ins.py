"""Three examples of each of the paper's data sets, in the format that the real one has."""

import json
from pathlib import Path

XSUM = [
    {
        "document": f"The harbour of Norwick was closed {n} times this winter.\nFog lay on it.",
        "summary": f"Norwick's harbour has been closed {n} times by fog.",
        "id": f"3100000{n}",
    }
    for n in range(2, 5)
]
CNN_DM = [
    {
        "article": f"(CNN) -- A baker gave away {n} loaves on Monday. She said she would again.",
        "highlights": f"Baker gives {n} loaves away .\nShe plans to do so again .",
        "id": f"{n:040x}",
    }
    for n in range(2, 5)
]
STORIES = [
    f"I was {n} when the lamp went out . <newline> <newline> `` Not again , '' I said . <newline>"
    for n in range(2, 5)
]
TABLES = {
    f"2-100{n}-1.html.csv": (
        "club#points#founded#stadium\n"
        f"green rovers#{n}#3 may 1901#mill lane\n"
        f"red town#{n + 2}#12 april 1899#dock road\n"
        f"blue city#{n}#august 1910#the oval\n"
    )
    for n in range(2, 5)
}
SENTENCES = [
    ["Red Town has the most Points", [0, 1], "northern league", "[ENT] has the most [ENT]"],
    ["Blue City was Founded last", [2, 0], "northern league", "[ENT] was [ENT] last"],
]
SPLITS = ("train", "validation", "test")


def write_lines(path: Path, rows: list) -> Path:
    """A file of JSON lines."""
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def write_folder(folder: Path, rows: list) -> Path:
    """A row for each split, in the order train, validation and test."""
    folder.mkdir(exist_ok=True)
    for split, row in zip(SPLITS, rows, strict=True):
        write_lines(folder / f"{split}.jsonl", [row])
    return folder


def write_stories(folder: Path) -> Path:
    """WritingPrompts as fairseq's archive holds it."""
    for split, story in zip(("train", "valid", "test"), STORIES, strict=True):
        (folder / f"{split}.wp_target").write_text(f"{story}\n")
        (folder / f"{split}.wp_source").write_text("[ WP ] You keep a lighthouse .\n")
    return folder


def write_logic_nlg(folder: Path) -> Path:
    """A clone of LogicNLG's repository, unpacked."""
    (folder / "data").mkdir()
    (folder / "all_csv").mkdir()
    for split, (name, table) in zip(("train", "val", "test"), TABLES.items(), strict=True):
        (folder / "data" / f"{split}_lm.json").write_text(json.dumps({name: SENTENCES}, indent=2))
        (folder / "all_csv" / name).write_bytes(table.replace("\n", "\r\n").encode())
    return folder
