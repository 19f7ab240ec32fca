"""Zone member lists with their dates: treaty and decision dates are public facts, checked against two bundled lists.

The countries list we read (mledoze/countries with country_converter) leaves Greece out of EU27 and EEA; it has been a
member since 1981. `zones` therefore accepts exactly that difference and refuses every other.
"""

from __future__ import annotations

import pandas as pd

from marketplace.demo.world import Member, Zone

_ACCESSIONS = {
    "1958-01-01": "BE DE FR IT LU NL",
    "1973-01-01": "DK GB IE",
    "1981-01-01": "GR",
    "1986-01-01": "ES PT",
    "1995-01-01": "AT FI SE",
    "2004-05-01": "CY CZ EE HU LT LV MT PL SI SK",
    "2007-01-01": "BG RO",
    "2013-07-01": "HR",
}
_EEA_BEGAN = "1994-01-01"
_EFTA_IN_EEA = {"IS": "1994-01-01", "LI": "1995-05-01", "NO": "1994-01-01"}
_ENDED = {"GB": ("2020-02-01", "2021-01-01")}  # left the Union; single-market rules ended eleven months later
_ADEQUACY = {
    "AD": "2010-10-19", "AR": "2003-06-30", "CA": "2001-12-20", "CH": "2000-07-26", "FO": "2010-03-05",
    "GB": "2021-06-28", "GG": "2003-11-21", "IL": "2011-01-31", "IM": "2004-04-28", "JE": "2008-05-08",
    "JP": "2019-01-23", "KR": "2021-12-17", "NZ": "2012-12-19", "US": "2023-07-10", "UY": "2012-08-21",
}
_MISSING_IN_SOURCE = {"GR"}
_BLOCS = "EU accession dates; checked against mledoze/countries and country_converter (which leave out Greece)"
_LIST = "European Commission adequacy decisions by date, list of the CNPD (Luxembourg)"


def zones(blocs: pd.DataFrame, adequacy: pd.DataFrame) -> tuple[Zone, ...]:
    """EU, EEA, US, CH, UK and ADEQUATE with member dates; ValueError where the lists disagree with ours."""
    eu = [Member(country, day, _ENDED.get(country, (None, None))[0])
          for day, countries in _ACCESSIONS.items() for country in countries.split()]
    eea = [Member(m.country, max(m.valid_from, _EEA_BEGAN), _ENDED.get(m.country, (None, None))[1]) for m in eu]
    eea += [Member(country, day, None) for country, day in _EFTA_IN_EEA.items()]
    conditional = set(adequacy[adequacy.condition != ""].cca2)
    adequate = [m for m in eea if m.valid_until is None]
    adequate += [Member(c, day, None) for c, day in _ADEQUACY.items() if c not in conditional]
    _refuse_difference("EU27", blocs, eu)
    _refuse_difference("EEA", blocs, eea)
    if set(adequacy.cca2) != set(_ADEQUACY):
        raise ValueError(f"The adequacy list changed: {sorted(set(adequacy.cca2) ^ set(_ADEQUACY))}")
    return (
        _zone("EU", "European Union", _BLOCS, eu),
        _zone("EEA", "European Economic Area", _BLOCS, eea),
        _zone("US", "United States", "ISO 3166-1", [Member("US", "1900-01-01", None)]),
        _zone("CH", "Switzerland", "ISO 3166-1", [Member("CH", "1900-01-01", None)]),
        _zone("UK", "United Kingdom", "ISO 3166-1", [Member("GB", "1900-01-01", None)]),
        _zone("ADEQUATE", "EEA and countries under an unconditional EU adequacy decision",
              f"{_LIST}; without {', '.join(sorted(conditional))}, adequate for certified companies only", adequate),
    )


def _zone(code: str, name: str, source: str, members: list[Member]) -> Zone:
    return Zone(code, name, source, tuple(sorted(members, key=lambda m: (m.country, m.valid_from))))


def _refuse_difference(column: str, blocs: pd.DataFrame, members: list[Member]) -> None:
    listed = set(blocs[blocs[column] != ""].cca2) | _MISSING_IN_SOURCE
    ours = {m.country for m in members if m.valid_until is None}
    if listed != ours:
        raise ValueError(f"{column} differs from the list: {sorted(listed ^ ours)}")
