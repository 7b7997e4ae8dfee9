"""`python -m espudp`."""

from espudp.cli.main import main

main()
