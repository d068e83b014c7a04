"""Settings. All values come from the environment; `.env.example` explains each variable."""

import logging
import re

from django.core.exceptions import ImproperlyConfigured
from django.templatetags.static import static
from redis.backoff import NoBackoff
from redis.retry import Retry

from alexandria import env
from alexandria.common.proxies import PROTOCOL
from alexandria.development.embedded import servers
from alexandria.env import BASE_DIR
from alexandria.monitoring import multiprocess
from alexandria.monitoring.logs import logging_config

env.read_dotenv(BASE_DIR / ".env")

DEBUG = env.flag("DEBUG", default=False)
SECRET_KEY = env.text("SECRET_KEY")
if not DEBUG and len(SECRET_KEY) < 50:
    found = f"has {len(SECRET_KEY)} characters" if SECRET_KEY else "is not set"
    raise ImproperlyConfigured(
        f"SECRET_KEY {found}. Set it to at least 50 random characters, or set DEBUG=on for development."
    )
SECRET_KEY = SECRET_KEY or "insecure-and-only-for-development"
ALLOWED_HOSTS = env.hosts("ALLOWED_HOSTS", ["localhost", "127.0.0.1", "[::1]"] if DEBUG else [])
if not ALLOWED_HOSTS:
    raise ImproperlyConfigured(
        "ALLOWED_HOSTS is not set: every request would be refused. Set it to the service's hosts."
    )
env.gone("TRUST_PROXY_HEADERS", instead="TRUSTED_PROXIES")
TRUSTED_PROXIES = env.networks("TRUSTED_PROXIES", [])
CSRF_TRUSTED_ORIGINS = env.words("CSRF_TRUSTED_ORIGINS")
if bad_origins := [origin for origin in CSRF_TRUSTED_ORIGINS if "://" not in origin]:
    raise ImproperlyConfigured(f"CSRF_TRUSTED_ORIGINS must begin with a scheme such as https://, not {bad_origins}.")

CORS_ALLOWED_ORIGINS = env.words("CORS_ALLOWED_ORIGINS")
if bad_origins := [origin for origin in CORS_ALLOWED_ORIGINS if not re.fullmatch(r"https?://[^/?#*\s]+", origin)]:
    raise ImproperlyConfigured(f"CORS_ALLOWED_ORIGINS must be origins such as https://a.example, not {bad_origins}.")

INSTALLED_APPS = [
    "unfold",
    "unfold.contrib.filters",
    "unfold.contrib.simple_history",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.postgres",
    "django.contrib.staticfiles",
    "corsheaders",
    "rest_framework",
    "rest_framework_api_key",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "drf_standardized_errors",
    "django_celery_beat",
    "simple_history",
    "django_structlog",
    "django_prometheus",
    "alexandria",
    "alexandria.alerts",
    "alexandria.logins",
    "quota",
    "enrichment",
    "harvest",
]
MIDDLEWARE = [
    "alexandria.common.headers.security_headers",
    "alexandria.monitoring.request_id.request_ids",
    "alexandria.common.proxies.https_from_trusted_proxies",
    "alexandria.monitoring.health.probes",
    "django_prometheus.middleware.PrometheusBeforeMiddleware",
    "corsheaders.middleware.CorsMiddleware",
    "alexandria.api.problems.problem_for_html",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django_structlog.middlewares.RequestMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "alexandria.admin.turns.Turns",
    "simple_history.middleware.HistoryRequestMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "alexandria.monitoring.metrics.RequestMetrics",
    "alexandria.admin.ids.OnlyIds",
    "alexandria.api.bodies.bodies",
]
ROOT_URLCONF = "alexandria.urls"
WSGI_APPLICATION = "alexandria.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
AUTHENTICATION_BACKENDS = ["alexandria.logins.backends.ThrottledBackend"]
PASSWORD_HASHERS = ["alexandria.logins.hashers.OneAtATimeHasher"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]

