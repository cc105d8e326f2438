"""The pages of the example project: everything worth seeing is in the admin, and in the API."""

from django.conf import settings
from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path
from django.views.generic import RedirectView

from outbox.flow.views import conversation_view

urlpatterns: list[URLPattern | URLResolver] = [
    path("admin/", admin.site.urls),
    path("api/", include("outbox.api.urls")),
    path("", RedirectView.as_view(pattern_name="admin:index")),
]
if settings.FLOW_TOKEN:
    urlpatterns.append(path("flow/", conversation_view(token=settings.FLOW_TOKEN)))
