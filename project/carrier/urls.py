"""The addresses of the carrier: its admin and its API, and what is for other services."""

from django.conf import settings
from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path
from django.views.generic import RedirectView

from outbox.flow.views import conversation_view
from project.carrier import views

urlpatterns: list[URLPattern | URLResolver] = [
    path("admin/", admin.site.urls),
    path("api/", include("outbox.api.urls")),
    path("", RedirectView.as_view(pattern_name="admin:index")),
]
if settings.FLOW_TOKEN:
    urlpatterns += [
        path("messages/", views.take),
        path("parcels/", views.count),
        path("flow/", conversation_view(token=settings.FLOW_TOKEN)),
    ]
