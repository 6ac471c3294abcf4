"""Names and sentences of the user's inside Markdown: shown as they are, never read as Markdown or HTML."""

from __future__ import annotations

import html
import re

# < and > become entities; an underscore between letters is one to Markdown too.
_SIGNS = re.compile(r"([\\`*\[\]|~$]|(?<![^\W_])_|_(?![^\W_]))")
_HEADS = re.compile(r"^(\d*)([-+#=>.)])(?=\s|[-+#=]|$)")  # what begins a list, a heading or a quotation


def plain(text: object) -> str:
    """Any text on one line of Markdown, also inside a table, without a sign of it that counts."""
    line = html.escape(" ".join(str(text).split()), quote=False)
    return _HEADS.sub(r"\1\\\2", _SIGNS.sub(r"\\\1", line))


def code(name: object) -> str:
    """A name between backticks, also inside a table, whatever signs it has."""
    return "`" + " ".join(str(name).replace("`", "'").split()).replace("|", "\\|") + "`"