# --- Database: services use short transactions of their own, so there is no ATOMIC_REQUESTS. The time-outs keep the
# promise of a 503 within 5 seconds.
DATABASE = env.postgres("DATABASE_URL", default=servers.database_url)
# A pooler gives each transaction another session, so no session may keep state: no server-side cursors, no options.
DATABASE_POOLED = env.flag("DATABASE_POOLED", default=False)
DATABASE |= {"CONN_MAX_AGE": 0, "DISABLE_SERVER_SIDE_CURSORS": DATABASE_POOLED}
# No lock and no statement blocks a request for longer. The quota's statements set lock_timeout themselves too, and
# migrations remove statement_timeout (quota/apps.py). Behind a pooler the database role needs both: docs/deploy.md.
TIMEOUTS = {} if DATABASE_POOLED else {"options": "-c lock_timeout=2s -c statement_timeout=15s"}
DATABASE["OPTIONS"] = (
    TIMEOUTS
    | {
        "connect_timeout": 2,
        "tcp_user_timeout": 2000,
        "keepalives_idle": 10,
        "keepalives_interval": 2,
        "keepalives_count": 2,
        "application_name": "alexandria",
        # With Django's default, None, psycopg prepares no statement, not even the ones that quota/database.py asks for.
        "prepare_threshold": None if DATABASE_POOLED else 5,
    }
    | DATABASE.get("OPTIONS", {})
)
DATABASES = {"default": DATABASE}

# --- Redis: cache and Celery's broker. The quota does not depend on it. Both read only JSON from it: to unpickle a
# value is to run a program of the one who has written it. Nothing waits for it for longer than the time-out: a Redis
# that hangs would otherwise take every thread with it.
REDIS_TIMEOUT_SECONDS = 1
REDIS_URL = env.redis_url("REDIS_URL", default=servers.redis_url)
CACHES = {
    "default": {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": REDIS_URL,
        "KEY_PREFIX": "alexandria",
        "OPTIONS": {
            "SERIALIZER": "django_redis.serializers.json.JSONSerializer",
            "SOCKET_CONNECT_TIMEOUT": REDIS_TIMEOUT_SECONDS,
            "SOCKET_TIMEOUT": REDIS_TIMEOUT_SECONDS,
            # The three retries of redis-py would delay a request by more than ten seconds.
            "CONNECTION_POOL_KWARGS": {"retry": Retry(NoBackoff(), 0)},
        },
    }
}
# kombu has other names for a socket and for the database number
CELERY_BROKER_URL = REDIS_URL
if REDIS_URL.startswith("unix://"):
    CELERY_BROKER_URL = REDIS_URL.replace("unix://", "redis+socket://", 1).replace("?db=", "?virtual_host=", 1)
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None  # a worker waits for its broker, however long that takes
# A task is acknowledged when it ends. If its worker is killed, another worker takes it: a task can run twice but is
# never lost. Workers take no tasks in advance, so a long task does not block others while another worker is idle.
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_DEFAULT_QUEUE = "celery"
# Jobs have their own workers, so many or long jobs do not delay crons and the queue. All workers consume the alerts'
# queue, so each can report that another one is dead.
CELERY_TASK_ROUTES = {"enrichment.tasks.run_job": {"queue": "jobs"}, "alexandria.alerts.tasks.*": {"queue": "alerts"}}
CELERY_TASK_TIME_LIMIT = 3600
# After this time Redis gives an unacknowledged task to another worker. A shorter time would run long tasks twice.
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "visibility_timeout": 2 * CELERY_TASK_TIME_LIMIT,
    "socket_connect_timeout": REDIS_TIMEOUT_SECONDS,
    "socket_timeout": REDIS_TIMEOUT_SECONDS,
    "max_retries": 0,  # when a message is sent: see alexandria/common/publishing.py
}
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_TIMEZONE = "UTC"
CELERY_BEAT_ENABLE_REMOTE_CONTROL = True  # /healthz pings beat, which answers only while it ticks
CELERY_BEAT_SCHEDULER = "harvest.periodic:RegistryScheduler"
CELERY_RESULT_EXPIRES = None  # there are no results, so beat need not schedule their deletion

