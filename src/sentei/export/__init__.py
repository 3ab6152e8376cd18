"""Pruned models for other runtimes: ONNX, `torch.export`, Hugging Face folders.

Each is checked before it is put in its place: read back, and compared with the model on the example
inputs. One file a format; a further format is one file and one row in `FORMATS`.
"""

from sentei.export.export import FORMATS, Exported, export

__all__ = ["FORMATS", "Exported", "export"]
