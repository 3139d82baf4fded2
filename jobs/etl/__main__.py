"""``python -m sage.jobs.etl``: on the runner that ``--runner`` names, else on Beam's default one."""

from sage.jobs.etl.job import main

main()
