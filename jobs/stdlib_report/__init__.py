"""What the Python standard library is made of: SAGE's main job, on real input that every machine has.

It reads all the ``.py`` files under a folder (the standard library of the running Python, about 30 MB) and writes
into ``--output``:

======================  ==========================================================================================
``words.parquet``       kind, word, occurrences: names and keywords of the code, words of comments and strings
``imports.parquet``     every module with the file that defines it and the number of files that import it
``windows.parquet``     how many files and bytes were last changed in each window of time
``dead_letters.jsonl``  the files that could not be read or parsed, and why (the library ships a few on purpose)
``summary.txt``         the top of each, for people; it is printed too
======================  ==========================================================================================

Run it on any runner::

    sage run sage.jobs.stdlib_report -- --output out
    sage run sage.jobs.stdlib_report --workers 2 -- --source ~/project --top 5 --window 24h --output out

The same tree gives the same bytes, whatever the runner and the number of workers; a second run replaces the files.
"""

from __future__ import annotations

from sage.jobs.stdlib_report.job import build, main

__all__ = ["build", "main"]
