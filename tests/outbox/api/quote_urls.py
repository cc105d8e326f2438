"""The addresses of the service that quotes, beside the project's; imported when it is declared."""

from project.urls import urlpatterns as of_the_project
from tests.outbox.api.quoting import urls

urlpatterns = [*urls(), *of_the_project]