# --- HTTPS to others: ISBNdb, webhooks, and the server of smoke and of a bulk harvest
SSL_CERT_FILE = env.certificates("SSL_CERT_FILE")

# --- ISBNdb
ISBNDB_API_KEY = env.secret("ISBNDB_API_KEY")
ISBNDB_BASE_URL = env.http_url("ISBNDB_BASE_URL", "https://api.premium.isbndb.com")
ISBNDB_BATCH_SIZE = env.integer("ISBNDB_BATCH_SIZE", 1000, minimum=1, maximum=1000)
ISBNDB_BATCH_PRICE = env.choice("ISBNDB_BATCH_PRICE", "measure", ["measure", "request", "isbn"])
ISBNDB_TIMEOUT_SECONDS = env.integer("ISBNDB_TIMEOUT_SECONDS", 30, minimum=1, maximum=60)
EDITION_FRESH_DAYS = env.integer("EDITION_FRESH_DAYS", 90, minimum=0, maximum=3650)
FEED_FRESHNESS = env.flag("FEED_FRESHNESS", default=True)
# A folder for paid answers that the database cannot take at the moment. Web and workers of a machine share it.
ANSWERS_DIR = env.text("ANSWERS_DIR") or ".data/answers"
MISS_REMEMBER_DAYS = env.integer("MISS_REMEMBER_DAYS", 30, minimum=0, maximum=3650)

# --- Quota: each new day's ledger copies these values. After that, the ledger of the day decides.
QUOTA_DAILY_LIMIT = env.integer("QUOTA_DAILY_LIMIT", 15_000, minimum=1, maximum=10_000_000)
QUOTA_SAFETY_BUFFER = env.integer("QUOTA_SAFETY_BUFFER", 2_000, minimum=0, maximum=10_000_000)
if QUOTA_SAFETY_BUFFER >= QUOTA_DAILY_LIMIT:
    raise ImproperlyConfigured("QUOTA_SAFETY_BUFFER must be less than QUOTA_DAILY_LIMIT: otherwise no call is left.")
QUOTA_MAX_RPS = env.integer("QUOTA_MAX_RPS", 3, minimum=1, maximum=1000)
QUOTA_ENFORCEMENT = env.choice("QUOTA_ENFORCEMENT", "enforce", ["enforce", "observe"])
QUOTA_DRIFT_ALERT = env.integer("QUOTA_DRIFT_ALERT", 10, minimum=1, maximum=10_000_000)
JOURNAL_KEEP_DAYS = env.integer("JOURNAL_KEEP_DAYS", 400, minimum=7, maximum=36_500)

# --- Alerts
SERVICE_NAME = env.text("SERVICE_NAME") or "Alexandria"
EMAIL_URL = env.email("EMAIL_URL")
vars().update(EMAIL_URL)
EMAIL_TIMEOUT = 10
ALERT_EMAIL_TO = env.mailboxes("ALERT_EMAIL_TO")
ALERT_EMAIL_FROM = (env.mailboxes("ALERT_EMAIL_FROM") or [""])[0]
if ALERT_EMAIL_TO and not (EMAIL_URL and ALERT_EMAIL_FROM):
    raise ImproperlyConfigured("ALERT_EMAIL_TO also needs EMAIL_URL (the mail server) and ALERT_EMAIL_FROM.")
ALERT_EMAIL_SEVERITY = env.choice("ALERT_EMAIL_SEVERITY", "info", ["info", "warning", "critical"])
ALERT_WEBHOOKS_TO_PRIVATE = env.flag("ALERT_WEBHOOKS_TO_PRIVATE", default=False)
ALERT_ERROR_PERCENT = env.integer("ALERT_ERROR_PERCENT", 25, minimum=1, maximum=100)
ALERT_LEASES_EXPIRED = env.integer("ALERT_LEASES_EXPIRED", 5, minimum=1, maximum=1_000_000)

