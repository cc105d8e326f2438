"""The addresses of a second service, which tells what it knows of a conversation."""

from django.urls import path

from outbox.flow.views import conversation_view

urlpatterns = [path("flow/", conversation_view(token="t0ken of billing"))]
