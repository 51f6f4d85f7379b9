"""Elman and gated recurrent layers for the CPU, where torch has a fused kernel for the LSTM only.

The projection of the inputs is one matrix product outside the loop, and so is the weights' gradient; the loop over
time does what truly depends on the step before, in few operations without autograd's bookkeeping. The equations,
weights and results are those of ``torch.nn.RNN`` and ``torch.nn.GRU``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn.functional import linear

Weights = Sequence[Tensor]
"""As torch keeps them: inputs' and state's weights (g H, F) and (g H, H), and a bias (g H,) for each; g gates."""


def elman(x: Tensor, h: Tensor, weights: Weights) -> Tensor:
    """h(t) = tanh(W x(t) + b + U h(t-1) + c): from x (T, n, F) and h(0) (n, H) to all h, shape (T, n, H)."""
    w, u, b, c = weights
    out: Tensor = _Elman.apply(linear(x, w, b + c).to(h.dtype), h, u)  # type: ignore[no-untyped-call]
    return out


def gru(x: Tensor, h: Tensor, weights: Weights) -> Tensor:
    """The gated recurrent unit with the reset gate after the product (Cho et al. 2014, as cuDNN has it).

    r, z = sigmoid(W x(t) + b + U h(t-1) + c);  n = tanh(W_n x(t) + b_n + r (U_n h(t-1) + c_n));
    h(t) = (1 - z) n + z h(t-1). Shapes as in :func:`elman`.
    """
    sizes = [2 * h.shape[-1], h.shape[-1]]
    (w_rz, w_n), (u_rz, u_n), (b_rz, b_n), (c_rz, c_n) = (torch.split(weight, sizes) for weight in weights)
    rz, n = linear(x, w_rz, b_rz + c_rz).to(h.dtype), linear(x, w_n, b_n).to(h.dtype)
    out: Tensor = _Gru.apply(rz, n, h, u_rz, u_n, c_n)  # type: ignore[no-untyped-call]
    return out


def _tanh_(x: Tensor) -> Tensor:
    """tanh(x) = 2 sigmoid(2 x) - 1, in place: twice as fast here as torch.tanh."""
    return x.mul_(2).sigmoid_().mul_(2).sub_(1)


def _before(out: Tensor, h: Tensor) -> Tensor:
    return torch.cat([h[None], out[:-1]]).view(-1, h.shape[-1])


class _Elman(Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Tensor) -> Tensor:
        drive, h, u = inputs
        out, transposed, state = torch.empty_like(drive), u.t().contiguous(), h
        for now, new in zip(drive.unbind(), out.unbind(), strict=True):
            state = _tanh_(torch.addmm(now, state, transposed, out=new))
        ctx.save_for_backward(out, h, u)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        out, h, u = ctx.saved_tensors
        grad = torch.addcmul(torch.ones_like(out), out, out, value=-1)  # tanh'
        to_state, carried = torch.empty_like(h), torch.zeros_like(h)
        for into, given in zip(grad.unbind()[::-1], grads[0].unbind()[::-1], strict=True):
            torch.add(given, carried, out=to_state)
            into.mul_(to_state)
            torch.mm(into, u, out=carried)
        return grad, carried, grad.view(-1, h.shape[-1]).t() @ _before(out, h)


class _Gru(Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Tensor) -> Tensor:
        rz, n, h, u_rz, u_n, c_n = inputs
        gates, inner, new, out = torch.empty_like(rz), torch.empty_like(n), torch.empty_like(n), torch.empty_like(n)
        t_rz, t_n, state = u_rz.t().contiguous(), u_n.t().contiguous(), h
        steps = zip(*(a.unbind() for a in (rz, n, gates, inner, new, out)), strict=True)
        for rz_now, n_now, gate, product, candidate, state_now in steps:
            torch.addmm(rz_now, state, t_rz, out=gate).sigmoid_()
            reset, keep = gate.chunk(2, dim=1)
            torch.addmm(c_n, state, t_n, out=product)
            _tanh_(torch.addcmul(n_now, reset, product, out=candidate))
            state = torch.lerp(candidate, state, keep, out=state_now)
        ctx.save_for_backward(gates, inner, new, out, h, u_rz, u_n)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        gates, inner, new, out, h, u_rz, u_n = ctx.saved_tensors
        size = h.shape[-1]
        reset, keep = gates.split(size, dim=-1)
        before = _before(out, h)
        # The chain rule's factors of dh, for all steps at once: columns r, z, and U_n h + c_n.
        to_candidate = (1 - keep) * (1 - new * new)
        factors = out.new_empty(*out.shape[:2], 3, size)
        torch.mul(to_candidate * inner, reset - reset * reset, out=factors[:, :, 0])
        torch.mul(before.view_as(out) - new, keep - keep * keep, out=factors[:, :, 1])
        torch.mul(to_candidate, reset, out=factors[:, :, 2])
        u, total, carried = torch.cat([u_rz, u_n]), torch.empty_like(out), torch.zeros_like(h)
        kept = keep.contiguous()
        steps = zip(*(a.unbind()[::-1] for a in (factors, kept, grads[0], total)), strict=True)
        for factor, share, given, dh in steps:
            torch.add(given, carried, out=dh)
            factor.mul_(dh.unsqueeze(1))
            torch.addmm(torch.mul(dh, share, out=carried), factor.view(-1, 3 * size), u, out=carried)
        flat = factors.view(-1, 3 * size)
        d_u = flat.t() @ before
        d_rz, d_n = factors[:, :, :2].reshape(gates.shape), total.mul_(to_candidate)
        return d_rz, d_n, carried, d_u[: 2 * size], d_u[2 * size :], flat[:, 2 * size :].sum(0)
