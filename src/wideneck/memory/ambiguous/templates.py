"""Sentences that two words continue equally well (the shapes of Wan et al. 2023, section 5.1).

The wording is ours, the shapes are the paper's: sentences about people end with the article,
those about places with the bare slot, and one starts with the slot itself, where a tokenizer may
see the word without its space.  One of the paper's about places speaks of an uncle; ours hold no
word of the analogies, so that what a split keeps out of training stays out.  Every slot stands
between spaces.
"""

from wideneck.memory.ambiguous.words import Kind

TEMPLATES: dict[Kind, tuple[str, ...]] = {
    "people": (
        "With only a minute left I had to pick the {x} or the {y} and so I first spoke to the",
        "Everyone in the village adores the {x} and the {y} but they are fondest of the",
        "The {x} and the {y} share a small flat and last winter a thief robbed the",
        "We are putting up the {x} and the {y} for a week and have to cook separately for the",
    ),
    "location": (
        "After a long stay in {x} and {y} I know that I would rather live in",
        "{x} and {y} are the places I like most and the one I dream about is",
        "A neighbour of mine used to live in {x} and {y} and is now selling the old house in",
        "The two stops of our tour are {x} and {y} and the plane takes us first to",
    ),
}
