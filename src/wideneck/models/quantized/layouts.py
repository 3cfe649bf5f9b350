"""Every layout of a quantized matrix that is read: the one list."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from wideneck.files.printable import listed
from wideneck.models.quantized.bitsandbytes import STATE, read_four_bits, read_int8
from wideneck.models.quantized.eight_bits import read_bytes
from wideneck.models.quantized.four_bits import is_packed, read_mxfp4, read_nvfp4
from wideneck.models.quantized.matrix import QuantizedMatrix
from wideneck.models.quantized.packed_integers import read_packed_integers
from wideneck.models.quantized.stored import StoredMatrix
from wideneck.models.quantized.transposed import read_transposed


@dataclass(frozen=True, kw_only=True)
class Layout:
    """One way to store a matrix: by the names of its parts, and by their types where those agree.

    A part that is in neither list says something of the matrix that the layout knows nothing of.
    """

    needs: tuple[str, ...]
    may: tuple[str, ...] = ()
    read: Callable[[StoredMatrix], QuantizedMatrix]
    fits: Callable[[StoredMatrix], bool] = lambda stored: True


ACTIVATIONS = (
    "input_scale",
    "input_scale_ub",
    "input_global_scale",
    "input_zero_point",
    "output_scale",
    "activation_scale",
    "activation_scale_inv",
)
"""Of what enters the layer and leaves it; the matrix is the same without them."""
NESTED = ("weight.nested_absmax", "weight.nested_quant_map")


def _is_words(stored: StoredMatrix) -> bool:
    return stored.dtype("weight_packed") == torch.int32


def _is_pairs(part: str) -> Callable[[StoredMatrix], bool]:
    return lambda stored: is_packed(stored, part)


def _is_bytes(stored: StoredMatrix) -> bool:
    return not is_packed(stored, "weight")


LAYOUTS = (
    Layout(
        needs=("weight_packed", "weight_scale", "weight_global_scale"),
        may=ACTIVATIONS,
        read=read_nvfp4,
    ),
    Layout(needs=("weight", "weight_scale", "weight_scale_2"), may=ACTIVATIONS, read=read_nvfp4),
    Layout(
        needs=("weight_packed", "weight_scale", "weight_shape"),
        may=("weight_zero_point", *ACTIVATIONS),
        read=read_packed_integers,
        fits=_is_words,
    ),
    Layout(
        needs=("weight_packed", "weight_scale"),
        may=ACTIVATIONS,
        read=read_mxfp4,
        fits=_is_pairs("weight_packed"),
    ),
    *(
        Layout(needs=("weight", scale), may=ACTIVATIONS, read=read_mxfp4, fits=_is_pairs("weight"))
        for scale in ("weight_scale", "weight_scale_inv")
    ),
    *(
        Layout(
            needs=("weight", scale),
            may=("weight_zero_point", *ACTIVATIONS),
            read=read_bytes,
            fits=_is_bytes,
        )
        for scale in ("weight_scale", "weight_scale_inv")
    ),
    *(
        Layout(
            needs=("weight", "weight.absmax", "weight.quant_map", f"{STATE}{kind}", *nested),
            read=read_four_bits,
        )
        for kind in ("nf4", "fp4")
        for nested in ((), NESTED)
    ),
    Layout(needs=("weight", "SCB"), may=("weight_format",), read=read_int8),
    Layout(needs=("qweight", "qzeros", "scales"), may=("g_idx",), read=read_transposed),
)
CODES = ("weight_packed", "qweight")
"""Parts that hold the numbers of a matrix under another name than `weight`."""
SIGNS = ("weight_scale", "weight_scale_inv", "weight.absmax", "SCB")
"""Parts beside a `weight` that say that its numbers are codes."""


def decoder(stored: StoredMatrix) -> QuantizedMatrix:
    """The matrix that the parts store.

    Raises:
        WideneckError: they are of no layout, of one beside which stands a part that it has no use
            for, or the numbers in them do not fit each other.
    """
    parts = stored.parts - {"bias"}
    near = [layout for layout in LAYOUTS if parts.issuperset(layout.needs)]
    rest = [parts.difference(layout.needs, layout.may) for layout in near]
    known = [layout for layout, more in zip(near, rest, strict=True) if not more]
    if not known:
        if rest:
            unknown = sorted(min(rest, key=len))
            raise stored.refused(f"nothing says what {listed(unknown)} does to it")
        nearest = max(LAYOUTS, key=lambda layout: len(parts.intersection(layout.needs)))
        raise stored.refused(f"no {listed(sorted(set(nearest.needs) - parts))}")
    if stored.config.get("transform_config"):
        raise stored.refused("its transform_config rotates matrices, and does not say which")
    for layout in known:
        if layout.fits(stored):
            return layout.read(stored)
    raise stored.refused("the types of its parts are of no layout")
