"""Alerts and dashboard: they read only figures that a hub gives, tell nobody apart, and each alert says the mend."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from kengele_hub.ops import metrics

DEPLOY = Path(__file__).parents[2] / "deploy"
RULES = yaml.safe_load((DEPLOY / "prometheus/kengele.rules.yaml").read_text())["groups"][0]["rules"]
BOARD = json.loads((DEPLOY / "grafana/kengele.json").read_text())
DAY = "2026-12-09T00:00:00+00:00"
EVERYTHING: dict[str, Any] = {
    **dict.fromkeys(("ready", "connected", "founded"), True),
    **dict.fromkeys(("log_size", "delivered", "paused", "undelivered", "roster_version", "policy_version"), 1),
    **dict.fromkeys(("storage_bytes", "storage_limit_bytes", "disk_free_bytes", "disk_size_bytes"), 1),
    **dict.fromkeys(("signatures_hold_until", "root_holds_until", "vouched_until", "next_rule_ends"), DAY),
    **dict.fromkeys(("certificate_holds_until", "last_cosigned"), DAY),
    "receipts": {"accepted": 1},
}
FUNCTIONS = {"increase", "rate", "sum", "by", "time", "predict_linear", "or", "unless", "and", "on", "max"}
LABELS = {"job", "code"}


def given() -> set[str]:
    """The names of all figures that a hub can give."""
    return set(re.findall(r"^# TYPE (\S+)", metrics(EVERYTHING), re.M))


def words(expression: str) -> tuple[set[str], set[str]]:
    """The metrics and the labels that an expression reads (prometheus.io, "Querying basics")."""
    labels = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"", expression))
    labels |= {label for group in re.findall(r"\bby \(([^)]*)\)", expression) for label in re.findall(r"\w+", group)}
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\bby \([^)]*\)|\"[^\"]*\"", " ", expression)
    names = set(re.findall(r"[a-zA-Z_:][a-zA-Z0-9_:]*", bare)) - FUNCTIONS
    return names, labels


EXPRESSIONS = [rule["expr"] for rule in RULES] + [
    target["expr"] for panel in BOARD["panels"] for target in panel["targets"]
]


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_what_is_read_is_what_a_hub_gives(expression: str) -> None:
    names, labels = words(expression)
    assert names <= given() | {"up"}
    assert names
    assert labels <= LABELS
    assert expression.count("(") == expression.count(")")


def test_a_figure_that_no_hub_gives_would_be_noticed() -> None:
    assert words('sum by (node) (rate(kengele_lost_total{area="KG"}[5m])) > 3 * up') == (
        {"kengele_lost_total", "up"},
        {"node", "area"},
    )


def test_every_figure_is_looked_at_by_an_alert_or_on_the_dashboard() -> None:
    read = set().union(*(words(expression)[0] for expression in EXPRESSIONS))
    assert given() - read == {"kengele_founded"}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_every_alert_says_what_is_wrong_and_the_mend(rule: dict[str, Any]) -> None:
    assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert set(rule["annotations"]) == {"summary", "mend"}
    assert all(text.endswith(".") for text in rule["annotations"].values())
    assert re.fullmatch(r"\d+[mh]", rule.get("for", "1m"))


def test_the_dashboard_is_one_that_grafana_reads() -> None:
    assert BOARD["schemaVersion"] >= 39
    assert len({panel["id"] for panel in BOARD["panels"]}) == len(BOARD["panels"])
    for panel in BOARD["panels"]:
        place = panel["gridPos"]
        assert 0 <= place["x"] <= 24 - place["w"]
        assert panel["datasource"]["uid"] == "${datasource}"
        assert panel["type"] in ("stat", "timeseries")
    cells = [
        (x, y)
        for panel in BOARD["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells))


def test_the_page_is_scraped_where_it_is() -> None:
    scrape = yaml.safe_load((DEPLOY / "prometheus/scrape.yaml").read_text())
    (job,) = scrape["scrape_configs"]
    assert job["job_name"] == "kengele"
    assert job["static_configs"][0]["targets"][0].startswith("127.0.0.1:")
