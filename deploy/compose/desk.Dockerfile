# An office's desk. No engine has built this here: try it before you rest on it.
# docker build -f deploy/compose/desk.Dockerfile -t kengele-desk .
FROM python:3.11-slim-bookworm AS build
COPY . /source
RUN python3 -m venv /opt/kengele \
 && /opt/kengele/bin/pip install --no-cache-dir --require-hashes --no-deps -r /source/constraints.txt \
 && /opt/kengele/bin/pip install --no-cache-dir --no-deps --no-build-isolation /source

FROM python:3.11-slim-bookworm
RUN useradd --system --uid 10002 --home-dir /var/lib/kengele --create-home kengele
COPY --from=build /opt/kengele /opt/kengele
USER 10002:10002
VOLUME /var/lib/kengele
WORKDIR /var/lib/kengele
ENV PYTHONDONTWRITEBYTECODE=1
# What a desk prints is reports: send its output nowhere (compose.yaml: logging: driver: none).
ENTRYPOINT ["/opt/kengele/bin/kengele"]
CMD ["office", "follow", "--home", "/var/lib/kengele/desk", "--passphrase-file", "/run/secrets/passphrase"]
STOPSIGNAL SIGTERM
