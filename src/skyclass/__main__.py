"""`python -m skyclass` is the command `skyclass`."""

from .cli.app import main

main()
