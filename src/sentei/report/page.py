"""The frame of every page: self-contained, light and dark, readable without a mouse."""

from __future__ import annotations

import html
from importlib.resources import files

__all__ = ["asset", "page"]


def asset(name: str) -> str:
    """A style sheet or script that lies beside this file, to be put into a page."""
    return files("sentei.report").joinpath(name).read_text(encoding="utf-8")


def page(title: str, body: str, *, style: str = "", script: str = "") -> str:
    """An HTML page that loads nothing from anywhere.

    Args:
        title: plain text. body: HTML. style: more CSS, which may use the variables --back, --text,
            --line, --soft, --card and --accent. script: JavaScript, run at the end.

    >>> "<title>a &amp; b</title>" in page("a & b", "<h1>Hello</h1>")
    True
    """
    return _PAGE % {
        "title": html.escape(title),
        "body": body,
        "style": asset("page.css") + style,
        "script": f"<script>{script}</script>" if script else "",
    }


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>%(title)s</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none';
      style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:">
<style>%(style)s</style></head>
<body>%(body)s%(script)s</body></html>
"""
