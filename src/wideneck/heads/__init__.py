"""Output layers that own their loss: softmax, its alternatives, and mixtures of them."""

from wideneck.heads.build import build as build
from wideneck.heads.build import names as names
from wideneck.heads.head import Head as Head
from wideneck.heads.low_rank import low_rank_from as low_rank_from
