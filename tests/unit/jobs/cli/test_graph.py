"""`sage graph`: the steps of a job, drawn without running it."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import pytest

JOB = """
    from apache_beam.transforms import window

    class Clean(beam.PTransform):
        def expand(self, lines):
            return lines | "Strip" >> beam.Map(str.strip) | "NonEmpty" >> beam.Filter(bool)

    class Route(beam.DoFn):
        def process(self, word, stop):
            raise AssertionError("nothing runs")

    print("building")
    with beam.Pipeline() as p:
        stop = p | "StopWords" >> beam.Create(["a", "the"])
        words = p | "Lines" >> beam.Create(["x"]) | "Clean" >> Clean()
        routed = words | "Route" >> beam.ParDo(Route(), beam.pvalue.AsList(stop)).with_outputs("stop", main="kept")
        windowed = routed.kept | "Window" >> beam.WindowInto(window.FixedWindows(60))
        kept = windowed | "Count <b>" >> beam.combiners.Count.PerElement()
        (words, routed.stop) | "Both" >> beam.Flatten()
    print("never reached")
"""


def test_text_lists_each_step_with_what_it_reads(sage, script):
    ran = sage("graph", script(JOB))

    assert ran.code == 0
    assert ran.out.splitlines() == [
        "1  StopWords  Create",
        "2  Lines      Create",
        "3  Clean                              <- 2",
        "4  Route      ParDo                   <- 3, 1 (side input)",
        "5  Window     fixed windows of 1 min  <- 4",
        "6  Count <b>  PerElement              <- 5",
        "7  Both       Flatten                 <- 3, 4 (stop)",
    ]
    assert "building" in ran.err
    assert "never reached" not in ran.err


def test_windows_are_told_of_the_step_that_gives_them(sage, script):
    job = script("""
        from apache_beam.transforms import window
        from sage.transforms import late
        from sage.transforms.io import WriteToSqlite

        with beam.Pipeline() as p:
            rows = p | "Rows" >> beam.Create([{"id": 1}])
            split = rows | "Split" >> late.WindowWithLateOutput(window.FixedWindows(60))
            split.on_time | "Write" >> WriteToSqlite("rows.db", "rows", {"id": "INTEGER"})
    """)

    assert sage("graph", job).out.splitlines() == [
        "1  Rows   Create",
        "2  Split  fixed windows of 1 min  <- 1",
        "3  Write  WriteToSqlite           <- 2",
    ]


def test_depth_opens_composites(sage, script):
    ran = sage("graph", script(JOB), "--depth", "2")

    assert "Clean/Strip" in ran.out
    assert "Clean/NonEmpty" in ran.out


def test_mermaid(sage, script):
    ran = sage("graph", script(JOB), "--format", "mermaid")

    lines = [line.strip() for line in ran.out.splitlines()]
    assert lines[0] == "flowchart TD"
    assert 's5["Window<br/><small>fixed windows of 1 min</small>"]' in lines
    assert 's6["Count &lt;b&gt;<br/><small>PerElement</small>"]' in lines
    assert "s1 -.-> s4" in lines
    assert 's4 -->|"stop"| s7' in lines


def test_svg_draws_every_step_once_inside_the_picture(sage, script, tmp_path):
    file = tmp_path / "job.svg"

    ran = sage("graph", script(JOB), "-o", file)

    assert (ran.code, ran.out) == (0, "")
    picture = ElementTree.parse(file).getroot()
    space = {"s": "http://www.w3.org/2000/svg"}
    width, height = float(picture.attrib["width"]), float(picture.attrib["height"])
    names = [text.text for text in picture.findall("s:g/s:text[@class='name']", space)]
    assert names == ["StopWords", "Lines", "Clean", "Route", "Window", "Count <b>", "Both"]
    boxes = [box.attrib for box in picture.findall("s:g/s:rect", space)]
    for box in boxes:
        assert 0 <= float(box["x"]) <= width - float(box["width"])
        assert 0 <= float(box["y"]) <= height - float(box["height"])
    assert len(picture.findall("s:path", space)) == 7
    assert len(picture.findall("s:path[@class='line side']", space)) == 1


def test_a_script_that_names_another_runner_does_not_run_either(sage, script):
    job = script("""
        p = beam.Pipeline(runner="DirectRunner")
        p | "Numbers" >> beam.Create([1]) | "Fail" >> beam.Map(lambda n: 1 / 0)
        p.run().wait_until_finish()
    """)

    ran = sage("graph", job)

    assert ran.code == 0
    assert "2  Fail     ParDo   <- 1" in ran.out


@pytest.mark.parametrize("function", ["adding", "fluent"])
def test_a_function_is_drawn_like_a_script(sage, script, function):
    job = script("""
        def adding(pipeline):
            pipeline | "Numbers" >> beam.Create([1]) | "Fail" >> beam.Map(lambda n: 1 / 0)

        def fluent():
            from sage import LocalEnvironment
            env = LocalEnvironment("env")
            env.from_collection([1], name="Numbers").map(lambda n: 1 / 0, name="Fail")
            return env
    """)

    ran = sage("graph", f"{job}:{function}")

    assert ran.code == 0
    assert [line.split()[1] for line in ran.out.splitlines()] == ["Numbers", "Fail"]


@pytest.mark.parametrize(
    ("body", "code", "told"),
    [
        ("pass", 2, "without running a pipeline"),
        ("undefined_name", 1, "NameError"),
        ("import sys; sys.exit(2)", 2, "exit code 2"),
    ],
)
def test_what_cannot_be_drawn(sage, script, body, code, told):
    ran = sage("graph", script(body))

    assert ran.code == code
    assert told in ran.err
    assert ran.out == ""


def test_an_output_that_cannot_be_written_is_wrong_usage(sage, script, tmp_path):
    ran = sage("graph", script(JOB), "-o", tmp_path / "nowhere" / "job.svg")

    assert ran.code == 2
    assert "nowhere" in ran.err


def test_stages_share_a_box_between_fused_steps(sage, script):
    ran = sage("graph", script(JOB), "--stages")

    assert ran.code == 0
    stages = ran.out.split("\nstage ")
    (routing,) = [stage for stage in stages if "    Route/ParDo(Route)\n    Window\n" in stage]
    assert "(side input)" in routing.splitlines()[0]
    assert any("shuffled by key" in stage.splitlines()[0] and "    Count <b>/" in stage for stage in stages)


def test_stages_as_svg_name_every_step(sage, script, tmp_path):
    file = tmp_path / "job.svg"

    assert sage("graph", script(JOB), "--stages", "-o", file).code == 0

    texts = [text.text for text in ElementTree.parse(file).getroot().iter("{http://www.w3.org/2000/svg}text")]
    assert {"stage 1", "Clean/Strip", "Clean/NonEmpty", "Window"} <= set(texts)
