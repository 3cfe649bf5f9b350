"""The stages of the search in order, each for the rows that the one before left open.

A stage is cheaper a row than the next: one matrix product for all (self-tests), some hundred
smaller ones (clusters), a matrix product a step (reflections), a least-squares problem a row
(hull), a linear program a row.
"""

import math
import time

import torch
from torch import Tensor

from wideneck.audits.argmaxable.cluster import decide_clusters
from wideneck.audits.argmaxable.exact import nearest_point, solve_program
from wideneck.audits.argmaxable.head import Distinct, Progress
from wideneck.audits.argmaxable.reflect import reflect
from wideneck.audits.argmaxable.self_tests import Cloud, make_cloud, scaling, self_test, whitening
from wideneck.audits.argmaxable.verdict import Enclosed, Found, Proof
from wideneck.audits.measured import NUMERICAL

SECONDS, SECONDS_IN_ALL = 120.0, 600.0
"""For one row in the exact stages, and for all of them and the clusters; what needs more stays
undecided."""
TRANSFORMS = {"whitened": whitening, "plain": scaling}
"""The self-tests, in order."""


class Search:
    """What each stage found. Rows carry their number among the M distinct ones."""

    def __init__(self, head: Distinct, progress: Progress | None):
        self.head, self.progress = head, progress
        self.proofs: dict[int, tuple[str, Proof]] = {}
        self.plain: list[int] = []
        self.margins: list[Tensor] = [torch.empty(0, dtype=torch.float64)]
        self.decided_by = dict.fromkeys(
            (*TRANSFORMS, "cluster", "reflection", "hull", "program"), 0
        )
        self.undecided: list[int] = []
        self.barred = torch.zeros_like(head.tokens, dtype=torch.bool)
        """(M,): rows with a certificate. None may rest on them, or rows that are alike up to the
        tolerance, as on a circle of very many, would all be called mixtures of each other."""

    def run(self) -> None:
        """Goes through the stages."""
        head, progress = self.head, self.progress
        cloud = make_cloud(head, whitening(head))
        every_M = torch.arange(head.num_rows, device=head.tokens.device)
        left_N = self._self_test(cloud, every_M, "whitened")
        if len(left_N) > 0:
            left_N = self._self_test(make_cloud(head, scaling(head)), left_N, "plain")
        end = time.monotonic() + SECONDS_IN_ALL
        if head.box is None:
            left_N = self._clusters(cloud, left_N, end)
        if len(left_N) > 0:
            left_N = self._reflect(cloud, left_N)
        for k, i in enumerate(left_N.tolist()):
            stage, proof = self.exactly(cloud, i, end)
            if proof is None:
                self.undecided.append(i)
            else:
                self._keep(i, stage, proof)
            if progress is not None:
                progress("hull", k + 1, len(left_N))

    def exactly(self, cloud: Cloud, i: int, end: float = math.inf) -> tuple[str, Proof | None]:
        """The exact stages for row i, until `end` on the monotonic clock at most."""
        deadline = min(end, time.monotonic() + SECONDS)
        try:
            proof, active_K = nearest_point(self.head, cloud, i, self.barred, deadline)
            if proof is not None:
                return "hull", proof
            return "program", solve_program(self.head, i, self.barred, active_K, deadline)
        except NUMERICAL:  # a solver that takes no such numbers leaves the row undecided
            return "program", None

    def _self_test(self, cloud: Cloud, index_N: Tensor, stage: str) -> Tensor:
        passed_N, margins = self_test(self.head, cloud, index_N, stage, self.progress)
        self.decided_by[stage] += len(margins)
        self.margins.append(margins.cpu())
        if stage == "plain":
            self.plain += index_N[passed_N].tolist()
        return index_N[~passed_N]

    def _clusters(self, cloud: Cloud, index_N: Tensor, end: float) -> Tensor:
        try:
            found = decide_clusters(self.head, cloud, index_N, self.barred, end, self.progress)
        except NUMERICAL:  # nothing is lost: the later stages take these rows one by one
            return index_N
        for i, proof in found.items():
            self._keep(i, "cluster", proof)
        return index_N[[i not in found for i in index_N.tolist()]]

    def _reflect(self, cloud: Cloud, index_N: Tensor) -> Tensor:
        won_N, margin_N, x_ND = reflect(self.head, cloud, index_N, self.progress)
        relative_N = self.head.relative(margin_N, x_ND.norm(dim=1))
        for i, margin, x_D in zip(won_N.tolist(), relative_N.tolist(), x_ND, strict=True):
            self._keep(i, "reflection", Found(x=x_D, margin=margin))
        return index_N[~torch.isin(index_N, won_N)]

    def _keep(self, i: int, stage: str, proof: Proof) -> None:
        self.proofs[i] = stage, proof
        self.decided_by[stage] += 1
        if isinstance(proof, Enclosed):
            self.barred[i] = True
        else:
            self.margins.append(torch.tensor([proof.margin], dtype=torch.float64))
