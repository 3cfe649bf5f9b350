"""From rows and tensors to tokens and plain numbers: the result that a user sees."""

import dataclasses

import torch

from wideneck.audits.argmaxable.head import Distinct
from wideneck.audits.argmaxable.result import (
    Argmaxable,
    Certificate,
    Tie,
    TokenRef,
    Unargmaxable,
    Witness,
)
from wideneck.audits.argmaxable.search import Search
from wideneck.audits.argmaxable.verdict import Enclosed, Found, check_certificate, rows_of

NUMBERS = 2**20
"""Weights of certificates that a report holds, and numbers of states: some 30 MB of JSON each."""


def report(
    head: Distinct, groups: list[list[int]], names: list[str | None], search: Search
) -> Argmaxable:
    """The findings of a search, for every member of each group of equal rows."""

    def name(token: int) -> str | None:
        return names[token] if token < len(names) else None

    witnesses: list[Witness] = []
    proved: list[tuple[int, Enclosed]] = []
    undecided = [token for i in search.undecided for token in groups[i]]
    for i, (stage, proof) in sorted(search.proofs.items()):
        if isinstance(proof, Found):
            if (len(witnesses) + 1) * len(proof.x) > NUMBERS:
                proof = dataclasses.replace(proof, x=proof.x[:0])
            token = groups[i][0]
            witnesses.append(witness_of(proof, token, name(token), stage))
            continue
        for token in groups[i]:
            own = of_token(head, proof, i, token)
            if own is None:
                undecided.append(token)
            else:
                proved.append((token, own))
    unargmaxable, numbers = [], 0
    for token, own in sorted(proved, key=lambda pair: pair[0]):
        numbers += len(own.index)
        if numbers > NUMBERS:
            own = dataclasses.replace(own, index=own.index[:0], weights=own.weights[:0])
        unargmaxable.append(
            Unargmaxable(
                token=token,
                string=name(token),
                bound=own.bound,
                certificate=certificate_of(head, own),
            )
        )
    margins = torch.cat(search.margins)
    return Argmaxable(
        num_tokens=len(head.weight),
        num_distinct=head.num_rows,
        unargmaxable=unargmaxable,
        undecided=[TokenRef(token=token, string=name(token)) for token in sorted(undecided)],
        ties=[
            Tie(tokens=group, strings=[name(token) for token in group])
            for group in groups
            if len(group) > 1
        ],
        decided_by=search.decided_by,
        plain=[groups[i][0] for i in search.plain],
        smallest_margin=margins.min().item() if len(margins) > 0 else None,
        median_margin=margins.median().item() if len(margins) > 0 else None,
        tolerance=head.unit,
        box=head.box,
        witnesses=witnesses,
    )


def of_token(head: Distinct, proof: Enclosed, i: int, token: int) -> Enclosed | None:
    """The certificate of row i, judged again for a token whose row ties with it."""
    rows, own_1D = rows_of(head, torch.tensor([i])), head.weight[token, None].double()
    bias_1 = bias_size_1 = own_1D.new_zeros(1)
    if head.every_bias is not None:
        first, own = head.every_bias[[int(head.tokens[i]), token]].double().split(1)
        bias_1, bias_size_1 = rows.bias + (own - first), own.abs()
    if bool((own_1D == rows.weight).all()) and bool((bias_1 == rows.bias).all()):
        return proof
    sizes = (own_1D.abs() / head.columns).amax(1)
    rows = dataclasses.replace(
        rows, weight=own_1D, sizes=sizes, bias=bias_1, bias_sizes=bias_size_1
    )
    return check_certificate(head, rows, proof.index, proof.weights.cpu().numpy())


def certificate_of(head: Distinct, proof: Enclosed) -> Certificate:
    """The same by tokens."""
    return Certificate(
        tokens=head.tokens[proof.index].tolist(),
        weights=proof.weights.tolist(),
        residual=proof.residual,
    )


def witness_of(proof: Found, token: int, string: str | None, stage: str) -> Witness:
    """The same for a state."""
    x = proof.x.tolist()
    return Witness(token=token, string=string, method=stage, margin=proof.margin, x=x)
