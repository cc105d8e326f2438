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
