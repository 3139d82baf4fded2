"""Events of a test stream that a service gives, as Beam's notebooks use it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import grpc
from apache_beam.portability.api import beam_interactive_api_pb2, beam_runner_api_pb2
from apache_beam.testing.test_stream import ElementEvent, ProcessingTimeEvent, WatermarkEvent
from apache_beam.transforms.window import TimestampedValue
from apache_beam.utils.timestamp import Duration, Timestamp

from sage.runners.engine.core.spec import Plan, TestStream

# The service moved between the supported versions.
_MOVED = hasattr(beam_interactive_api_pb2, "EventsRequest")
_api, _PACKAGE = (beam_interactive_api_pb2, "interactive") if _MOVED else (beam_runner_api_pb2, "pipeline")
_METHOD = f"/org.apache.beam.model.{_PACKAGE}.v1.TestStreamService/Events"


@dataclass(frozen=True)
class RemoteEvents(Iterable[Any]):
    """The events of the given outputs, asked for when they are iterated over.

    Args:
        endpoint: the address of a ``TestStreamService``.
        outputs: the tags of the outputs.
        coder: decodes elements.
    """

    endpoint: str
    outputs: tuple[str, ...]
    coder: Any

    def __iter__(self) -> Iterator[Any]:
        with grpc.insecure_channel(self.endpoint) as channel:
            # Called by name: not every Beam has the generated stub in its wheel.
            ask = channel.unary_stream(
                _METHOD,
                request_serializer=_api.EventsRequest.SerializeToString,
                response_deserializer=beam_runner_api_pb2.TestStreamPayload.Event.FromString,
            )
            request = _api.EventsRequest(output_ids=self.outputs)
            try:
                for event in ask(request):
                    yield _event(event, self.coder)
            except grpc.RpcError as error:
                if error.code() is not grpc.StatusCode.CANCELLED:
                    raise


def _event(proto: Any, coder: Any) -> Any:
    """An event as services send it: times are microseconds there, in a pipeline proto they are milliseconds."""
    if proto.HasField("element_event"):
        elements = [
            TimestampedValue(coder.decode(e.encoded_element), Timestamp(micros=e.timestamp))
            for e in proto.element_event.elements
        ]
        return ElementEvent(elements, proto.element_event.tag)
    if proto.HasField("watermark_event"):
        return WatermarkEvent(Timestamp(micros=proto.watermark_event.new_watermark), proto.watermark_event.tag)
    return ProcessingTimeEvent(Duration(micros=proto.processing_time_event.advance_duration))


def with_remote_events(plan: Plan) -> Plan:
    """The plan with test streams that read from their services."""
    stages = []
    for stage in plan.stages:
        root = stage.root
        if isinstance(root, TestStream) and root.endpoint:
            events = RemoteEvents(root.endpoint, tuple(map(str, root.outputs)), root.coder)
            stage = replace(stage, root=replace(root, events=events))
        stages.append(stage)
    return Plan(tuple(stages), plan.collections)
