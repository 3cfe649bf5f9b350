"""The tokens of a head that it cannot tell apart, cannot reach or was not taught."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from wideneck.audits.argmaxable import Argmaxable
from wideneck.audits.argmaxable.result import Unargmaxable
from wideneck.audits.head import HeadAudit
from wideneck.audits.tokens.verify import FOUND, Verification, VerifiedToken
from wideneck.files.printable import LONGEST
from wideneck.report.numbers import TIMES, counted, number, visible
from wideneck.report.parts import (
    Details,
    Heading,
    Link,
    Number,
    Numbers,
    Piece,
    Table,
    Tokens,
    Verbatim,
    by_item,
    line,
    note,
)
from wideneck.report.token_health import health_blocks, health_lists
from wideneck.report.token_text import SPACE, reader

ASKED = 500
"""Tokens that were asked for and that the page's table has; the JSON file has all of them."""
CERTIFICATES = 20
ENCLOSING = 12
"""Proofs that the page shows, and rows of one; the JSON file holds all of them."""

Listed = Sequence[tuple[int, str | None]]
"""Tokens that share a row, each with its tokenizer's string."""


def token_blocks(head: HeadAudit) -> Iterator[Any]:
    """Counts, proofs, and every list."""
    yield Heading("Tokens", "tokens", "Tokens")
    yield Numbers("tokens", _counts(head))
    if head.tokens is not None:
        yield from health_blocks(head.tokens)
    lists = _lists(head)
    if head.argmaxable is None:
        why = ", or the notes on the head say why it has no result" if head.notes else ""
        yield note(
            "The search for tokens that can never be the most probable was not asked for", why, "."
        )
    elif head.argmaxable.unargmaxable:
        unreachable = lists.pop(0)
        yield unreachable
        entries = head.argmaxable.unargmaxable[:CERTIFICATES]
        yield from (_proof(e, g[0][1]) for e, g in zip(entries, unreachable.groups, strict=False))
    if head.argmaxable is not None:
        yield note(*_decided(head.argmaxable))
    if head.verified is not None:
        yield line(*_asked(head.verified))
        yield note(*_asked(head.verified))
        yield Details(
            [
                f"The {ASKED} asked for first"
                if head.verified.num_tokens > ASKED
                else "All that were asked for"
            ],
            [_probabilities(head.verified)],
        )
    if lists:
        yield note(
            f"{SPACE} stands for a space, and escapes for bytes that are no text and for what does "
            "not print; each token with its id. The JSON file has the tokenizer's own spelling."
        )
    yield from lists


def _counts(head: HeadAudit) -> list[Number]:
    """How many of each kind."""
    rows, verdicts, of = head.rows, head.argmaxable, f"of {head.vocab_size:,} tokens"
    found, groups = [], len(rows.duplicates)
    grouped = (f"in {counted(groups, 'group')}",) if groups else ()

    def add(label: str, count: int, path: str, *baselines: str) -> None:
        found.append(Number(label, number(count), (*baselines, of), f"head.{path}"))

    if verdicts is not None:
        add("never the most probable", len(verdicts.unargmaxable), "argmaxable.unargmaxable")
        add("undecided", len(verdicts.undecided), "argmaxable.undecided")
    shared = sum(map(len, rows.duplicates))
    add("with a row like another's", shared, "rows.duplicates", *grouped)
    if rows.undertrained is not None:
        add("undertrained, by place", len(rows.undertrained), "rows.undertrained")
    if head.verified is not None:
        asked, unsaid = head.verified.num_tokens, head.verified.num_found
        found.append(
            Number(
                "not said when asked for",
                number(unsaid),
                (f"of {number(asked)} asked for",),
                "head.verified.num_found",
            )
        )
    if rows.beyond_tokenizer is not None:
        add("beyond the tokenizer", len(rows.beyond_tokenizer), "rows.beyond_tokenizer")
    return found


