# syntax=docker/dockerfile:1
# One image for every program: `docker run nomaflow api | scheduler | worker | migrate`.

FROM node:24-slim AS console
WORKDIR /src/services/api/console
COPY services/api/console/package.json services/api/console/package-lock.json ./
RUN --mount=type=cache,target=/root/.npm npm ci --no-audit --no-fund
COPY services/api/console/ ./
RUN npm run build

FROM python:3.11-slim-bookworm AS build
COPY --from=ghcr.io/astral-sh/uv:0.13.9 /uv /bin/
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_PYTHON_DOWNLOADS=never \
    UV_PROJECT_ENVIRONMENT=/app/.venv
WORKDIR /src
# The dependencies first: they change more seldom than our own code.
RUN --mount=type=cache,target=/root/.cache/uv \
    --mount=type=bind,source=uv.lock,target=uv.lock \
    --mount=type=bind,source=pyproject.toml,target=pyproject.toml \
    uv sync --frozen --no-dev --no-install-project --extra api --extra uvloop
COPY pyproject.toml uv.lock README.md LICENSE NOTICE ./
COPY shared/ shared/
COPY services/ services/
COPY --from=console /src/services/api/nomaflow_api/static/ services/api/nomaflow_api/static/
RUN --mount=type=cache,target=/root/.cache/uv \
    uv sync --frozen --no-dev --no-editable --extra api --extra uvloop

FROM python:3.11-slim-bookworm
RUN useradd --system --uid 10001 --no-create-home --home-dir /nonexistent nomaflow
COPY --from=build /app/.venv /app/.venv
ENV PATH=/app/.venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    NOMAFLOW_PROJECT=/project NOMAFLOW_LOG_FORMAT=json
USER 10001
STOPSIGNAL SIGTERM
ENTRYPOINT ["nomaflow"]
CMD ["--help"]
