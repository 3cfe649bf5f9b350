"""`wideneck audit`: from what was typed to a report."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from wideneck.commands.destination import deliver, html_and_json
from wideneck.commands.options import attention_settings, normalizer_option, placement_options
from wideneck.commands.progress import ProgressBars, progress_bars
from wideneck.commands.streams import native_output_apart
from wideneck.errors import WideneckError
from wideneck.models.ranks import joined
from wideneck.report.section import DEFAULT


def audited(
    models: Sequence[str],
    text: Path | None,
    *,
    series: bool,
    section: Sequence[str] | None,
    tokens: int | None,
    argmaxable: bool | None,
    verify_tokens: int | None,
    normalizer: Sequence[str] | None,
    attention: Sequence[str] | None,
    cost_limit: float | None,
    html: Path | None,
    json: Path | None,
    seed: int,
    where: Mapping[str, Any],
) -> None:
    """Measure, and print or write what was found; options as the command line has them.

    Under torchrun the processes share the windows of the text, and the first one writes.

    Raises:
        WideneckError: as `wideneck.audit`, or the options contradict each other.
    """
    with joined() as ranks:
        first = ranks.rank == 0
        as_html, as_json = (
            html_and_json(html, json, reads=[*models, text]) if first else (None,) * 2
        )
        if len(models) > 1 and not series:
            raise WideneckError(
                f"One MODEL was expected, {len(models)} came; --series follows a head over "
                "checkpoints."
            )
        if series:
            others = (text, section, tokens, verify_tokens, normalizer, attention, cost_limit)
            others = (*others, *where.values())
            report = _series(models, others, ranks.world, argmaxable, seed)
        else:
            settings = None if attention is None else attention_settings(attention)
            normalizers = [normalizer_option(text) for text in normalizer or []]
            places = placement_options(where)
            with native_output_apart(), progress_bars(first) as progress:
                from wideneck.entry.audit import shared_audit
                from wideneck.models.placement import placement

                report = shared_audit(
                    ranks,
                    models[0] if models else None,
                    text,
                    section or DEFAULT,
                    num_tokens=tokens,
                    argmaxable=argmaxable is not False,
                    verify_tokens=verify_tokens,
                    attention=settings,
                    normalizers=normalizers,
                    cost_limit=cost_limit,
                    seed=seed,
                    where=placement(**places, local_rank=ranks.local_rank),
                    progress=progress,
                )
        if report is not None:
            deliver(report.show, (as_html, report.to_html_text), (as_json, report.to_json_text))


def _series(
    models: Sequence[str], others: Sequence[Any], world: int, argmaxable: bool | None, seed: int
) -> Any:
    if any(x is not None for x in others):
        raise WideneckError(
            "--series measures the weights alone, on the CPU; leave out --text, --section, "
            "--tokens, --verify-tokens, --normalizer, --attention, --cost-limit and what says "
            "where a model runs."
        )
    if world > 1:
        raise WideneckError(f"--series is the work of one process, and {world} were started.")
    with native_output_apart(), ProgressBars() as progress:
        from wideneck.entry.series import audit_series

        return audit_series(models, argmaxable=bool(argmaxable), seed=seed, progress=progress)
