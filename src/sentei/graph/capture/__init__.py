"""Run a model once and write down the ATen operators it executes.

Under `torch.inference_mode()` composite operators reach a `TorchDispatchMode` undecomposed, so the
tape speaks of `linear`, `layer_norm` and `scaled_dot_product_attention`, not of their parts. The
code really runs, so loops, branches, message passing and functional code all record.

**Abstract capture** (the default) replaces floating-point tensors inside the mode by `meta` twins
and leaves integer and boolean tensors real: no arithmetic on weights, no activation memory, and
models without weights can be captured. Where control flow depends on floating-point values in a
way that twins cannot answer, the model is run for real instead.

**Integer provenance**: while the model runs, the integers in its modules' attributes, tuples, lists
and configuration objects are `Symbol`s that remember where they live, and `tensor.shape` answers
with `Symbol`s that remember their tensor. They arrive as arguments of `view`, `expand`, `split`, …
and tell what must follow when widths change.

Everything the pass may change (buffers, attributes, training flags, random state, backend
switches) is restored, also when the forward raises.

One job a file, and imports point down this list:

    run          the pass itself, from the user's call to the tape
    around       what is watched meanwhile, and everything as it was afterwards
    planting     numbers that know where they live, in the place of those that modules hold
    settings     objects that hold a model's settings
    provenance   numbers that know their tensor, and how numbers arrive at operators
    abstract     operators on tensors without contents
    recorder     the tape, and the tensors that were met
    operators    what is known of an operator before it runs
    tensors      tensors as operators see them
    walk         what a model holds, by name
"""

from sentei.graph.capture.run import capture
from sentei.graph.capture.walk import (
    named_modules,
    named_parameters,
    named_tensors,
    tensors_in,
    unwrap,
)

__all__ = [
    "capture", "named_modules", "named_parameters", "named_tensors", "tensors_in", "unwrap",
]  # fmt: skip
