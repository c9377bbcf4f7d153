"""`python -m scopegate` is the `scopegate` command."""

from scopegate.cli.main import main

raise SystemExit(main())
