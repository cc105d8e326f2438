"""The one entry "Messaging" of the admin's index, behind which all pages about the flow are."""

from typing import Any, ClassVar

from django.contrib import admin
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.urls import URLPattern, path
from django.views.decorators.cache import never_cache

from outbox.admin.pages import rendering
from outbox.extensions.pages import Page
from outbox.models import Messaging


@admin.register(Messaging)
class MessagingAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Shows the pages of outbox.extensions.pages, each to whoever may see it.

    A page has the address `…/messaging/<name>/`; the first one that a user may see is also the
    entry itself.
    """

    class Media:
        css: ClassVar = {"all": ["outbox/admin.css", "outbox/pages.css"]}
        js: ClassVar = ["outbox/live.js"]

    def get_urls(self) -> list[URLPattern]:
        def view(request: HttpRequest, **kwargs: str) -> HttpResponseBase:
            return self.admin_site.admin_view(never_cache(self.page_view))(request, **kwargs)

        label = f"{self.opts.app_label}_{self.opts.model_name}"
        return [
            path("", view, name=f"{label}_changelist"),
            path("<slug:name>/", view, name=f"{label}_page"),
            path("<slug:name>/<path:rest>", view, name=f"{label}_below"),
        ]

    def page_view(self, request: HttpRequest, name: str = "", rest: str = "") -> HttpResponse:
        """Answer with a page, by its name."""
        request.current_app = self.admin_site.name
        visible = rendering.visible_pages(request)
        page = next((each for each in visible if name in (each.name, "")), None)
        if page is None or (rest and page.view is None):
            raise Http404(name)
        context = self.context(page, request)
        if page.view is not None:
            return page.view(request, rest, context)
        return rendering.respond(page, request, context)

    def context(self, page: Page, request: HttpRequest) -> dict[str, Any]:
        """Return what the template of every page takes."""
        return {
            **self.admin_site.each_context(request),
            "title": page.title,
            "opts": self.opts,
            "media": self.media,
            "page": page,
        }

    def has_module_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.is_staff and rendering.visible_pages(request))

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.has_module_permission(request)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
