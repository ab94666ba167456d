"""`python -m ops.cli`, which is how processes start their children."""

from ops.cli import main

main()
