"""Build the packaged table of areas from the Unicode CLDR's JSON packages.

Takes the folder into which ``cldr-core``, ``cldr-localenames-full`` and ``cldr-subdivisions-full`` (version 48) were
unpacked, each under its own name, and writes ``kengele_schemas/data/areas.json``:

    python schemas/tools/build_areas.py UNPACKED_FOLDER schemas/kengele_schemas/data/areas.json

M49 regions, ISO 3166-1 countries, ISO 3166-2 units with English names, and codes no longer in use come from CLDR.
Regional groups and the names by which data sets call areas are this file's own, and are meant to be edited.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Final

WORLD: Final = "001"
SKIPPED: Final = frozenset({"AC", "CP", "CQ", "DG", "EA", "IC", "TA", "QO", "EU", "EZ", "UN"})
"""Codes of CLDR's that are neither in ISO 3166-1 nor in common use as countries."""

REGIONS_AS_GROUPS: Final = frozenset({"UG"})
"""Countries whose ISO 3166-2 first level has no administration of its own: the level below counts as the first."""

GROUPS: Final = (
    ("REC-IGAD", "IGAD (CEWARN)", "rec", "DJ ER ET KE SO SS SD UG"),
    ("REC-ECOWAS", "ECOWAS (ECOWARN)", "rec", "REC-ECOWAS-I REC-ECOWAS-II REC-ECOWAS-III REC-ECOWAS-IV"),
    ("REC-ECOWAS-I", "ECOWARN zone I", "rec", "CV GM GW SN"),
    ("REC-ECOWAS-II", "ECOWARN zone II", "rec", "BF CI ML NE"),
    ("REC-ECOWAS-III", "ECOWARN zone III", "rec", "GH GN LR SL"),
    ("REC-ECOWAS-IV", "ECOWARN zone IV", "rec", "BJ NG TG"),
    ("OA-UNRCCA", "Area of UNRCCA (Central Asia)", "office-area", "KZ KG TJ TM UZ"),
    ("OA-UNOCA", "Area of UNOCA (Central Africa)", "office-area", "AO BI CM CF TD CG CD GQ GA RW ST"),
    (
        "OA-UNOWAS",
        "Area of UNOWAS (West Africa and the Sahel)",
        "office-area",
        "BF BJ CI CV GH GM GN GW LR ML MR NE NG SL SN TG",
    ),
    (
        "XB-KARAMOJA",
        "Karamoja cluster",
        "cluster",
        "ET-SN KE-43 KE-47 SS-EE UG-306 UG-308 UG-311 UG-314 UG-318 UG-324 UG-327 UG-334 UG-335",
    ),
    ("XB-FERGANA", "Fergana valley", "cluster", "KG-B KG-GO KG-J KG-O TJ-SU UZ-AN UZ-FA UZ-NG"),
    (
        "XB-LIPTAKO-GOURMA",
        "Liptako-Gourma",
        "cluster",
        "BF-05 BF-08 BF-10 BF-12 ML-5 ML-6 ML-7 ML-9 NE-3 NE-5 NE-6",
    ),
)

NAMES: Final = {
    "BA": ("Bosnia-Herzegovina",),
    "CD": ("DR Congo (Zaire)", "Democratic Republic of Congo", "DRC"),
    "CG": ("Congo", "Republic of Congo"),
    "CI": ("Ivory Coast",),
    "CV": ("Cabo Verde",),
    "CZ": ("Czech Republic",),
    "GB": ("United Kingdom",),
    "GM": ("Gambia",),
    "KG": ("Kyrgyz Republic",),
    "KH": ("Cambodia (Kampuchea)",),
    "KP": ("North Korea", "DPRK"),
    "KR": ("South Korea", "Republic of Korea"),
    "LA": ("Lao PDR",),
    "MG": ("Madagascar (Malagasy)",),
    "MK": ("Macedonia, FYR", "Macedonia"),
    "MM": ("Myanmar (Burma)", "Burma"),
    "PS": ("Palestine", "Occupied Palestinian Territory"),
    "RO": ("Rumania",),
    "RS": ("Serbia (Yugoslavia)",),
    "RU": ("Russia (Soviet Union)", "Russian Federation"),
    "ST": ("Sao Tome and Principe",),
    "SZ": ("Kingdom of Eswatini", "Kingdom of eSwatini (Swaziland)", "Swaziland"),
    "SY": ("Syrian Arab Republic",),
    "TL": ("East Timor",),
    "TR": ("Turkey",),
    "TZ": ("United Republic of Tanzania",),
    "US": ("United States of America",),
    "VN": ("Vietnam (North Vietnam)", "Viet Nam"),
    "YE": ("Yemen (North Yemen)",),
    "ZW": ("Zimbabwe (Rhodesia)",),
    "AF-GHO": ("Ghowr",),
    "AF-HEL": ("Hilmand",),
    "AF-HER": ("Hirat",),
    "AF-JOW": ("Jawzjan",),
    "AF-PAN": ("Panjsher", "Panjshir"),
    "AF-PIA": ("Paktya", "Paktiya"),
    "AF-SAR": ("Sari Pul", "Sar-e-Pul"),
    "AF-URU": ("Uruzgan", "Oruzgan"),
    "AF-WAR": ("Wardak", "Wardag"),
    "ET-BE": ("Benishangul-Gumaz", "Benshangul-Gumaz"),
    "ET-GA": ("Gambella",),
    "ET-OR": ("Oromiya",),
    "ET-SN": ("SNNP", "Southern Nations, Nationalities and People's"),
    "KE-30": ("Nairobi",),
    "KG-GB": ("Bishkek city",),
    "KG-GO": ("Osh city",),
    "KG-J": ("Jalalabad",),
    "KG-O": ("Osh oblast", "Osh province"),
    "KG-Y": ("Ysyk-Kol",),
    "KZ-11": ("Akmola",),
    "KZ-15": ("Aktobe",),
    "KZ-27": ("West Kazakhstan",),
    "KZ-31": ("Jambyl",),
    "KZ-35": ("Karaganda",),
    "KZ-39": ("Kostanay",),
    "KZ-43": ("Kyzylorda",),
    "KZ-59": ("North Kazakhstan",),
    "KZ-61": ("Turkestan",),
    "KZ-63": ("East Kazakhstan",),
    "ML-6": ("Timbuktu",),
    "NG-FC": ("Abuja",),
    "SD-GD": ("Gedarif", "Gadaref", "Al Gedaref"),
    "SD-GK": ("West Kordofan",),
    "SD-GZ": ("Gezira", "Al Gezira"),
    "SD-KN": ("North Kordofan",),
    "SD-KS": ("South Kordofan",),
    "SD-SI": ("Sinnar",),
    "SO-HI": ("Hiraan",),
    "SO-JD": ("Middle Jubba",),
    "SO-JH": ("Lower Jubba",),
    "SO-SD": ("Middle Shabelle", "Middle Shabeelle"),
    "SO-SH": ("Lower Shabelle", "Lower Shabeelle"),
    "SO-NU": ("Nugaal",),
    "TJ-RA": ("Districts of Republican Subordination", "Region of Republican Subordination"),
    "TJ-SU": ("Leninobod", "Sogd"),
    "UZ-TK": ("Tashkent city",),
    "UZ-TO": ("Tashkent region", "Tashkent oblast"),
    "UZ-FA": ("Ferghana",),
    "UZ-SA": ("Samarkand",),
}

