"""Heads of wideneck as the output layer of a causal language model of transformers.

Whoever imports one of its modules has them registered with transformers.
"""

from wideneck.attached import registration

registration.register()
