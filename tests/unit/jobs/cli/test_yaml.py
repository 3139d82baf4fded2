"""Beam YAML: what is refused before anything runs, and what an error blames."""

from __future__ import annotations

import pytest

pytest.importorskip("jinja2", reason="the [yaml] extra is not installed")

STEPS = """
pipeline:
  transforms:
    - type: Create
      name: Left
      config: {elements: [{a: 1}, {a: 2}]}
    - type: Create
      name: Right
      config: {elements: [{a: 1, b: 3}]}
"""


@pytest.fixture
def run(sage, tmp_path):
    """Runs `sage COMMAND` on a YAML file of this text."""

    def run(text, command="run"):
        (tmp_path / "p.yaml").write_text(text)
        return sage(command, tmp_path / "p.yaml")

    return run


def test_steps_that_need_java_are_refused_in_one_report(run, tmp_path):
    ran = run(
        STEPS
        + """
    - type: Join
      name: Both
      input: {l: Left, r: Right}
      config: {equalities: a}
    - type: composite
      name: Inner
      input: Left
      transforms:
        - type: Sql
          input: input
          config: {query: "select a from PCOLLECTION"}
    - type: WriteToText
      input: Left
      config: {path: OUT}
    - type: MapToFields
      input: Left
      config: {language: java, fields: {b: {callable: "x"}}}
    - type: ReadFromKafka
      name: Topic
      config: {topic: x, format: RAW, bootstrap_servers: "localhost:1"}
    - type: Mine
      input: Left
providers:
  - type: javaJar
    config: {jar: /nowhere/mine.jar}
    transforms: {Mine: "urn:mine"}
""".replace("OUT", str(tmp_path / "out"))
    )

    assert (ran.code, ran.out) == (3, "")
    listed = [line.split("'")[1] for line in ran.err.splitlines() if line.startswith("  - step")]
    assert listed == ["Both", "Sql", "MapToFields", "Topic", "Mine"]
    assert "step 'Both': line 11: it needs a Java expansion service" in ran.err
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("pipeline:\n  type: chain\n  transforms:\n    - type: Create\n     config: {}\n", "p.yaml:5:6: not YAML: "),
        ("# Sales.\n\npipeline: {type: [", "p.yaml:3:19: not YAML: "),
        ("pipeline: {type: [", "p.yaml:1:19: not YAML: "),
        ("a: \x00", "p.yaml: not YAML: "),
        ("pipeline:\n  transforms:\n    - type: Creat\n", "p.yaml: Unknown type or missing provider for type Creat"),
        ("just text", "p.yaml: a pipeline is a mapping that has the key 'pipeline'"),
    ],
)
@pytest.mark.parametrize("command", ["run", "graph"])
def test_an_error_names_the_file_and_the_line(run, text, told, command):
    ran = run(text, command)

    assert ran.code == 2
    assert told in ran.err
    assert "raised at" not in ran.err


CHAIN = """
pipeline:
  type: chain
  transforms:
    - type: Create
      config: {elements: [{a: 1}, {a: 0}]}
    - type: MapToFields
      name: Inverse
      config: {language: python, fields: {b: 1 / a}}
    - type: LogForTesting
"""


def test_the_drawing_is_all_that_is_printed(run):
    ran = run(CHAIN, "graph")

    assert ran.code == 0
    assert [line.split()[1] for line in ran.out.splitlines()][:2] == ["Create", "Inverse"]
    assert "pipeline..." not in ran.out + ran.err


def test_a_step_that_fails_blames_no_line_of_a_library(run):
    ran = run(CHAIN)

    assert (ran.code, ran.out) == (1, "")
    assert "ZeroDivisionError: division by zero" in ran.err
    assert "click" not in ran.err
    assert "site-packages" not in ran.err
