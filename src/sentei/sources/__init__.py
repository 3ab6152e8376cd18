"""Where a model comes from: a short name, and everything needed to build it again.

`timm:NAME`, `torchvision:NAME`, `hf:FOLDER` (a local Hugging Face folder), `file.py:function`, or
the folder of an earlier `sentei.save`. One file a kind; a further kind is one file and one row in
`KINDS`.
"""

from sentei.sources.source import KINDS, Opened, Source, source_of
from sentei.sources.weights import load_weights

__all__ = ["KINDS", "Opened", "Source", "load_weights", "source_of"]
