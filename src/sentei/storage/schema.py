"""The schema of `sentei.json` as a file for those who read it without Sentei.

    python -m sentei.storage.schema docs/schema

writes `sentei-v3.json` there. A test holds the file in the repository to the code.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from sentei.storage.recipe import VERSION, schema

__all__ = ["main", "text"]


def text() -> str:
    """The schema of the present version, as the file holds it.

    >>> json.loads(text())["title"]
    'Recipe'
    """
    return json.dumps(schema(), indent=1) + "\n"


def main(folder: str) -> Path:
    """Write `sentei-v{VERSION}.json` into the folder."""
    path = Path(folder) / f"sentei-v{VERSION}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text(), encoding="utf-8")
    return path


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m sentei.storage.schema FOLDER")
    print(main(sys.argv[1]))
