"""`python -m p2pl_async`: the command `p2pl`."""

from p2pl_async.cli.main import main

main()
