"""``python -m sage.jobs.orders``: on the runner that ``--runner`` names, else on Beam's default one."""

from sage.jobs.orders.job import main

main()
