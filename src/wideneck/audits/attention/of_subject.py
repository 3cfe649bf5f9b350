"""Section "attention" of a subject: the settings that its model allows, and its windows."""

from wideneck.audits.attention.reading import Reader
from wideneck.audits.attention.results import AttentionAudit
from wideneck.audits.attention.section import audit_attention
from wideneck.audits.attention.settings import AttentionSettings
from wideneck.audits.subject import Subject
from wideneck.errors import WideneckError
from wideneck.models import LoadedModel


def section(subject: Subject) -> AttentionAudit | None:
    """Measured while the model is loaded; None, and a note, where its numbers do not allow it."""
    loaded, logit_map = subject.loaded, subject.logit_map
    assert loaded is not None
    assert logit_map is not None
    settings = _settings(loaded, subject.settings)
    window = settings.context - len(loaded.bos)
    if window < 1:
        raise WideneckError(
            f"A context of {settings.context} holds nothing but what the tokenizer puts in "
            "front of a text: give a longer one."
        )
    windows = subject.windows(settings.num_windows * window, window)
    found = subject.measured(
        "the attention",
        lambda: audit_attention(
            Reader(loaded.model, logit_map, subject.head),
            windows,
            settings,
            subject.clock,
            normalizers=subject.normalizers,
            seed=subject.seed,
            ranks=subject.ranks,
            progress=subject.progress,
        ),
    )
    if found is not None and found.num_windows != settings.num_windows:
        subject.remarks.append(
            f"{settings.num_windows} windows were asked for, attention was measured on "
            f"{found.num_windows}: as many as the text holds."
        )
    return found


def _settings(loaded: LoadedModel, given: AttentionSettings | None) -> AttentionSettings:
    """Those given, or the defaults in as long a context as the model has."""
    limit = loaded.max_positions
    settings = given or AttentionSettings()
    if limit is None or settings.context <= limit:
        return settings
    if given is not None:
        raise WideneckError(
            f"The attention section reads a context of {settings.context:,} tokens, and "
            f"{loaded.source} has positions for {limit:,}: give a context of at most as many."
        )
    sizes = tuple(size for size in settings.sizes if size < limit)
    if not sizes:
        raise WideneckError(f"{loaded.source} has positions for {limit:,}: too few to select from.")
    return AttentionSettings(
        context=limit, sizes=sizes, reference_size=min(settings.reference_size, sizes[-1])
    )
