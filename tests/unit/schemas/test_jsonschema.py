"""JSON Schemas: they are current, valid, and say of documents what the models say."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from kengele_schemas.compartments import REPORT_COMPARTMENTS
from kengele_schemas.encoding import b64u
from kengele_schemas.fields import BadField, read
from kengele_schemas.jsonschema import MODELS, main, schemas
from kengele_schemas.keys import monitor_id
from kengele_schemas.trusted import UNNAMED

PUBLISHED = Path(__file__).parents[3] / "schemas" / "json"
SCHEMAS: dict[str, dict[str, Any]] = {
    name.removesuffix(".schema.json"): json.loads(data) for name, data in schemas().items()
}
ID, DIGEST = b64u(bytes(16)), b64u(bytes(32))
HEADER = {
    "v": 2,
    "net": UNNAMED,
    "id": ID,
    "kid": monitor_id(bytes(32)),
    "kind": "report",
    "area": "KG-O",
    "categories": ["rumour"],
    "severity": 2,
    "day": "2026-03-01",
    "day_precision": 1,
    "tlp": "AMBER",
    "pol": 3,
}
TEXT = {"text": "Talk of a fight.", "lang": "en"}
DRAFT = {"area": "KG-O", "categories": ["rumour"], "severity": 2, "day": "2026-03-01", "summary": TEXT}


def test_what_is_published_is_what_the_models_say() -> None:
    assert main(["--check", str(PUBLISHED)]) == 0
    assert {path.name for path in PUBLISHED.iterdir()} == set(schemas())


def test_checking_tells_what_is_stale_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check", str(tmp_path / "none")]) == 1
    assert not (tmp_path / "none").exists()
    capsys.readouterr()
    main([str(tmp_path)])
    assert main(["--check", str(tmp_path)]) == 0
    stale = tmp_path / "header.schema.json"
    stale.write_bytes(stale.read_bytes() + b" ")
    assert main(["--check", str(tmp_path)]) == 1
    assert capsys.readouterr().err == "Not current: header.schema.json. Run: make schemas\n"
    assert stale.read_bytes().endswith(b" ")


def test_writing_mends_what_is_stale_and_touches_nothing_else(tmp_path: Path) -> None:
    main([str(tmp_path / "json")])
    files = {path.name: path for path in (tmp_path / "json").iterdir()}
    assert {name: path.read_bytes() for name, path in files.items()} == schemas()
    files["draft.schema.json"].unlink()
    before = {name: path.stat().st_mtime_ns for name, path in files.items() if path.exists()}
    assert main([str(tmp_path / "json")]) == 0
    assert files["draft.schema.json"].read_bytes() == schemas()["draft.schema.json"]
    assert {name: files[name].stat().st_mtime_ns for name in before} == before


def objects(schema: Any) -> list[dict[str, Any]]:
    """Every schema within ``schema`` that speaks of an object's members."""
    items = list(schema.values()) if isinstance(schema, dict) else schema if isinstance(schema, list) else []
    own = [schema] if isinstance(schema, dict) and schema.get("type") == "object" else []
    return own + [found for item in items for found in objects(item)]


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_schema_is_one_and_lets_no_unknown_member_through(name: str) -> None:
    schema = SCHEMAS[name]
    Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["title"] == f"Kengele {name}"
    assert objects(schema)
    for part in objects(schema):
        assert part.get("additionalProperties") is False or "properties" not in part, part.get("title")


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_pattern_is_anchored_and_means_the_same_in_other_languages(name: str) -> None:
    for pattern in re.findall(r'"pattern": "((?:[^"\\]|\\.)*)"', json.dumps(SCHEMAS[name])):
        text = json.loads(f'"{pattern}"')
        assert text.startswith("^"), text
        assert text.endswith("$"), text
        # These take other scripts' digits and letters in some languages, and ASCII's alone in others.
        assert not re.search(r"\\[dDwWbB]|\(\?", text), text


def test_each_compartment_has_its_schema() -> None:
    assert {f"compartment-{name}" for name in REPORT_COMPARTMENTS} <= set(MODELS)


@pytest.mark.parametrize(
    ("said", "name", "right", "change"),
    [
        ("another version", "header", HEADER, {"v": 1}),
        ("an id in a second spelling", "header", HEADER, {"id": ID[:-1] + "B"}),
        ("a name for an author", "header", HEADER, {"kid": "Aigul"}),
        ("no category", "header", HEADER, {"categories": []}),
        ("six categories", "header", HEADER, {"categories": [f"c-{letter}" for letter in "abcdef"]}),
        ("more than the worst", "header", HEADER, {"severity": 6}),
        ("a marking with its prefix", "header", HEADER, {"tlp": "TLP:RED"}),
        ("a policy before the first", "header", HEADER, {"pol": -1}),
        ("an unknown claim", "header", HEADER, {"_sd": []}),
        ("no area", "header", HEADER, {"area": None}),
        ("a summary of 281", "draft", DRAFT, {"summary": {"text": "x" * 281, "lang": "en"}}),
        ("a summary in no language", "draft", DRAFT, {"summary": {"text": "x"}}),
        ("a place beyond the pole", "compartment-place", {"area": "KG"}, {"lat": 91, "lon": 0, "precision": 1}),
        ("a source graded G", "compartment-source", {"basis": "media"}, {"reliability": "G"}),
        ("a caveat against nobody", "compartment-handling", {}, {"caveats": [{"not_to": []}]}),
        ("a reference that recalls", "compartment-handling", {}, {"references": [{"rel": "recalls", "id": ID}]}),
        (
            "media without an item",
            "compartment-media",
            {"items": [{"digest": DIGEST, "key": DIGEST, "type": "image/png", "size": 1}]},
            {"items": []},
        ),
        ("half a person", "compartment-people", {}, {"affected": {"killed": {"best": 0.5}}}),
        ("an account of a number", "compartment-account", TEXT, {"text": 5}),
        ("a rule of nobody", "policy", {"version": 1, "rules": []}, {"rules": [{}]}),
        ("an area in lower case", "areas", {"areas": []}, {"areas": [{"code": "kg", "name": "x", "kind": "country"}]}),
    ],
)
def test_a_stranger_with_the_schema_refuses_what_the_model_refuses(
    said: str, name: str, right: dict[str, Any], change: dict[str, Any]
) -> None:
    validator = Draft202012Validator(SCHEMAS[name])
    assert best_match(validator.iter_errors(right)) is None, said
    read(MODELS[name], right)
    wrong = {key: value for key, value in (right | change).items() if value is not None}
    assert not validator.is_valid(wrong), said
    with pytest.raises(BadField):
        read(MODELS[name], wrong)
