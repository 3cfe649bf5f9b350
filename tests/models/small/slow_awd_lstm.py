"""An AWD-LSTM with a tied softmax, written from the equations: one number of one gate at a time.

Works on a dictionary of tensors; takes nothing from the package and nothing from torch.nn.
"""

import torch


def slow_cell(x, h, c, w_ih, w_hh, b_ih, b_hh):
    """The LSTM of Hochreiter & Schmidhuber with a forget gate: new h and c, of (B, H)."""
    a = x @ w_ih.T + b_ih + h @ w_hh.T + b_hh
    H = h.shape[1]
    i = 1 / (1 + torch.exp(-a[:, :H]))
    f = 1 / (1 + torch.exp(-a[:, H : 2 * H]))
    g = torch.tanh(a[:, 2 * H : 3 * H])
    o = 1 / (1 + torch.exp(-a[:, 3 * H :]))
    c = f * c + i * g
    return o * torch.tanh(c), c


def slow_layer(inputs, h, c, weights):
    """All steps of one layer: T inputs (B, I) to T outputs (B, H)."""
    outputs = []
    for x in inputs:
        h, c = slow_cell(x, h, c, *weights)
        outputs.append(h)
    return outputs, h, c


def slow_segment(layers, embedding, bias, ids, targets, state, alpha, beta):
    """Mean nll, AR + TAR, the last layer's outputs, and the state: [h, c] of each layer."""
    B, T = ids.shape
    signal = [embedding[ids[:, t]] for t in range(T)]
    after = []
    for weights, (h, c) in zip(layers, state, strict=True):
        signal, h, c = slow_layer(signal, h, c, weights)
        after.append((h, c))
    nll = 0.0
    for t, h in enumerate(signal):
        logits = h @ embedding.T + bias
        p = torch.exp(logits) / torch.exp(logits).sum(1, keepdim=True)
        for b in range(B):
            nll = nll - torch.log(p[b, targets[b, t]])
    ar = sum((h**2).sum() for h in signal) / sum(h.numel() for h in signal)
    changes = [signal[t + 1] - signal[t] for t in range(T - 1)]
    tar = sum((d**2).sum() for d in changes) / sum(d.numel() for d in changes)
    return nll / (B * T), alpha * ar + beta * tar, torch.stack(signal, 1), after
