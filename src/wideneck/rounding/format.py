"""A format that a V x D matrix of weights is rounded to, and what every format answers.

Codes, scales and bytes are those of the library that a format's `about` names: its files are what
readers decode, so `rounded` is what they see.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor

from wideneck.errors import WideneckError
from wideneck.rounding.grid import Grid


@dataclass(frozen=True, kw_only=True)
class Format(ABC):
    """One way of storing a matrix.  V rows, one a token; D columns."""

    name: str
    """As it is printed, such as "fp8 row"."""
    about: str
    """One sentence: codes, scales, and whose they are."""

    @abstractmethod
    def refusal(self, num_rows: int, num_columns: int) -> str | None:
        """Why a matrix of this shape cannot be stored so, as a clause; None if it can."""

    @abstractmethod
    def num_bytes(self, num_rows: int, num_columns: int) -> int:
        """Bytes of the codes and scales."""

    @abstractmethod
    def rounded(self, weight: Tensor) -> Tensor:
        """What a reader decodes of the matrix, rounded to nearest as the library does it.

        Rows are worked through in chunks: nothing of the size of the matrix lives beside the
        result.

        Args:
            weight: (V, D) of any floating type, rounded to float32 first.

        Returns:
            (V, D) float32.

        Raises:
            WideneckError: `refusal` has a reason.
        """

    def variance(self, weight: Tensor) -> Tensor | None:
        """The variance of each weight's error if errors were independent noise.

        A step's square over 12 (cheap_heads.md 3.2), the step being the distance of the numbers
        that can be stored around the weight; what is clipped is not counted.

        Returns:
            (V, D) float32, or None where codes are a table of few numbers: there the squares of the
            true errors, `(rounded(weight) - weight) ** 2`, are the noise's variance.
        """
        return None

    def grid(self, num_columns: int) -> Grid | None:
        """Its scales and codes where `scale_search` and `gptq` may choose them; None elsewhere."""
        return None

    def check(self, weight: Tensor) -> None:
        """Raises the refusal of a matrix that cannot be stored so."""
        reason = self.refusal(*weight.shape)
        if reason is not None:
            raise WideneckError(f"{self.name} does not fit this matrix: {reason}.")
