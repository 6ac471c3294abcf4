"""`python -m skyclass` is the command `skyclass`."""

from .cli import main

main()
