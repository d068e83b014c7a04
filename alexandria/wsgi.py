import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "alexandria.settings")
django = get_wsgi_application()  # sets Django up, so that the rest can be imported

from alexandria.api.bodies import only_utf8  # noqa: E402

application = only_utf8(django)
