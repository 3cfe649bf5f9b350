"""`import wideneck.auto`: transformers loads folders with heads and normalizers of wideneck.

`AutoModelForCausalLM`, `pipeline` and whatever uses these then open what `save_pretrained` of such
a model has written.  `wideneck.load` and `wideneck.attach` need no such line.
"""

import wideneck.attached  # noqa: F401  which registers
