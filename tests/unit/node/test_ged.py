"""GED: real data comes through with all its quirks; what is wrong is told by record and column, never by content."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kengele_node.ged import COLUMNS, GedRow, read_ged, severity_of, to_draft
from kengele_schemas.areas import Areas
from kengele_schemas.errors import Malformed
from kengele_schemas.report import MAX_ACCOUNT, MAX_SUMMARY, Report
from kengele_testing.values import CANARY

SAMPLE = Path(__file__).parents[3] / "node" / "kengele_node" / "demo" / "data" / "ged_sample.csv"
WORLD = Areas.world()
# All columns of UCDP GED 23.1, in its order.
(PUBLISHED,) = csv.reader(
    [
        "id,relid,year,active_year,code_status,type_of_violence,conflict_dset_id,conflict_new_id,conflict_name,"
        "dyad_dset_id,dyad_new_id,dyad_name,side_a_dset_id,side_a_new_id,side_a,side_b_dset_id,side_b_new_id,side_b,"
        "number_of_sources,source_article,source_office,source_date,source_headline,source_original,where_prec,"
        "where_coordinates,where_description,adm_1,adm_2,latitude,longitude,geom_wkt,priogrid_gid,country,"
        "country_id,region,event_clarity,date_prec,date_start,date_end,deaths_a,deaths_b,deaths_civilians,"
        "deaths_unknown,best,high,low,gwnoa,gwnob"
    ]
)
RECORD: dict[str, str] = {
    "id": "1",
    "type_of_violence": "1",
    "conflict_name": "Sudan: Government",
    "side_a": "Government of Sudan",
    "side_b": "SLM/A",
    "source_office": "Reuters News",
    "source_date": "2023-05-02",
    "source_headline": "Clashes in El Fasher",
    "where_prec": "1",
    "where_coordinates": "El Fasher town",
    "where_description": "El Fasher",
    "adm_1": "North Darfur state",
    "adm_2": "",
    "latitude": "13.63",
    "longitude": "25.35",
    "country": "Sudan",
    "date_prec": "1",
    "date_start": "2023-05-01",
    "date_end": "2023-05-01",
    "best": "3",
    "high": "4",
    "low": "2",
}


def written(path: Path, *records: Mapping[str, str], header: list[str] | None = None, **options: Any) -> Path:
    """A file with these records; columns that a record does not name are empty."""
    text = io.StringIO()
    rows = csv.DictWriter(text, header or list(RECORD), restval="", extrasaction="ignore", **options)
    rows.writeheader()
    rows.writerows(records)
    path.write_bytes(text.getvalue().encode())
    return path


def read(tmp_path: Path, **changes: str) -> GedRow:
    (row,) = read_ged(written(tmp_path / "ged.csv", {**RECORD, **changes}))
    return row


def report(tmp_path: Path, **changes: str) -> Report:
    return to_draft(read(tmp_path, **changes), WORLD)


def refused(path: Path) -> Malformed:
    with pytest.raises(Malformed) as caught:
        list(read_ged(path))
    return caught.value


def test_every_event_of_the_sample_becomes_a_report() -> None:
    rows = list(read_ged(SAMPLE))
    drafts = [to_draft(row, WORLD) for row in rows]
    assert len(drafts) == 315
    assert [row.number for row in rows] == list(range(1, 316))
    with SAMPLE.open(encoding="utf-8", newline="") as file:
        assert [row["id"] for row in csv.DictReader(file)] == [str(row.id) for row in rows]
    assert {draft.tlp for draft in drafts} == {"CLEAR"}
    assert all(draft.summary is not None and draft.people is not None and draft.place is not None for draft in drafts)


def test_the_sample_has_the_quirks_that_the_reader_is_for() -> None:
    rows = list(read_ged(SAMPLE))
    assert any("\n" in row.source_headline for row in rows)
    assert any(";" in row.source_office for row in rows)
    assert any(not row.adm_1 for row in rows)
    assert any(not row.low <= row.best <= row.high for row in rows)
    assert {row.date_prec for row in rows} == {1, 2, 3, 4, 5}
    assert {row.where_prec for row in rows} >= {1, 2, 3, 4, 5}


def test_the_file_as_published_is_read_by_the_names_of_its_columns(tmp_path: Path) -> None:
    assert len(PUBLISHED) == 49
    assert set(COLUMNS) <= set(PUBLISHED)
    record = dict.fromkeys(PUBLISHED, "not looked at") | RECORD
    (row,) = read_ged(written(tmp_path / "ged.csv", record, header=PUBLISHED))
    (other,) = read_ged(written(tmp_path / "ged.csv", record, header=PUBLISHED[::-1]))
    assert row == other == read(tmp_path)


class TestAFile:
    def test_may_begin_with_a_byte_order_mark(self, tmp_path: Path) -> None:
        path = written(tmp_path / "ged.csv", RECORD)
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
        assert list(read_ged(path)) == [read(tmp_path)]

    @pytest.mark.parametrize("end", ["\n", "\r\n"])
    def test_may_end_its_lines_either_way(self, tmp_path: Path, end: str) -> None:
        rows = list(read_ged(written(tmp_path / "ged.csv", RECORD, RECORD, lineterminator=end)))
        assert [row.low for row in rows] == [2, 2]

    def test_may_quote_every_cell(self, tmp_path: Path) -> None:
        (row,) = read_ged(written(tmp_path / "ged.csv", RECORD, quoting=csv.QUOTE_ALL))
        assert row == read(tmp_path)

    @pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
    def test_may_have_line_breaks_within_a_cell(self, tmp_path: Path, end: str) -> None:
        first, second = {**RECORD, "source_headline": f'"One"{end}Two'}, {**RECORD, "id": "2"}
        rows = list(read_ged(written(tmp_path / "ged.csv", first, second)))
        assert [row.id for row in rows] == [1, 2]
        account = to_draft(rows[0], WORLD).account
        assert account is not None
        assert account.text == f'"One"{" " if end == chr(13) else chr(10)}Two'

    def test_may_have_blank_lines(self, tmp_path: Path) -> None:
        path = written(tmp_path / "ged.csv", RECORD, RECORD, lineterminator="\n")
        path.write_bytes(path.read_bytes().replace(b"\n", b"\n\n"))
        assert [row.number for row in read_ged(path)] == [1, 2]

    def test_of_a_header_alone_has_no_rows(self, tmp_path: Path) -> None:
        assert list(read_ged(written(tmp_path / "ged.csv"))) == []

    def test_that_is_empty_lacks_every_column(self, tmp_path: Path) -> None:
        (tmp_path / "ged.csv").write_bytes(b"")
        error = refused(tmp_path / "ged.csv")
        assert error.code == "missing-column"
        assert all(column in error.sentence for column in COLUMNS)

    @pytest.mark.parametrize("column", sorted(COLUMNS))
    def test_without_a_column_says_which(self, tmp_path: Path, column: str) -> None:
        header = [name for name in RECORD if name != column]
        error = refused(written(tmp_path / "ged.csv", RECORD, header=header))
        assert (error.code, error.exit_code) == ("missing-column", 2)
        assert error.sentence == f"The file lacks GED's column: {column}."

    @pytest.mark.parametrize(
        "data",
        [
            b"\xff\xfe" + "id,best\n1,2".encode("utf-16-le"),
            ",".join(RECORD).encode() + b"\n\xe9t\xe9,",
            ",".join(RECORD).encode() + b'\n1,"' + b"x" * 200_000,
        ],
    )
    def test_that_is_no_csv_in_utf_8_says_so(self, tmp_path: Path, data: bytes) -> None:
        (tmp_path / "ged.csv").write_bytes(data)
        assert refused(tmp_path / "ged.csv").code == "not-csv"

    def test_that_is_not_there_is_the_systems_to_tell(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            list(read_ged(tmp_path / "ged.csv"))

    @settings(max_examples=100, deadline=None)
    @given(st.binary(max_size=300), st.booleans())
    def test_of_any_bytes_is_read_or_refused(
        self, tmp_path_factory: pytest.TempPathFactory, data: bytes, headed: bool
    ) -> None:
        path = tmp_path_factory.mktemp("ged") / "ged.csv"
        path.write_bytes(",".join(RECORD).encode() + b"\n" + data if headed else data)
        with suppress(Malformed):
            list(read_ged(path))


class TestARecord:
    @pytest.mark.parametrize(
        ("column", "text"),
        [
            ("id", ""),
            ("best", CANARY),
            ("best", "1.5"),
            ("best", "=1+1"),
            ("low", "9" * 5000),
            ("type_of_violence", "one"),
            ("latitude", "nan"),
            ("longitude", "1e999"),
            ("latitude", "13,63"),
            ("date_start", ""),
            ("date_start", "2023-02-30"),
            ("date_end", "01.05.2023"),
            ("date_end", CANARY),
        ],
    )
    def test_that_cannot_be_read_is_named_by_number_and_column(self, tmp_path: Path, column: str, text: str) -> None:
        path = written(tmp_path / "ged.csv", RECORD, {**RECORD, "source_headline": "a\nb"}, {**RECORD, column: text})
        rows = read_ged(path)
        assert [next(rows).number, next(rows).number] == [1, 2]
        with pytest.raises(Malformed) as caught:
            next(rows)
        assert caught.value.code == "bad-row"
        assert "Record 3:" in caught.value.sentence
        assert f"'{column}'" in caught.value.sentence
        assert CANARY not in repr(caught.value) + caught.value.diagnostics()

    def test_with_too_few_cells_is_named(self, tmp_path: Path) -> None:
        path = written(tmp_path / "ged.csv", RECORD, lineterminator="\n")
        path.write_bytes(path.read_bytes() + b"2,1,Sudan\n")
        error = refused(path)
        assert (error.code, "Record 2" in error.sentence) == ("bad-row", True)

    def test_may_have_more_cells_than_the_header(self, tmp_path: Path) -> None:
        path = written(tmp_path / "ged.csv", RECORD, lineterminator="\n")
        path.write_bytes(path.read_bytes().rstrip(b"\n") + b",more,still more\n")
        assert list(read_ged(path)) == [read(tmp_path)]

    @pytest.mark.parametrize("time", ["", " 00:00:00.000", "T13:00:00Z"])
    def test_may_give_a_day_with_a_time(self, tmp_path: Path, time: str) -> None:
        row = read(tmp_path, date_start=f"2023-05-01{time}", date_end=f"2023-05-03{time}")
        assert (row.date_start, row.date_end) == (date(2023, 5, 1), date(2023, 5, 3))

    @pytest.mark.parametrize(
        ("column", "text", "code"),
        [
            ("best", "1000000001", "bad-field"),
            ("best", "9" * 4000, "bad-field"),
            ("low", "-1", "bad-field"),
            ("latitude", "91", "bad-field"),
            ("longitude", "-181", "bad-field"),
            ("where_prec", "8", "bad-field"),
            ("date_prec", "6", "bad-field"),
            ("date_prec", "0", "bad-field"),
            ("type_of_violence", "4", "bad-row"),
            ("type_of_violence", "0", "bad-row"),
            ("country", "Atlantis", "unknown-area"),
            ("country", "", "unknown-area"),
        ],
    )
    def test_that_makes_no_report_is_refused(self, tmp_path: Path, column: str, text: str, code: str) -> None:
        with pytest.raises(Malformed) as caught:
            report(tmp_path, **{column: text})
        assert caught.value.code == code


class TestADraft:
    def test_puts_each_thing_into_its_compartment(self, tmp_path: Path) -> None:
        assert report(tmp_path).model_dump(mode="json", exclude_none=True) == {
            "area": "SD-DN",
            "categories": ["armed-clash"],
            "severity": 4,
            "day": "2023-05-01",
            "day_precision": 1,
            "tlp": "CLEAR",
            "summary": {
                "text": "State-based violence (Sudan: Government), North Darfur state, Sudan. Reported deaths: 3.",
                "lang": "en",
            },
            "account": {"text": "Clashes in El Fasher", "lang": "und", "local_terms": []},
            "place": {"name": "El Fasher town: El Fasher", "lat": 13.63, "lon": 25.35, "precision": 1},
            "people": {
                "actors": [
                    {"name": "Government of Sudan", "role": "other"},
                    {"name": "SLM/A", "role": "other"},
                ],
                "affected": {"killed": {"best": 3, "low": 2, "high": 4}},
            },
            "source": {
                "basis": "media",
                "description": "Reuters News, 2023-05-02",
                "reliability": "F",
                "credibility": 6,
            },
        }

    def test_names_no_party_where_the_conflict_is_called_after_them(self, tmp_path: Path) -> None:
        """Sides are people: they must not stand in the summary, which more offices read."""
        found = report(
            tmp_path, type_of_violence="2", conflict_name="Rizeigat - Masalit", side_a="Rizeigat", side_b="Masalit"
        )
        assert found.summary is not None
        assert found.summary.text == "Violence between non-state groups, North Darfur state, Sudan. Reported deaths: 3."

    def test_names_no_party_of_any_event_of_the_sample_in_its_summary(self) -> None:
        for row in read_ged(SAMPLE):
            summary = to_draft(row, WORLD).summary
            assert summary is not None
            for side in (row.side_a, row.side_b):
                assert re.search(rf"\b{re.escape(side)}\b", summary.text) is None, row.number
            assert not row.source_headline or row.source_headline not in summary.text

    def test_says_who_began_where_violence_is_one_sided(self, tmp_path: Path) -> None:
        people = report(tmp_path, type_of_violence="3", side_b="Civilians").people
        assert people is not None
        assert [actor.role for actor in people.actors] == ["initiator", "target"]

    def test_keeps_several_sources_as_delivered(self, tmp_path: Path) -> None:
        source = report(tmp_path, source_office="Reuters;AFP", source_date="2023-05-01;2023-05-02").source
        assert source is not None
        assert source.description == "Reuters;AFP, 2023-05-01;2023-05-02"

    @pytest.mark.parametrize(
        ("changes", "missing"),
        [
            ({"source_office": "", "source_date": "2023-05-01"}, "source"),
            ({"source_office": "  "}, "source"),
            ({"source_office": "\x00"}, "source"),
            ({"source_headline": ""}, "account"),
            ({"source_headline": " \x07 "}, "account"),
        ],
    )
    def test_leaves_out_what_is_not_given(self, tmp_path: Path, changes: dict[str, str], missing: str) -> None:
        assert getattr(report(tmp_path, **changes), missing) is None

    @pytest.mark.parametrize("blank", ["", "   ", "\x00"])
    def test_has_a_place_without_a_name_where_none_is_given(self, tmp_path: Path, blank: str) -> None:
        place = report(tmp_path, where_coordinates=blank, where_description=blank).place
        assert place is not None
        assert (place.name, place.lat, place.precision) == (None, 13.63, 1)

    def test_names_a_place_once(self, tmp_path: Path) -> None:
        place = report(tmp_path, where_coordinates="Geneina town", where_description="Geneina town").place
        assert place is not None
        assert place.name == "Geneina town"

    @pytest.mark.parametrize("side", ["", "  ", "\x00"])
    def test_leaves_out_a_side_without_a_name(self, tmp_path: Path, side: str) -> None:
        people = report(tmp_path, side_b=side).people
        assert people is not None
        assert [actor.name for actor in people.actors] == ["Government of Sudan"]

    @pytest.mark.parametrize(("low", "best", "high"), [("4", "3", "3"), ("3", "4", "3"), ("0", "0", "0")])
    def test_keeps_estimates_as_delivered(self, tmp_path: Path, low: str, best: str, high: str) -> None:
        people = report(tmp_path, low=low, best=best, high=high).people
        assert people is not None
        killed = people.affected.killed
        assert killed is not None
        assert (killed.low, killed.best, killed.high) == (int(low), int(best), int(high))
        assert killed.consistent is (low == "0")

    @pytest.mark.parametrize("precision", ["1", "2", "3", "4", "5"])
    def test_keeps_the_days_precision(self, tmp_path: Path, precision: str) -> None:
        assert report(tmp_path, date_prec=precision).day_precision == int(precision)

    @pytest.mark.parametrize("precision", ["1", "2", "3", "4", "5", "6", "7"])
    def test_keeps_the_places_precision_by_which_coordinates_are_judged(self, tmp_path: Path, precision: str) -> None:
        place = report(tmp_path, where_prec=precision).place
        assert place is not None
        assert place.precision == int(precision)

    def test_says_from_when_to_when_where_it_took_longer(self, tmp_path: Path) -> None:
        account = report(tmp_path, date_end="2023-05-09").account
        assert account is not None
        assert account.text == "Clashes in El Fasher\n\nFrom 2023-05-01 to 2023-05-09."

    @pytest.mark.parametrize(
        ("country", "adm_1", "area"),
        [
            ("Sudan", "North Darfur state", "SD-DN"),
            ("Sudan", "", "SD"),
            ("Sudan", "No such state", "SD"),
            ("Nigeria", "Borno state", "NG-BO"),
            ("Kyrgyzstan", "Osh region", "KG-O"),
            ("Burkina Faso", "Sahel region", "BF-12"),
        ],
    )
    def test_finds_the_area_whatever_type_word_it_carries(
        self, tmp_path: Path, country: str, adm_1: str, area: str
    ) -> None:
        assert report(tmp_path, country=country, adm_1=adm_1).area == area

    @pytest.mark.parametrize("text", ["=HYPERLINK(1)", "+1", "-1", "@SUM(A1)", "\t=1"])
    def test_keeps_a_text_that_looks_like_a_formula_as_text(self, tmp_path: Path, text: str) -> None:
        """Guarding cells is for who writes a spreadsheet; here the text is what was said."""
        account = report(tmp_path, source_headline=text).account
        assert account is not None
        assert account.text == text.strip()

    def test_takes_away_what_steers_a_terminal(self, tmp_path: Path) -> None:
        account = report(tmp_path, source_headline="a\x1b[2Jb\u202ec\x9bd\te").account
        assert account is not None
        assert account.text == "a [2Jb c d e"

    def test_is_shortened_to_what_a_report_takes(self, tmp_path: Path) -> None:
        found = report(
            tmp_path, source_headline="é" * 20_000, date_end="2023-05-09", conflict_name="x" * 999, side_a="y" * 999
        )
        assert found.account is not None
        assert found.summary is not None
        assert (len(found.account.text), len(found.summary.text)) == (MAX_ACCOUNT, MAX_SUMMARY)
        assert found.account.text.endswith("…\n\nFrom 2023-05-01 to 2023-05-09.")

    def test_is_marked_as_asked(self, tmp_path: Path) -> None:
        assert to_draft(read(tmp_path), WORLD, tlp="AMBER").tlp == "AMBER"


_TEXTS = tuple(name for name, kind in COLUMNS.items() if kind == "str" and name not in ("country", "adm_1"))


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from(_TEXTS), st.text(st.characters(exclude_categories=["Cs"]), max_size=40)))
def test_no_text_of_a_row_keeps_it_from_becoming_a_report(texts: dict[str, str]) -> None:
    known: dict[str, Any] = {name: RECORD[name] for name in (*_TEXTS, "country", "adm_1")}
    row = replace(next(read_ged(SAMPLE)), **known | texts)
    assert to_draft(row, WORLD).area == "SD-DN"


@pytest.mark.parametrize(("best", "severity"), [(0, 2), (1, 3), (2, 3), (3, 4), (24, 4), (25, 5), (10**9, 5)])
def test_severity_follows_from_deaths(best: int, severity: int) -> None:
    assert severity_of(best) == severity


def test_nothing_of_a_row_shows_when_it_is_printed(tmp_path: Path) -> None:
    row = read(tmp_path, **dict.fromkeys(("side_a", "side_b", "source_headline", "source_office"), CANARY))
    assert CANARY in row.source_headline
    assert CANARY not in repr(row)
