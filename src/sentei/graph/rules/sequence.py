"""Attention and recurrent layers."""

from __future__ import annotations

from typing import Any

from sentei.graph.axis import concat
from sentei.graph.rules.base import (
    Traced,
    aten,
    broadcast,
    factor,
    note,
    pin,
    resolve,
    rule,
    same,
    scaled,
)  # fmt: skip
from sentei.graph.tape import Scalar, Symbol


@rule(aten.scaled_dot_product_attention)
def _(
    query: Traced, key: Traced, value: Traced, mask: Any = None, dropout: float = 0.0,
    causal: bool = False, *, scale: Any = None, enable_gqa: bool = False,
) -> Any:  # fmt: skip
    same(query.axes[-1], key.axes[-1])
    same(key.axes[-2], value.axes[-2])
    note(key.axes[-2], "normalised")
    if causal:
        for axis in (query.axes[-2], key.axes[-2]):
            pin(axis, "a causal mask counts its positions")
    if scale is None:
        scaled(query.value, ("**", ("width", query.axes[-1]), -0.5))
    elif isinstance(scale, (Scalar, Symbol)):
        scaled(query.value, scale.expr)
    batch = list(query.axes[:-2])
    if enable_gqa and query.shape[-3] != key.shape[-3]:
        heads, _repeat = factor(query.axes[-3], key.shape[-3])
        same(heads, key.axes[-3])
        same(heads, value.axes[-3])
        for tensor in (key, value):
            for a, b in zip(batch[:-1], tensor.axes[:-3], strict=True):
                if a.size == b.size:
                    same(a, b)
    else:
        shape = list(query.shape[:-2])
        for tensor in (key, value):
            shape = [max(a, b) for a, b in zip(shape, tensor.shape[:-2], strict=True)]
        batch = broadcast([query, key, value], shape, skip=2)
    if isinstance(mask, Traced):
        scores = [*batch, query.axes[-2], key.axes[-2]]
        for i in range(1, mask.ndim + 1):
            if mask.shape[-i] != 1:
                same(mask.axes[-i], scores[-i])
    return [*(resolve(b) for b in batch), query.axes[-2], value.axes[-1]]


# -- recurrent ------------------------------------------------------------------------------------
def _recurrent(gates: int, *, cell: bool) -> Any:
    def layers(
        features: Any, states: list[Traced], params: list[Traced], biased: bool, layers: int,
        bidirectional: bool,
    ) -> Any:  # fmt: skip
        """Axes of the layer outputs; hidden state of every layer and direction is one axis."""
        directions = 2 if bidirectional else 1
        count = len(params) // (layers * directions)
        projected = cell and count == (5 if biased else 3)
        out = states[0].axes[-1]
        hidden = states[1].axes[-1] if cell else out
        if projected:
            # torch takes equal widths for no projection: the cell must stay the wider one.
            pin(hidden, "cells of an LSTM with projections")
        else:
            same(out, hidden)
        for state in states:
            pin(state.axes[0], "layers and directions of a recurrent network")
        for layer in range(layers):
            for direction in range(directions):
                start = (layer * directions + direction) * count
                w_ih, w_hh, *rest = params[start : start + count]
                same(features, w_ih.axes[1])
                same(out, w_hh.axes[1])
                if projected:
                    w_hr = rest.pop()
                    same(w_hr.axes[0], out)
                    same(w_hr.axes[1], hidden)
                for tensor in (w_ih, w_hh, *rest):
                    outer, inner = factor(tensor.axes[0], gates)
                    pin(outer, "gates of a recurrent layer")
                    same(inner, hidden)
            features = concat([resolve(out)] * directions)
        return resolve(features)

    def apply(x: Traced, *args: Any) -> Any:
        packed = isinstance(args[0], Traced) and isinstance(args[2], list)
        states = args[1] if packed else args[0]
        params, biased, n = (args[2], args[3], args[4]) if packed else (args[1], args[2], args[3])
        bidirectional = args[7] if packed else args[6]
        states = states if isinstance(states, list) else [states]
        states = [s for s in states if isinstance(s, Traced)]
        batch_first = not packed and bool(args[7])
        if x.ndim == 3 and not packed:
            pin(x.axes[1 if batch_first else 0], "steps of a recurrent network")
            for state in states:
                same(x.axes[0 if batch_first else 1], state.axes[1])
        else:
            pin(x.axes[0], "steps of a recurrent network")
        out = layers(x.axes[-1], states, params, biased, n, bidirectional)
        results = [[*x.axes[:-1], out], *(list(s.axes) for s in states)]
        return tuple(results)

    return apply


rule(aten.lstm)(_recurrent(4, cell=True))
rule(aten.gru)(_recurrent(3, cell=False))
rule(aten.rnn_tanh, aten.rnn_relu)(_recurrent(1, cell=False))


def _cell(gates: int) -> Any:
    def apply(x: Traced, states: Any, w_ih: Traced, w_hh: Traced, *biases: Any) -> Any:
        states = states if isinstance(states, list) else [states]
        hidden = states[0].axes[-1]
        same(x.axes[-1], w_ih.axes[1])
        same(hidden, w_hh.axes[1])
        for state in states:
            same(state.axes[-1], hidden)
            for own, axis in zip(state.axes[:-1], x.axes[:-1], strict=True):
                same(own, axis)
        for tensor in (w_ih, w_hh, *(b for b in biases if isinstance(b, Traced))):
            outer, inner = factor(tensor.axes[0], gates)
            pin(outer, "gates of a recurrent layer")
            same(inner, hidden)
        return tuple(list(s.axes) for s in states)

    return apply


rule(aten.lstm_cell)(_cell(4))
rule(aten.gru_cell)(_cell(3))
rule(aten.rnn_tanh_cell, aten.rnn_relu_cell)(_cell(1))


@rule(aten._pack_padded_sequence)
def _(x: Traced, lengths: Any, batch_first: bool = False) -> Any:
    for axis in [*x.axes[:2], *lengths.axes]:
        pin(axis, "sequences of several lengths")
    return [None, *x.axes[2:]], [None]


@rule(aten._pad_packed_sequence)
def _(x: Traced, *_: Any) -> Any:
    return [None, None, *x.axes[1:]], [None]
