"""Whole layers and residual branches as units: find, delete, insert, replace.

A **layer** is an element of a `ModuleList` or `Sequential` that returns its input plus something:
a residual block, a transformer layer. Deleting it hands its input on. Where nothing but sums lies
between input and output that is exactly the layer with its branches times zero; where a
normalisation follows the sum (post-norm), the sum is passed on unnormalised, as is usual.

A **branch** is the something: a module whose output is added to a tensor it was computed from, with
whatever runs for it alone. Deleting it puts parameter-free stand-ins in place that return zeros in
the structure the originals returned; the network with the branch times zero computes the same.

Both are found on the tape of one forward pass: from the output back through sums to the input
(`find`). `change` edits lists and what counts them, `silent` holds the stand-in, `check` compares.
"""

from __future__ import annotations

from sentei.graph.layers.edit import delete_layer, insert_layer, layers, replace_layer
from sentei.graph.layers.found import Layer, Layers
from sentei.graph.layers.silent import Silent

__all__ = ["Layer", "Layers", "Silent", "delete_layer", "insert_layer", "layers", "replace_layer"]
