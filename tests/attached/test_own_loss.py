"""Which models count a label where a head does, whatever the size of their vocabulary."""

from types import SimpleNamespace

import pytest
import torch.nn.functional as F
from torch import nn

from wideneck.attached.own_loss import check_own_loss
from wideneck.errors import WideneckError


class Model(nn.Module):
    """Logits of ids, and the loss of a label at `offset` positions behind its logits."""

    def __init__(self, vocab_size, offset, encoder):
        super().__init__()
        self.config = SimpleNamespace(is_encoder_decoder=encoder)
        self.embedding, self.layer = nn.Embedding(vocab_size, 4), nn.Linear(4, vocab_size)
        self.offset = offset

    def get_output_embeddings(self):
        return self.layer

    def forward(self, input_ids, decoder_input_ids=None, labels=None):
        logits = self.layer(self.embedding(input_ids))
        end = logits.shape[1] - self.offset
        loss = F.cross_entropy(logits[0, :end], labels[0, self.offset :])
        return SimpleNamespace(loss=loss, logits=logits)


@pytest.mark.parametrize("encoder", [False, True])
@pytest.mark.parametrize("vocab_size", [2, 3, 4, 5, 8, 13, 40, 200])
def test_a_label_is_expected_at_the_next_position_and_behind_an_encoder_at_its_own(
    vocab_size, encoder
):
    fits, other = (0, 1) if encoder else (1, 0)
    model = Model(vocab_size, fits, encoder).train()
    check_own_loss(model)
    assert model.training
    assert not model.layer._forward_hooks
    place = "the next" if encoder else "its own"
    with pytest.raises(WideneckError, match=f"counts each label at {place} position"):
        check_own_loss(Model(vocab_size, other, encoder))
