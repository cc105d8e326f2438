import os

from django.apps import AppConfig
from django.conf import settings


class BenchConfig(AppConfig):
    name = "benchmarks.service"
    label = "bench"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        if "opentelemetry" in settings.OUTBOX["METRICS"]:
            export_metrics()
        if settings.OUTBOX["TRACING"] != "off":
            export_spans()


def export_metrics() -> None:
    """Let the SDK of OpenTelemetry export what is counted, as often as it does, to nowhere."""
    from opentelemetry.metrics import set_meter_provider  # noqa: PLC0415 - only if it is asked for
    from opentelemetry.sdk.metrics import MeterProvider  # noqa: PLC0415
    from opentelemetry.sdk.metrics.export import (  # noqa: PLC0415
        ConsoleMetricExporter,
        PeriodicExportingMetricReader,
    )

    nowhere = open(os.devnull, "w")  # noqa: SIM115 - as long as the process lives
    exporter = ConsoleMetricExporter(out=nowhere)
    reader = PeriodicExportingMetricReader(exporter)
    set_meter_provider(MeterProvider(metric_readers=[reader]))


def export_spans() -> None:
    """Let the SDK of OpenTelemetry sample all spans, and export them to nowhere."""
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415 - only if it is asked for
    from opentelemetry.sdk.trace.export import (  # noqa: PLC0415
        BatchSpanProcessor,
        ConsoleSpanExporter,
    )
    from opentelemetry.trace import set_tracer_provider  # noqa: PLC0415

    nowhere = open(os.devnull, "w")  # noqa: SIM115 - as long as the process lives
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(ConsoleSpanExporter(out=nowhere)))
    set_tracer_provider(provider)
