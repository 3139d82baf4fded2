"""`sage graph`: draw the steps of a job without running it."""

from __future__ import annotations

import click

from sage.jobs.cli.drawing import draw_mermaid, draw_svg, draw_text
from sage.jobs.cli.exits import exit_code_of
from sage.jobs.cli.failure import explain, show
from sage.jobs.cli.report import stdout_kept_clean
from sage.jobs.cli.target import Target

__all__ = ["graph"]

_HELP = """Draw the steps of a job. Its code builds the pipeline; nothing of it runs.

\b
  sage graph job.py                            a list of the steps and what they read
  sage graph job.py --format mermaid           for Markdown
  sage graph job.py --format svg -o job.svg    a picture
  sage graph pkg.jobs:daily --depth 2          open composite transforms one level
  sage graph job.py --stages                   what runs as one: the stages that a runner makes of the steps
  sage graph job.py -- --input x.txt           the job's own options

TARGET is what `sage run` takes. The code stops where it would have run its first pipeline.
"""

_DRAW = {"text": draw_text, "mermaid": draw_mermaid, "svg": draw_svg}


@click.command(help=_HELP, short_help="Draw the steps of a job without running it.")
@click.argument("target")
@click.argument("job_options", nargs=-1, type=click.UNPROCESSED, metavar="[-- JOB OPTIONS]")
@click.option(
    "--format", "form", type=click.Choice(list(_DRAW)), default=None, help="Default: by the name of FILE, else text."
)
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, writable=True),
    metavar="FILE",
    help="Write there. Default: stdout.",
)
@click.option("--depth", type=click.IntRange(1), default=1, show_default=True, help="How many levels to open.")
@click.option("--stages", is_flag=True, help="Draw stages: steps that run fused share a box.")
@click.option("--traceback", "full", is_flag=True, help="Show every frame of an error.")
def graph(
    target: str,
    job_options: tuple[str, ...],
    form: str | None,
    output: str | None,
    depth: int,
    stages: bool,
    full: bool,
) -> int:
    try:
        from sage.jobs.cli.capture import capture, stage_graph, step_graph

        # The drawing may go to a pipe, so what the script prints while it builds must not.
        with stdout_kept_clean():
            pipeline = capture(Target.parse(target), job_options)
            drawn = stage_graph(pipeline) if stages else step_graph(pipeline, depth=depth)
    except (Exception, SystemExit) as error:
        show(explain(error), error, full=full)
        return exit_code_of(error)
    picture = _DRAW[form or _form_of(output)](drawn)
    if output is None:
        click.echo(picture)
        return 0
    try:
        with open(output, "w", encoding="utf-8") as file:
            file.write(picture + "\n")
    except OSError as error:
        raise click.FileError(output, error.strerror) from error
    return 0


def _form_of(output: str | None) -> str:
    if output is None:
        return "text"
    return {"svg": "svg", "mmd": "mermaid", "mermaid": "mermaid"}.get(output.rpartition(".")[2].lower(), "text")
