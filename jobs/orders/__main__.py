"""``python -m sage.jobs.orders``: on the runner that ``--runner`` names, else on SAGE's local one."""

from sage.jobs.orders.job import main

main()