# --- API
CONSUMER_DAILY_BUDGET = env.optional_integer("CONSUMER_DAILY_BUDGET", minimum=0, maximum=10_000_000)
API_REQUESTS_PER_MINUTE = env.integer("API_REQUESTS_PER_MINUTE", 600, minimum=0, maximum=1_000_000)
MAX_LONG_REQUESTS = env.integer("MAX_LONG_REQUESTS", 2, minimum=1, maximum=100)
MAX_JOBS_PER_CONSUMER = env.integer("MAX_JOBS_PER_CONSUMER", 20, minimum=1, maximum=10_000)
MAX_JOB_ITEMS_PER_CONSUMER = env.integer("MAX_JOB_ITEMS_PER_CONSUMER", 300_000, minimum=1, maximum=100_000_000)
MAX_QUEUED_PER_CONSUMER = env.integer("MAX_QUEUED_PER_CONSUMER", 100_000, minimum=1, maximum=100_000_000)
JOB_ITEMS_KEEP_DAYS = env.integer("JOB_ITEMS_KEEP_DAYS", 30, minimum=1, maximum=36_500)
CONSUMER_LIMITS = ["enrichment.selectors.limits.limits_of"]  # what GET /api/quota/me shows besides calls
CORS_URLS_REGEX = r"^/api/"
CORS_ALLOW_HEADERS = [
    "accept",
    "authorization",
    "content-type",
    "idempotency-key",
    "if-none-match",
    "prefer",
    "x-request-id",
]
CORS_EXPOSE_HEADERS = [
    "ETag",
    "Location",
    "Preference-Applied",
    "RateLimit",
    "RateLimit-Policy",
    "Retry-After",
    "X-Request-ID",
]
DATA_UPLOAD_MAX_MEMORY_SIZE = 4 * 1024 * 1024  # 100,000 ISBNs with hyphens
FILE_UPLOAD_MAX_MEMORY_SIZE = 11 * 1024 * 1024  # a form of the admin with a file of MAX_FILE_SIZE
FILE_UPLOAD_HANDLERS = ["alexandria.api.bodies.CheckedFiles"]
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["quota.authentication.ConsumerKeyAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["quota.authentication.IsActiveConsumer"],
    "DEFAULT_THROTTLE_CLASSES": ["quota.throttling.RequestsPerMinute", "quota.throttling.Turns"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["alexandria.api.parsers.LimitedJSONParser"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "drf_standardized_errors.handler.exception_handler",
    "UNAUTHENTICATED_USER": None,
    "URL_FORMAT_OVERRIDE": None,
}
DRF_STANDARDIZED_ERRORS = {
    "EXCEPTION_HANDLER_CLASS": "alexandria.api.problems.ProblemHandler",
    "EXCEPTION_FORMATTER_CLASS": "alexandria.api.problems.ProblemFormatter",
    "ENABLE_IN_DEBUG_FOR_UNHANDLED_EXCEPTIONS": True,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Alexandria",
    "DESCRIPTION": "Book metadata from ISBNdb, under one exact daily quota of calls.",
    "VERSION": "0.1.0",
    "SERVE_PUBLIC": True,
    "SERVE_AUTHENTICATION": [],
    "SERVE_PERMISSIONS": [],
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "SWAGGER_UI_SETTINGS": {"deepLinking": True, "validatorUrl": None},
    "ENUM_GENERATE_CHOICE_DESCRIPTION": False,
    "ENUM_NAME_OVERRIDES": {
        "ConsumerKind": "quota.models.Consumer.Kind",
        "CallOutcome": "quota.models.Call.Outcome",
        "RefusalLimit": "quota.limits.CHOICES",
        "JobKind": "enrichment.models.Job.Kind",
        "JobState": "enrichment.models.Job.State",
        "JobItemState": "enrichment.models.JobItem.State",
        "JobAuthorState": "enrichment.models.JobAuthor.State",
    },
    "POSTPROCESSING_HOOKS": ["drf_spectacular.hooks.postprocess_schema_enums", "alexandria.api.schema.add_problems"],
}

# --- Web
LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
USE_I18N = False
FORMAT_MODULE_PATH = ["alexandria.formats"]
STATIC_URL = "static/"
STATIC_ROOT = BASE_DIR / "staticfiles"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"
        if DEBUG
        else "whitenoise.storage.CompressedManifestStaticFilesStorage"
    },
}
WHITENOISE_USE_FINDERS = WHITENOISE_AUTOREFRESH = DEBUG

