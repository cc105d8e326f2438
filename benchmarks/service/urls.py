"""What a project has at its addresses: admin, API, metrics and probes."""

from django.contrib import admin
from django.urls import include, path

from outbox.telemetry.views import health_view, metrics_view, ready_view

urlpatterns = [
    path("admin/", admin.site.urls),
    path("api/", include("outbox.api.urls")),
    path("metrics", metrics_view(token=None)),
    path("healthz", health_view()),
    path("readyz", ready_view()),
]
