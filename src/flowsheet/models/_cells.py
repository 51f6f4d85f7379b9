"""Elman and gated recurrent layers for the CPU, where torch has a fused kernel for the LSTM only.

The projection of the inputs is one matrix product outside the loop, and so is the weights'
gradient; the loop over time does what truly depends on the step before, in few operations without
autograd's bookkeeping. The equations, weights and results are those of ``torch.nn.RNN`` and
``torch.nn.GRU``.
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


def elman(x: Tensor, h: Tensor, weights: Weights, widths: list[int]) -> Tensor:
    """h(t) = tanh(W x(t) + b + U h(t-1) + c): from packed rows x (R, F) and h(0) (n, H) to all h,
    shape (R, H).

    ``widths`` are the rows of each step, n or fewer and never more than in the step before.
    """
    w, u, b, c = weights
    out: Tensor = _Elman.apply(linear(x, w, b + c).to(h.dtype), h, u, widths)  # type: ignore[no-untyped-call]
    return out


def gru(x: Tensor, h: Tensor, weights: Weights, widths: list[int]) -> Tensor:
    """The gated recurrent unit with the reset gate after the product (Cho et al. 2014, as cuDNN has
    it).

    r, z = sigmoid(W x(t) + b + U h(t-1) + c);  n = tanh(W_n x(t) + b_n + r (U_n h(t-1) + c_n));
    h(t) = (1 - z) n + z h(t-1). Shapes as in :func:`elman`.
    """
    sizes = [2 * h.shape[-1], h.shape[-1]]
    (w_rz, w_n), (u_rz, u_n), (b_rz, b_n), (c_rz, c_n) = (
        torch.split(weight, sizes) for weight in weights
    )
    rz, n = linear(x, w_rz, b_rz + c_rz).to(h.dtype), linear(x, w_n, b_n).to(h.dtype)
    out: Tensor = _Gru.apply(rz, n, h, u_rz, u_n, c_n, widths)  # type: ignore[no-untyped-call]
    return out


def _tanh_(x: Tensor) -> Tensor:
    """tanh(x) = 2 sigmoid(2 x) - 1, in place: twice as fast here as torch.tanh."""
    return x.mul_(2).sigmoid_().mul_(2).sub_(1)


def _before(out: Tensor, h: Tensor, widths: list[int]) -> Tensor:
    """The state before each row, (R, H)."""
    steps = zip(torch.split(out, widths), [*widths[1:], 0], strict=True)
    return torch.cat([h[: widths[0]], *(state[:n] for state, n in steps)])


def _heads(buffer: Tensor, widths: list[int]) -> list[Tensor]:
    """For each step as many of the first rows as it has."""
    views = {n: buffer[:n] for n in set(widths)}
    return [views[n] for n in widths]


class _Elman(Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        drive, h, u, widths = inputs
        out, transposed, state = torch.empty_like(drive), u.t().contiguous(), h
        for now, new in zip(torch.split(drive, widths), torch.split(out, widths), strict=True):
            state = _tanh_(torch.addmm(now, state[: len(now)], transposed, out=new))
        ctx.save_for_backward(out, h, u)
        ctx.widths = widths
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (out, h, u), widths = ctx.saved_tensors, ctx.widths
        grad = torch.addcmul(torch.ones_like(out), out, out, value=-1)  # tanh'
        carried = torch.zeros_like(h)
        heads = (_heads(buffer, widths)[::-1] for buffer in (torch.empty_like(h), carried))
        by_step = (torch.split(rows, widths)[::-1] for rows in (grad, grads[0]))
        for into, given, to_state, back in zip(*by_step, *heads, strict=True):
            torch.add(given, back, out=to_state)
            into.mul_(to_state)
            torch.mm(into, u, out=back)
        return grad, carried, grad.t() @ _before(out, h, widths), None


class _Gru(Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        rz, n, h, u_rz, u_n, c_n, widths = inputs
        gates, inner, new, out = (
            torch.empty_like(rz),
            torch.empty_like(n),
            torch.empty_like(n),
            torch.empty_like(n),
        )
        t_rz, t_n, state = u_rz.t().contiguous(), u_n.t().contiguous(), h
        steps = zip(*(torch.split(a, widths) for a in (rz, n, gates, inner, new, out)), strict=True)
        for rz_now, n_now, gate, product, candidate, state_now in steps:
            state = state[: len(rz_now)]
            torch.addmm(rz_now, state, t_rz, out=gate).sigmoid_()
            reset, keep = gate.chunk(2, dim=1)
            torch.addmm(c_n, state, t_n, out=product)
            _tanh_(torch.addcmul(n_now, reset, product, out=candidate))
            state = torch.lerp(candidate, state, keep, out=state_now)
        ctx.save_for_backward(gates, inner, new, out, h, u_rz, u_n)
        ctx.widths = widths
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (gates, inner, new, out, h, u_rz, u_n), widths = ctx.saved_tensors, ctx.widths
        size = h.shape[-1]
        reset, keep = gates.split(size, dim=-1)
        before = _before(out, h, widths)
        # The chain rule's factors of dh, for all steps at once: columns r, z, and U_n h + c_n.
        to_candidate = (1 - keep) * (1 - new * new)
        factors = out.new_empty(len(out), 3, size)
        torch.mul(to_candidate * inner, reset - reset * reset, out=factors[:, 0])
        torch.mul(before - new, keep - keep * keep, out=factors[:, 1])
        torch.mul(to_candidate, reset, out=factors[:, 2])
        flat = factors.view(-1, 3 * size)
        u, total, carried = torch.cat([u_rz, u_n]), torch.empty_like(out), torch.zeros_like(h)
        by_row = (factors, flat, keep.contiguous(), grads[0], total)
        steps = zip(
            *(torch.split(a, widths)[::-1] for a in by_row),
            _heads(carried, widths)[::-1],
            strict=True,
        )
        for factor, joined, share, given, dh, back in steps:
            torch.add(given, back, out=dh)
            factor.mul_(dh.unsqueeze(1))
            torch.addmm(torch.mul(dh, share, out=back), joined, u, out=back)
        d_u = flat.t() @ before
        d_rz, d_n = factors[:, :2].reshape(gates.shape), total.mul_(to_candidate)
        return (
            d_rz,
            d_n,
            carried,
            d_u[: 2 * size],
            d_u[2 * size :],
            flat[:, 2 * size :].sum(0),
            None,
        )
