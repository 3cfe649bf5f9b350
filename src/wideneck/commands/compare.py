"""`wideneck compare`: from what was typed to a comparison."""

import glob
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from wideneck.commands.destination import deliver, html_and_json
from wideneck.commands.options import placement_options
from wideneck.commands.progress import ProgressBars
from wideneck.commands.streams import native_output_apart
from wideneck.errors import WideneckError
from wideneck.models.ranks import joined


def compared(
    models: Sequence[str],
    groups: Sequence[str],
    text: Path | None,
    *,
    html: Path | None,
    json: Path | None,
    where: Mapping[str, Any],
    **known: Any,
) -> None:
    """Compare, and print or write what was found; options as the command line has them.

    Args:
        models: one is compared with the default model.
        groups: patterns of paths.
        known: what `wideneck.compare` takes by the same name; None is left out.

    Raises:
        WideneckError: as `wideneck.compare`; or models came and groups as well, or a pattern that
            nothing matches, or several processes.
    """
    with joined() as ranks:
        if ranks.world > 1:
            raise WideneckError(
                f"A comparison is the work of one process, and {ranks.world} were started."
            )
    asked: list[Any] = _asked(models, groups)
    flat = [one for group in asked for one in (group if groups else [group])]
    as_html, as_json = html_and_json(html, json, reads=[*flat, text])
    given = {name: value for name, value in known.items() if value is not None}
    with native_output_apart(), ProgressBars(time_left=True) as progress:
        from wideneck.entry.compare import compare

        found = compare(
            *asked,
            text=text,
            names=groups or None,
            **given,
            **placement_options(where),
            progress=progress,
        )
    deliver(found.show, (as_html, found.to_html_text), (as_json, found.to_json_text))


def _asked(models: Sequence[str], groups: Sequence[str]) -> list[Any]:
    """Models, or lists of them."""
    if models and groups:
        raise WideneckError(
            "Models were named, and groups as well: give two or more models, or --group twice or "
            "more."
        )
    if groups:
        return [_matching(pattern) for pattern in groups]
    if not models:
        raise WideneckError(
            "A comparison needs a model to compare: name two or more, or one to compare with the "
            "default model."
        )
    return [None, *models] if len(models) == 1 else [*models]


def _matching(pattern: str) -> list[str]:
    """What a pattern names on this machine; what is no pattern is a model."""
    if os.path.exists(pattern) or not glob.has_magic(pattern):
        return [pattern]
    found = sorted(glob.glob(os.path.expanduser(pattern)))
    if not found:
        raise WideneckError(
            f"The group {pattern} is empty: no path here matches it; give a pattern of folders or "
            "files, in quotes, such as --group 'runs/mos-*'."
        )
    return found
