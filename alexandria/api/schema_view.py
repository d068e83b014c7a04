"""Serves the OpenAPI schema. It needs no key, so it is made once in each process: making it takes a second of CPU."""

from functools import cache
from threading import Lock
from typing import Any

from django.http import HttpResponse
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.renderers import OpenApiJsonRenderer, OpenApiYamlRenderer
from drf_spectacular.views import SpectacularAPIView
from rest_framework.request import Request

_MAKING = Lock()


class SchemaView(SpectacularAPIView):
    """As YAML or JSON, by `Accept`."""

    schema = None

    def get(self, request: Request, *args: Any, **kwargs: Any) -> HttpResponse:
        renderer = request.accepted_renderer
        with _MAKING:
            body = _document(renderer.format)
        name = f'inline; filename="Alexandria.{renderer.format}"'
        return HttpResponse(body, renderer.media_type, headers={"Content-Disposition": name})


@cache
def _document(form: str) -> str | bytes:
    renderer = OpenApiJsonRenderer() if form == "json" else OpenApiYamlRenderer()
    schema = SchemaGenerator().get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
    return renderer.render(schema, renderer_context={})