# --- Admin
LOGIN_REDIRECT_URL = "admin:index"  # unfold's log-in form does not name the next page, as Django's does
UNFOLD = {
    "SITE_TITLE": "Alexandria",
    "SITE_HEADER": "Alexandria",
    "SITE_SUBHEADER": "Books, quota and calls",
    "SITE_SYMBOL": "local_library",
    "SITE_FAVICONS": [
        {"rel": "icon", "type": "image/svg+xml", "href": lambda request: static("alexandria/favicon.svg")},
    ],
    "SITE_URL": "/api/docs/",
    "STYLES": [lambda request: static("alexandria/admin.css")],
    "SHOW_VIEW_ON_SITE": False,
    "ENVIRONMENT": "alexandria.admin.site.environment",
    "DASHBOARD_CALLBACK": "alexandria.admin.dashboard.views.index",
    "SIDEBAR": {
        "show_search": True,
        "show_all_applications": False,
        "navigation": "alexandria.admin.site.sidebar",
    },
}

# --- Security: on, except with DEBUG
SECURE_SSL_REDIRECT = not DEBUG
SECURE_HSTS_SECONDS = 0 if DEBUG else 31_536_000
# These two bind other hosts of the domain too, and cannot be taken back for a year, so they are never set by default.
SECURE_HSTS_INCLUDE_SUBDOMAINS = env.flag("HSTS_SUBDOMAINS", default=False)
SECURE_HSTS_PRELOAD = env.flag("HSTS_PRELOAD", default=False)
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]  # they ask for these two
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = not DEBUG
SECURE_PROXY_SSL_HEADER = (PROTOCOL, "https")  # only trusted proxies get it past alexandria.common.proxies
X_FRAME_OPTIONS = "DENY"

# --- Processes: gunicorn.conf.py and `manage.py serve`
BIND = env.own_address("BIND", "127.0.0.1")
PORT = env.integer("PORT", 8000, minimum=0, maximum=65_535)
WEB_CONCURRENCY = env.integer("WEB_CONCURRENCY", 2, minimum=1, maximum=100)
WEB_THREADS = env.integer("WEB_THREADS", 8, minimum=1, maximum=100)
WORKER_CONCURRENCY = env.integer("WORKER_CONCURRENCY", 2, minimum=1, maximum=100)
JOBS_CONCURRENCY = env.integer("JOBS_CONCURRENCY", 2, minimum=1, maximum=100)

# --- Metrics and logs
multiprocess.measure_into(env.text("PROMETHEUS_MULTIPROC_DIR"))
METRICS_COLLECTORS = [
    "quota.metrics.collect",
    "enrichment.metrics.collect",
    "harvest.metrics.collect",
    "alexandria.alerts.metrics.collect",
]
METRICS_NETWORKS = env.networks("METRICS_ALLOW", ["127.0.0.1", "::1"])
METRICS_TOKEN = env.secret("METRICS_TOKEN", min_length=20)
LOGGING = logging_config(debug=DEBUG)
DJANGO_STRUCTLOG_IP_LOGGING_ENABLED = False  # it believes every client: alexandria.monitoring.request_id does it
DJANGO_STRUCTLOG_STATUS_START_LOG_LEVEL = logging.DEBUG  # one line for each request: the last one, which has the status
DJANGO_STRUCTLOG_CELERY_ENABLED = True
DJANGO_STRUCTLOG_TRUST_UPSTREAM_REQUEST_ID = True  # alexandria.monitoring.request_id has checked it before

env.refuse_unknown()
