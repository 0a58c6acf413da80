"""`python -m sweeps`."""

from sweeps.cli.main import main

main()
