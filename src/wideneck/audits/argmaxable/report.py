"""From rows and tensors to tokens and plain numbers: the result that a user sees."""

import torch

from wideneck.audits.argmaxable.head import Head
from wideneck.audits.argmaxable.result import (
    Argmaxable,
    Certificate,
    Tie,
    TokenRef,
    Unargmaxable,
    Witness,
)
from wideneck.audits.argmaxable.search import Search
from wideneck.audits.argmaxable.verdict import Found


def report(
    head: Head, groups: list[list[int]], names: list[str | None], search: Search
) -> Argmaxable:
    """The findings of a search, for every member of each group of equal rows."""

    def name(token: int) -> str | None:
        return names[token] if token < len(names) else None

    unargmaxable, witnesses = [], []
    for i, (stage, proof) in sorted(search.proofs.items()):
        if isinstance(proof, Found):
            token, x = groups[i][0], proof.x.tolist()
            witnesses.append(
                Witness(token=token, string=name(token), method=stage, margin=proof.margin, x=x)
            )
            continue
        certificate = Certificate(
            tokens=head.tokens[proof.index].tolist(),
            weights=proof.weights.tolist(),
            residual=proof.residual,
        )
        unargmaxable += [
            Unargmaxable(
                token=token, string=name(token), bound=proof.bound, certificate=certificate
            )
            for token in groups[i]
        ]
    margins = torch.cat(search.margins)
    return Argmaxable(
        num_tokens=len(head.weight),
        num_distinct=head.num_rows,
        unargmaxable=sorted(unargmaxable, key=lambda entry: entry.token),
        undecided=[
            TokenRef(token=token, string=name(token))
            for token in sorted(token for i in search.undecided for token in groups[i])
        ],
        ties=[
            Tie(tokens=group, strings=[name(token) for token in group])
            for group in groups
            if len(group) > 1
        ],
        decided_by=search.decided_by,
        plain=[groups[i][0] for i in search.plain],
        smallest_margin=margins.min().item() if len(margins) > 0 else None,
        median_margin=margins.median().item() if len(margins) > 0 else None,
        tolerance=head.tolerance,
        box=head.box,
        witnesses=witnesses,
    )
