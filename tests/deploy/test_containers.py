"""Compose file, Dockerfiles and Helm values: their shape, as no engine runs them here, and what must not be missing."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from kengele_hub.doctor import new_enough

DEPLOY = Path(__file__).parents[2] / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "compose/compose.yaml").read_text())
HELM = yaml.safe_load((DEPLOY / "helm/values.yaml").read_text())
INSTRUCTIONS = {
    "FROM",
    "COPY",
    "RUN",
    "USER",
    "VOLUME",
    "WORKDIR",
    "ENV",
    "ENTRYPOINT",
    "CMD",
    "HEALTHCHECK",
    "STOPSIGNAL",
}
DOCKERFILES = sorted((DEPLOY / "compose").glob("*.Dockerfile"))

_TEXTS = {"type": "array", "items": {"type": "string"}}
_SWITCH = {"type": "boolean"}


def closed(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "additionalProperties": False}


# Of the Compose specification (github.com/compose-spec/compose-spec, "spec.md") the part that is used, no more.
COMPOSE_SHAPE = closed(
    name={"type": "string", "pattern": "^[a-z0-9][a-z0-9_-]*$"},
    services={
        "type": "object",
        "additionalProperties": closed(
            image={"type": "string"},
            build={**closed(context={"type": "string"}, dockerfile={"type": "string"}), "required": ["context"]},
            command=_TEXTS,
            working_dir={"type": "string"},
            user={"type": "string", "pattern": r"^\d+:\d+$"},
            profiles=_TEXTS,
            depends_on=_TEXTS,
            environment={"type": "object", "additionalProperties": {"type": "string"}},
            volumes={
                "type": "array",
                "items": {
                    **closed(
                        type={"enum": ["volume", "bind"]},
                        source={"type": "string"},
                        target={"type": "string", "pattern": "^/"},
                        read_only=_SWITCH,
                    ),
                    "required": ["type", "source", "target"],
                },
            },
            secrets={
                "type": "array",
                "items": {"anyOf": [{"type": "string"}, closed(source={"type": "string"}, target={"type": "string"})]},
            },
            ports={"type": "array", "items": {"type": "string", "pattern": r"^\d+:\d+$"}},
            networks=_TEXTS,
            cap_drop=_TEXTS,
            cap_add=_TEXTS,
            read_only=_SWITCH,
            security_opt=_TEXTS,
            logging=closed(driver={"type": "string"}),
            restart={"enum": ["no", "always", "on-failure", "unless-stopped"]},
            stop_grace_period={"type": "string", "pattern": r"^\d+s$"},
            ulimits={"type": "object", "additionalProperties": {"type": "integer"}},
        ),
    },
    networks={"type": "object", "additionalProperties": {"type": "object", "maxProperties": 0}},
    volumes={"type": "object", "additionalProperties": {"type": "object", "maxProperties": 0}},
    secrets={"type": "object", "additionalProperties": {**closed(file={"type": "string"}), "required": ["file"]}},
)


def test_the_compose_file_follows_its_specification() -> None:
    jsonschema.Draft202012Validator.check_schema(COMPOSE_SHAPE)
    jsonschema.validate(COMPOSE, COMPOSE_SHAPE)


@pytest.mark.parametrize("wrong", [{"volume": []}, {"restart": "forever"}, {"ports": [4222]}, {"cap_drop": "ALL"}])
def test_a_mistyped_compose_file_would_be_noticed(wrong: dict[str, Any]) -> None:
    services = {**COMPOSE["services"], "nats": {**COMPOSE["services"]["nats"], **wrong}}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**COMPOSE, "services": services}, COMPOSE_SHAPE)


def test_what_a_service_names_is_there() -> None:
    for service in COMPOSE["services"].values():
        named = {one["source"] if isinstance(one, dict) else one for one in service.get("secrets", ())}
        assert named <= set(COMPOSE["secrets"])
        assert {v["source"] for v in service["volumes"] if v["type"] == "volume"} <= set(COMPOSE["volumes"])
        assert set(service.get("networks", ())) <= set(COMPOSE["networks"])
        assert set(service.get("depends_on", ())) <= set(COMPOSE["services"])
        if "build" in service:
            context = (DEPLOY / "compose" / service["build"]["context"]).resolve()
            assert (context / service["build"]["dockerfile"]).is_file()
            assert (context / "pyproject.toml").is_file()


def test_no_service_keeps_a_privilege_or_writes_where_it_needs_not() -> None:
    for service in COMPOSE["services"].values():
        assert service["cap_drop"] == ["ALL"]
        assert set(service.get("cap_add", ())) <= {"NET_BIND_SERVICE"}
        assert service["read_only"] is True
        assert "no-new-privileges:true" in service["security_opt"]
    assert COMPOSE["services"]["desk"]["logging"] == {"driver": "none"}


def test_servers_are_of_a_version_that_is_new_enough() -> None:
    tags = [COMPOSE["services"]["nats"]["image"].partition(":")[2], HELM["container"]["image"]["tag"]]
    assert all(new_enough(tag) for tag in tags)


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_a_dockerfile_pins_what_it_installs_and_runs_as_nobody_else(path: Path) -> None:
    text = path.read_text()
    steps = re.sub(r"\\\n", " ", text)
    words = [line.split()[0] for line in steps.splitlines() if line and not line.startswith("#")]
    assert set(words) <= INSTRUCTIONS
    assert words[0] == "FROM"
    assert "--require-hashes" in steps
    user = re.search(r"(?m)^USER (\d+):\d+$", steps)
    assert user is not None
    assert int(user[1]) > 0
    assert steps.index("USER") < steps.index("ENTRYPOINT")
    assert "No engine has" in text
    assert (Path(__file__).parents[2] / "constraints.txt").is_file()


def test_every_file_says_that_nothing_ran_it() -> None:
    for path in (DEPLOY / "compose/compose.yaml", DEPLOY / "helm/values.yaml"):
        assert re.search(r"No (engine|cluster) has run this here", path.read_text())


# Of the chart's values (github.com/nats-io/k8s, helm/charts/nats, 1.x) the part that is used.
_TLS = closed(enabled=_SWITCH, secretName={"type": "string"}, merge={"type": "object"})
_CLAIM = closed(enabled=_SWITCH, size={"type": "string", "pattern": r"^\d+Gi$"})
HELM_SHAPE = closed(
    config=closed(
        cluster=closed(enabled=_SWITCH, replicas={"const": 3}, name={"type": "string"}, tls=_TLS),
        jetstream=closed(
            enabled=_SWITCH,
            fileStore=closed(enabled=_SWITCH, pvc=_CLAIM),
            memoryStore=closed(enabled=_SWITCH),
            merge={"type": "object"},
        ),
        nats=closed(tls=_TLS),
        websocket=closed(enabled=_SWITCH, port={"type": "integer"}, tls=_TLS),
        monitor=closed(enabled={"const": False}),
        resolver=closed(enabled=_SWITCH, pvc=_CLAIM, merge={"type": "object"}),
        merge={"type": "object"},
    ),
    container=closed(image=closed(tag={"type": "string"})),
    podTemplate=closed(topologySpreadConstraints={"type": "object"}),
    podDisruptionBudget=closed(enabled=_SWITCH),
    natsBox=closed(enabled=_SWITCH),
    promExporter=closed(enabled={"const": False}),
)


def test_the_helm_values_are_of_the_charts_shape_and_keep_what_the_hub_rests_on() -> None:
    jsonschema.validate(HELM, HELM_SHAPE)
    config = HELM["config"]
    assert config["jetstream"]["merge"]["sync_interval"] == "always"
    assert config["cluster"]["tls"]["merge"]["verify"] is True
    for way in ("nats", "websocket"):
        assert config[way]["tls"]["merge"]["min_version"] == "1.3"
    assert config["nats"]["tls"]["merge"]["handshake_first"] is True
    assert config["resolver"]["merge"] == {"type": "full", "allow_delete": False, "interval": "2m"}
