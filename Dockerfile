# One image for every role: `docker run ... scopegate [up | gateway | worker | admin] -c FILE`.
# Nothing is written outside /var/lib/scopegate and /tmp: run it with --read-only --tmpfs /tmp.

FROM python:3.11-bookworm AS build
# Not the slim one: it has the C compiler that makes the hot path native. Nothing of it is in the image that runs.
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/venv
COPY requirements.lock /tmp/requirements.lock
RUN /opt/venv/bin/pip install --require-hashes --only-binary :all: -r /tmp/requirements.lock \
 && /opt/venv/bin/pip uninstall -q -y setuptools pip
COPY requirements-build.lock /tmp/requirements-build.lock
RUN pip install --require-hashes --only-binary :all: -r /tmp/requirements-build.lock
COPY hatch_build.py /tmp/scopegate/
COPY src /tmp/scopegate/src
RUN python /tmp/scopegate/hatch_build.py /opt/scopegate \
 && python -m compileall -q /opt/scopegate

FROM python:3.11-slim-bookworm
LABEL org.opencontainers.image.title="scopegate" \
      org.opencontainers.image.description="Reverse-proxy hardening gateway in front of an unchanged web app" \
      org.opencontainers.image.licenses="Apache-2.0"
# Model calls trust the system's certificates: without this file every TLS connection would fail at run time.
RUN test -s /etc/ssl/certs/ca-certificates.crt \
 && groupadd --system --gid 10001 scopegate \
 && useradd --system --uid 10001 --gid 10001 --no-create-home --shell /usr/sbin/nologin scopegate \
 && install -d -o scopegate -g scopegate -m 0700 /var/lib/scopegate
COPY --from=build /opt/venv /opt/venv
COPY --from=build /opt/scopegate /opt/scopegate
COPY gateway.yaml /etc/scopegate/gateway.yaml
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONPATH=/opt/scopegate \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    SCOPEGATE_STATE_DIR=/var/lib/scopegate \
    SCOPEGATE_LOG_FORMAT=json
USER 10001:10001
WORKDIR /var/lib/scopegate
VOLUME /var/lib/scopegate
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=4s --start-period=20s --retries=3 \
  CMD ["python", "-c", "import http.client as h; c = h.HTTPConnection('127.0.0.1', 9900, timeout=3); c.request('GET', '/readyz'); raise SystemExit(c.getresponse().status != 200)"]
ENTRYPOINT ["python", "-m", "scopegate"]
CMD ["up", "-c", "/etc/scopegate/gateway.yaml"]
