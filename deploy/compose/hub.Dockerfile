# A hub beside a NATS server of its own. No engine has built this here: try it before you rest on it.
# docker build -f deploy/compose/hub.Dockerfile -t kengele-hub .
FROM python:3.11-slim-bookworm AS build
COPY . /source
RUN python3 -m venv /opt/kengele \
 && /opt/kengele/bin/pip install --no-cache-dir --require-hashes --no-deps -r /source/constraints.txt \
 && /opt/kengele/bin/pip install --no-cache-dir --no-deps --no-build-isolation /source

FROM python:3.11-slim-bookworm
RUN useradd --system --uid 10001 --home-dir /var/lib/kengele --create-home kengele
COPY --from=build /opt/kengele /opt/kengele
USER 10001:10001
VOLUME /var/lib/kengele
WORKDIR /var/lib/kengele
ENV PYTHONDONTWRITEBYTECODE=1
ENTRYPOINT ["/opt/kengele/bin/kengele"]
CMD ["hub", "run", "--home", "/var/lib/kengele/hub"]
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s CMD ["/opt/kengele/bin/kengele", "hub", "status", "--home", "/var/lib/kengele/hub"]
STOPSIGNAL SIGTERM
