"""``python -m sage.jobs.stdlib_report``: on the runner that ``--runner`` names, else on Beam's default one."""

from sage.jobs.stdlib_report.job import main

main()