def _lists(head: HeadAudit) -> list[Tokens]:
    """Every list that is not empty."""
    rows, verdicts = head.rows, head.argmaxable
    found: list[tuple[str, str, list[Listed]]] = []
    hints = {"rows.undertrained": ", read off the geometry, no proof"}
    ties: list[Listed] = []
    if verdicts is not None:
        ties = [list(zip(tie.tokens, tie.strings, strict=True)) for tie in verdicts.ties]
        found = [
            ("Never the most probable", "argmaxable.unargmaxable", _alone(verdicts.unargmaxable)),
            ("Undecided", "argmaxable.undecided", _alone(verdicts.undecided)),
            ("Ties", "argmaxable.ties", ties),
        ]
    if not ties:
        equal: list[Listed] = [[(t.token, t.string) for t in group] for group in rows.duplicates]
        found.append(("Equal rows", "rows.duplicates", equal))
    found += [
        ("Undertrained", "rows.undertrained", _alone(rows.undertrained)),
        ("Not said when asked for", "verified.tokens", _alone(_unsaid(head))),
        ("Beyond the tokenizer", "rows.beyond_tokenizer", _alone(rows.beyond_tokenizer)),
    ]
    for title, path, tokens, hint in health_lists(head.tokens):
        found.append((title, path, _alone(tokens)))
        hints[path] = hint
    read = reader(string for _, _, groups in found for group in groups for _, string in group)
    return [
        Tokens(
            title,
            f"head.{path}",
            [[(token, string and read(string)) for token, string in group] for group in groups],
            hints.get(path, ""),
        )
        for title, path, groups in found
        if groups
    ]


def named(token: int, text: str | None, most: int = LONGEST) -> str:
    """The text of a token and its id."""
    return f"{visible(text, most)} ({token})" if text else str(token)


def _alone(tokens: Iterable[Any] | None) -> list[Listed]:
    return [[(token.token, token.string)] for token in tokens or ()]


def _unsaid(head: HeadAudit) -> list[VerifiedToken]:
    tokens = head.verified.tokens if head.verified is not None else []
    return [token for token in tokens if token.prob < FOUND]


def _asked(verified: Verification) -> Iterator[Piece]:
    labels = ", ".join(f"{label} {count:,}" for label, count in verified.by_label.items())
    yield Link("Asked for", "head.verified")
    yield f" were {counted(verified.num_tokens, 'token')}, the first by "
    yield Link(verified.order, "head.verified.order")
    yield ". What is suspected of a token is "
    yield Link("verified or rejected", "head.verified.tokens[].label")
    yield f": {labels}."


def _probabilities(verified: Verification) -> Table | None:
    """Token by token, the most suspicious first."""
    tokens = verified.tokens[:ASKED]
    read = reader(token.string for token in tokens)
    return by_item(
        "Tokens that the model was asked for",
        tokens,
        lambda token: named(token.token, token.string and read(token.string)),
        (("probability", "prob", number), ("suspicion", "label", str), ("prompt", "prompt", str)),
        "head.verified.tokens[]",
        first="token",
    )


def _proof(entry: Unargmaxable, text: str | None) -> Details:
    """A token that cannot win, with the rows that enclose it, the largest weights first."""
    certificate = entry.certificate
    pairs = sorted(
        zip(certificate.weights, certificate.tokens, strict=True),
        key=lambda pair: (-pair[0], pair[1]),
    )
    more = len(pairs) - ENCLOSING
    rest = f", and {number(more)} more, in the JSON file" if more > 0 else ""
    mean = ", ".join(f"{number(weight)} {TIMES} {token}" for weight, token in pairs[:ENCLOSING])
    name: list[Piece] = [] if text is None else [Verbatim(text, code=True), " "]
    return Details(
        [*name, f"{entry.token}: margin at most {number(entry.bound)}"],
        [
            note(
                f"The row is, up to {number(certificate.residual)}, this mean of rows "
                f"(weight {TIMES} token): {mean}{rest}."
            )
        ],
    )


def _decided(verdicts: Argmaxable) -> Iterator[Piece]:
    base = "head.argmaxable"
    stages = ", ".join(f"{stage} {count:,}" for stage, count in verdicts.decided_by.items())
    yield Link("Decided by", f"{base}.decided_by")
    yield f": {stages} of {number(verdicts.num_distinct)} different rows. "
    if verdicts.smallest_margin is not None:
        yield Link("Smallest margin", f"{base}.smallest_margin")
        yield f" of a witness {number(verdicts.smallest_margin)}, "
        yield Link("median", f"{base}.median_margin")
        yield f" {number(verdicts.median_margin)}, "
        yield Link("tolerance", f"{base}.tolerance")
        yield f" {number(verdicts.tolerance)}. "
    yield (
        "That a hidden state exists says neither that the model produces it, nor what probability "
        "the token gets."
    )
