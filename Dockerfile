# syntax=docker/dockerfile:1
# One image for every process. It starts web; compose.yaml has the commands of the others. See docs/deploy.md.
FROM python:3.13-slim@sha256:7c61056e61ac89e852de05f3dc6fa51a6dd2181797bceed46aa725dd7cb2cd3b AS build
RUN python -m venv /venv
COPY requirements.txt /
RUN /venv/bin/python -m pip install --no-cache-dir --disable-pip-version-check --only-binary :all: \
    --require-hashes -r /requirements.txt

FROM python:3.13-slim@sha256:7c61056e61ac89e852de05f3dc6fa51a6dd2181797bceed46aa725dd7cb2cd3b
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 BIND=0.0.0.0
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin alexandria
RUN install --directory --owner 10001 --group 10001 --mode 0700 /answers
COPY --from=build /venv /venv
WORKDIR /app
COPY . .
# collectstatic needs complete settings, but uses none of these: nothing listens on port 1.
RUN SECRET_KEY=a-key-for-the-build-alone-long-and-varied-0123456789 ALLOWED_HOSTS=alexandria.example \
    DATABASE_URL=postgres://alexandria:none@127.0.0.1:1/alexandria REDIS_URL=redis://127.0.0.1:1/0 \
    python manage.py collectstatic --no-input && python -m compileall -q .
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["python", "-c", \
    "import os, urllib.request; urllib.request.urlopen(f\"http://127.0.0.1:{os.environ.get('PORT') or 8000}/livez\", timeout=4)"]
CMD ["python", "manage.py", "serve", "web"]
