"""How much memory a text takes; in a process of its own, whose peak is its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("text_memory.py")
WAYS = ("audit", "evaluate", "tokens", "words")
SIZE = 2_000_000
"""Bytes; the whole of them in one piece took a kilobyte each."""
MOST = 130_000_000
"""Bytes of memory: a piece and what Python and the allocator keep, and ten times the text."""
TEXTS = {
    "lines": "green bottles hanging on the wall, 17 of them\n",
    "one letter": "a",
    "one line": "green bottles ",
    "other scripts": "\U0001f600 日本語 é\n",
}


@pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(),
    reason="the peak is read and reset through the /proc of Linux",
)
@pytest.mark.parametrize("kind", TEXTS)
def test_a_text_takes_little_memory_however_it_is_read(tmp_path, kind):
    line = TEXTS[kind]
    (tmp_path / "text.txt").write_text(line * (SIZE // len(line.encode())), encoding="utf-8")
    ways = WAYS if line.endswith("\n") else WAYS[:2]  # a line is not cut into splits
    path = os.pathsep.join(p for p in sys.path if p)
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path / "text.txt"), *ways],
        env={**os.environ, "PYTHONPATH": path, "TOKENIZERS_PARALLELISM": "false"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = {way: int(size) for way, size in map(str.split, done.stdout.splitlines())}
    assert tuple(found) == ways
    assert max(found.values()) < MOST, found
