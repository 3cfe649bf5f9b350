"""Lists of tokens as a report shows them: cut to a length that a reader reads."""

from collections.abc import Sequence
from dataclasses import dataclass

from wideneck.audits.argmaxable import Argmaxable
from wideneck.audits.head import HeadAudit
from wideneck.audits.token import TokenRef
from wideneck.report.numbers import number

MOST = 60
"""Tokens or groups that one list shows; the JSON file holds all of them."""
MEMBERS = 12
"""Tokens that one group shows: of a head whose rows are all equal, it holds the vocabulary."""

CERTIFICATES = 20
ENCLOSING = 12


@dataclass(frozen=True)
class Group:
    """Tokens that share a row (of one token, mostly), and how many are left out."""

    tokens: Sequence[TokenRef]
    more: int

    @classmethod
    def of(cls, tokens: Sequence[TokenRef]) -> "Group":
        """The first of the tokens."""
        return cls(tokens[:MEMBERS], max(0, len(tokens) - MEMBERS))


@dataclass(frozen=True)
class TokenList:
    """One list, and how many groups it leaves out."""

    title: str
    path: str
    groups: Sequence[Group]
    more: int


@dataclass(frozen=True)
class Proof:
    """A token that cannot win, with the rows that enclose it."""

    token: TokenRef
    bound: str
    residual: str
    enclosing: Sequence[tuple[int, str]]
    more: int


def token_lists(head: HeadAudit) -> list[TokenList]:
    """Every list that is not empty; the unargmaxable tokens come apart, with their proofs."""
    rows, verdicts = head.rows, head.argmaxable
    found: list[tuple[str, str, Sequence[Sequence[TokenRef]]]] = []
    if verdicts is not None:
        found.append(
            ("Undecided", "head.argmaxable.undecided", [[token] for token in verdicts.undecided])
        )
        found.append(("Ties", "head.argmaxable.ties", _ties(verdicts)))
    if not found or not found[-1][2]:
        found.append(("Equal rows", "head.rows.duplicates", rows.duplicates))
    found.append(
        ("Never trained", "head.rows.never_trained", [[t] for t in rows.never_trained or ()])
    )
    found.append(
        (
            "Beyond the tokenizer",
            "head.rows.beyond_tokenizer",
            [[t] for t in rows.beyond_tokenizer or ()],
        )
    )
    return [
        TokenList(
            title, path, [Group.of(group) for group in groups[:MOST]], max(0, len(groups) - MOST)
        )
        for title, path, groups in found
        if groups
    ]


def proofs(verdicts: Argmaxable) -> list[Proof]:
    """The first unargmaxable tokens with their certificates, the largest weights first."""
    return [
        Proof(
            token=entry,
            bound=number(entry.bound),
            residual=number(entry.certificate.residual),
            enclosing=[
                (token, number(weight))
                for weight, token in sorted(
                    zip(entry.certificate.weights, entry.certificate.tokens, strict=True),
                    key=lambda pair: (-pair[0], pair[1]),
                )[:ENCLOSING]
            ],
            more=max(0, len(entry.certificate.tokens) - ENCLOSING),
        )
        for entry in verdicts.unargmaxable[:CERTIFICATES]
    ]


def _ties(verdicts: Argmaxable) -> list[list[TokenRef]]:
    return [
        [
            TokenRef(token=token, string=string)
            for token, string in zip(tie.tokens, tie.strings, strict=True)
        ]
        for tie in verdicts.ties
    ]
