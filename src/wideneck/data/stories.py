"""WritingPrompts as it is released (Fan, Lewis & Dauphin 2018): a story a line, of marked lines.

The archive of fairseq holds train.wp_target, valid.wp_target and test.wp_target, and beside each
the prompts (.wp_source), which are not read.  Datasets on the hub have the stories in a column.
Texts stay as they are tokenized there, with spaces before marks: no detokenizer is run over them.
"""

import re

from wideneck.data.text import is_blank

ENDING = ".wp_target"
COLUMN = "story"
_LINE_END = re.compile(" ?<newline> ?")


def story(line: str) -> str:
    """With a line end for each <newline>, and without the spaces around it."""
    return _LINE_END.sub("\n", line)


def stories(content: str) -> tuple[str, ...]:
    """Those of a file; blank lines are none."""
    return tuple(story(line) for line in content.split("\n") if not is_blank(line))