NOTE: Final = (
    "Names and containment: Unicode CLDR 48 (Unicode License V3), after ISO 3166 and UN M49. Codes and names imply no "
    "opinion on the legal status of any country, territory or area, or on its borders."
)


def _load(path: Path, *keys: str) -> dict[str, Any]:
    value = json.loads(path.read_text("utf-8"))
    for key in keys:
        value = value[key]
    return dict(value)


def _code(cldr: str) -> str:
    """``kggo`` as ISO 3166-2 writes it, ``KG-GO``: CLDR's ids are the country's two letters and the rest."""
    return f"{cldr[:2]}-{cldr[2:]}".upper()


def build(folder: Path) -> dict[str, Any]:
    """The packed table (see ``kengele_schemas.areas.unpack``) from the unpacked packages in ``folder``."""
    core = folder / "cldr-core" / "supplemental"
    territories = _load(core / "territoryContainment.json", "supplemental", "territoryContainment")
    contained = _load(core / "subdivisionContainment.json", "supplemental", "subdivisionContainment")
    aliases = _load(core / "aliases.json", "supplemental", "metadata", "alias", "subdivisionAlias")
    english = folder / "cldr-localenames-full" / "main" / "en" / "territories.json"
    country_names = _load(english, "main", "en", "localeDisplayNames", "territories")
    names = _load(
        folder / "cldr-subdivisions-full" / "subdivisions" / "en" / "en.json",
        "subdivisions",
        "localeDisplayNames",
        "subdivisions",
    )

    parents: dict[str, list[str]] = {WORLD: []}
    for group, row in territories.items():
        if group in SKIPPED or "deprecated" in group:
            continue
        for member in row["_contains"]:
            if member not in SKIPPED:
                parents.setdefault(member, []).append(group.removesuffix("-status-grouping"))
    areas = [
        {
            "code": code,
            "name": country_names[code],
            "kind": "world" if code == WORLD else "region" if code.isdigit() else "country",
            **({"parents": sorted(set(above))} if above else {}),
        }
        for code, above in sorted(parents.items())
    ]
    areas += [{"code": code, "name": name, "kind": kind} for code, name, kind, _ in GROUPS]

    units: dict[str, dict[str, dict[str, str]]] = {"region": {}, "admin1": {}, "admin2": {}}
    known = set(parents)
    for parent, row in sorted(contained.items(), key=lambda item: (not item[0].isupper(), item[0])):
        country, top = parent[:2].upper(), parent.isupper()
        kind = "admin1" if top != (country in REGIONS_AS_GROUPS) else "region" if top else "admin2"
        above = parent if top else _code(parent)
        # CLDR tells namesakes apart by the country's name ("Bay, Somalia") or a raised digit.
        listed = {
            _code(unit): names[unit].rstrip("²³").removesuffix(f", {country_names[country]}")
            for unit in sorted(row["_contains"])
            if unit in names
        }
        if above in known and listed:
            units[kind][above] = listed
            known |= set(listed)
    replaced = {}
    for old, row in sorted(aliases.items()):
        new = [_code(unit) for unit in row["_replacement"].split()]
        if row["_reason"] == "deprecated" and known.issuperset(new) and _code(old) not in known:
            replaced[_code(old)] = new
    return {
        "v": 1,
        "note": NOTE,
        "areas": areas,
        "units": units,
        "replaced": replaced,
        "also": {code: members.split() for code, _, _, members in GROUPS},
        "names": {code: list(further) for code, further in NAMES.items()},
    }


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("target", type=Path)
    options = parser.parse_args(arguments)
    text = json.dumps(build(options.folder), ensure_ascii=False, separators=(",", ":"))
    options.target.write_text(text + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
