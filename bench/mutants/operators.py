"""Which errors are planted: those of cosmic-ray that may be a wrong formula, and two of ours.

Left out are cosmic-ray's replacements that only end in a TypeError (`x << y` for `x + y`), its
removal of decorators and its replacement of exceptions.
"""

from collections.abc import Iterator
from typing import Any

BINARY = """
Add_Sub Sub_Add Mul_Div Mul_Add Div_Mul FloorDiv_Mul Mod_FloorDiv Pow_Mul BitAnd_BitOr
BitOr_BitAnd LShift_RShift RShift_LShift
""".split()
COMPARISONS = """
Eq_NotEq NotEq_Eq Lt_LtE Lt_Gt LtE_Lt LtE_GtE Gt_GtE Gt_Lt GtE_Gt GtE_LtE Is_IsNot IsNot_Is
""".split()
OTHERS = """
ReplaceUnaryOperator_Delete_USub ReplaceUnaryOperator_Delete_Not
ReplaceUnaryOperator_Delete_Invert AddNot ReplaceTrueWithFalse ReplaceFalseWithTrue
ReplaceAndWithOr ReplaceOrWithAnd ReplaceBreakWithContinue ReplaceContinueWithBreak
NumberReplacer ZeroIterationForLoop
""".split()
COSMIC_RAY = (
    *(f"ReplaceBinaryOperator_{change}" for change in BINARY),
    *(f"ReplaceComparisonOperator_{change}" for change in COMPARISONS),
    *OTHERS,
)
ASSIGNMENTS = {"+=": "-=", "-=": "+=", "*=": "/=", "/=": "*=", "|=": "&=", "&=": "|="}
TWINS = {"min": "max", "amin": "amax", "argmin": "argmax", "minimum": "maximum", "sum": "mean"}
TWINS |= {"all": "any", "floor": "ceil", "triu": "tril", "zeros_like": "ones_like"}
NAMES = TWINS | {new: old for old, new in TWINS.items()} | {"median": "mean"}
"""A function or an argument for another of the same kind."""


class Replacement:
    """Some leaves of a tree for others; it has the methods of cosmic-ray's operators."""

    def __init__(self, kind: str, table: dict[str, str]):
        self.kind = kind
        self.table = table

    def mutation_positions(self, node: Any) -> Iterator[tuple]:
        if node.type == self.kind and node.value in self.table:
            if self.kind != "name" or _is_called(node):
                yield node.start_pos, node.end_pos

    def mutate(self, node: Any, index: int) -> Any:
        node.value = self.table[node.value]
        return node


def operators() -> dict[str, Any]:
    """Every operator by its name, in an order that is always the same."""
    from cosmic_ray.plugins import get_operator  # pyrefly: ignore[missing-import]

    own = {
        "Assignment": Replacement("operator", ASSIGNMENTS),
        "Name": Replacement("name", NAMES),
    }
    return {name: get_operator(f"core/{name}")() for name in COSMIC_RAY} | own


def is_a_formula(node: Any) -> bool:
    """Whether a change of this node of parso's tree may change what is computed.

    It may not in an annotation, a decorator, an import, what a `raise` says, the `strict` of a
    `zip`, or where a sign stands for no operator (`*` and `/` among parameters, `**` in a call).
    """
    if node.type == "operator" and node.value in {"*", "/", "**"}:
        if node.parent.type not in {"arith_expr", "term", "power", "expr"}:
            return False
    while node.parent is not None:
        parent = node.parent
        if parent.type in {"raise_stmt", "decorator", "tfpdef", "import_from", "import_name"}:
            return False
        if parent.type == "argument" and parent.get_first_leaf().value == "strict":
            return False
        if parent.type == "annassign" and node is parent.children[1]:
            return False
        if parent.type == "funcdef" and node is parent.annotation:
            return False
        node = parent
    return True


def _is_called(node: Any) -> bool:
    """Whether a name is a function's, a method's or an argument's, and no variable's."""
    before, after = node.get_previous_leaf(), node.get_next_leaf()
    names_an_argument = node.parent.type == "argument" and node is node.parent.children[0]
    return (before is not None and before.value == ".") or after.value == "(" or names_an_argument
