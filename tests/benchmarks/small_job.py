"""The job of the start benchmark: a word count that names no runner, as anybody would write it."""

import sys

import apache_beam as beam


def main(source: str, target: str) -> None:
    with beam.Pipeline(argv=[]) as pipeline:
        (
            pipeline
            | beam.io.ReadFromText(source)
            | "words" >> beam.FlatMap(str.split)
            | beam.combiners.Count.PerElement()
            | "report" >> beam.MapTuple(lambda word, count: f"{word} {count}")
            | beam.io.WriteToText(target)
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
