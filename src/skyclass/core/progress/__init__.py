"""How progress looks: bars for a terminal or a notebook, and lines for a file."""
