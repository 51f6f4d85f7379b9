"""``python -m flowsheet``."""

from flowsheet.cli import main

main()
