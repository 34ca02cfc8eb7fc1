"""`python -m cliquesim`."""

from cliquesim.cli import main

main()
