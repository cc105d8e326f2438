"""The addresses of the API: `path("api/", include("outbox.api.urls"))`."""

from importlib import import_module

from django.apps import apps
from django.urls import URLPattern, URLResolver, path, re_path
from rest_framework.routers import SimpleRouter

from outbox.exceptions import ConfigurationError
from outbox.extensions.api import resource_modules

if not apps.is_installed("django.contrib.admin"):
    raise ConfigurationError(
        "The API writes down what people do where the admin does: add 'django.contrib.admin' to "
        "INSTALLED_APPS, and run manage.py migrate."
    )

from outbox.api.document import Document, Nothing
from outbox.api.resources import RESOURCES

app_name = "outbox-api"

router = SimpleRouter(trailing_slash=False)
for view in [
    *RESOURCES,
    *(each for name in resource_modules() for each in import_module(name).RESOURCES),
]:
    router.register(view.resource, view, basename=view.resource)

urlpatterns: list[URLPattern | URLResolver] = [
    *router.urls,
    path("openapi", Document.as_view({"get": "list"}), name="openapi"),
    re_path(r"", Nothing.as_view({"get": "list"}), name="nothing"),
]
