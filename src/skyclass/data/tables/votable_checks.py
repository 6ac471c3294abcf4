"""VOTables checked as the XML parser sees them, before astropy reads them: no entities, no other files, no bombs.

Astropy reads with expat too, so whatever the encoding and the spelling of a document, both see the same elements.
"""

from __future__ import annotations

import math
import re
from xml.parsers import expat

from ...core.errors import SkyclassError, one_line
from ...core.limits import MAX_CELL, MAX_FIELDS, MAX_ROW, MAX_XML_DEPTH, check_unpacking

_MEND = "open and mend it"
_SIDE = re.compile("[0-9]+")


class _Checks:
    """What expat calls for each element; raises SkyclassError for what no VOTable needs."""

    def __init__(self, n_bytes: int) -> None:
        self._n_bytes = n_bytes
        self._depth = 0
        self._rows = 0  # that the table announces, for which astropy takes room at once
        self._row: list[int] = []

    def doctype(self, _name: str, _system: str | None, _public: str | None, has_internal_subset: int) -> None:
        """VOTable 1.0 named its DTD, which is not fetched; declarations within the document are another matter."""
        if has_internal_subset:
            raise SkyclassError("an XML document that declares entities, which no VOTable needs", fix="remove them")

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """An element begins. Prefixes of namespaces are dropped, as astropy drops them."""
        element = _local(name)
        given = {_local(key): value for key, value in attributes.items()}
        self._depth += 1
        if self._depth > MAX_XML_DEPTH:
            raise SkyclassError(f"elements more than {MAX_XML_DEPTH} deep", fix=_MEND)
        if element == "stream" and "href" in given:
            raise SkyclassError("a VOTable whose rows lie in another file", fix="save it with its rows inside")
        if element == "table":
            self._row, rows = [], given.get("nrows", "").strip()
            self._rows = int(rows[:20]) if rows.isdecimal() else 0
        if element in ("field", "param"):
            self._count(given.get("arraysize", ""), element == "field")

    def end(self, _name: str) -> None:
        """An element ends."""
        self._depth -= 1

    def _count(self, arraysize: str, is_field: bool) -> None:
        """Refuse cells and rows of too many values, and more rows than the document can hold."""
        sides = [int(side[:20]) for side in _SIDE.findall(arraysize)]  # of `8x4*` the * is not bounded
        values = math.prod(sides)
        if values > MAX_CELL:
            raise SkyclassError(f"a VOTable with more than {MAX_CELL:,} values in a cell", fix="leave that column out")
        if is_field:
            self._row.append(values)
        if len(self._row) > MAX_FIELDS:
            raise SkyclassError(f"a VOTable of more than {MAX_FIELDS} columns", fix="leave columns out")
        check_unpacking(8 * self._rows * sum(self._row), self._n_bytes)
        if sum(self._row) > MAX_ROW:
            raise SkyclassError(f"a VOTable with more than {MAX_ROW:,} values in a row", fix="leave columns out")


def check_votable(data: bytes) -> None:
    """Refuse a VOTable that declares entities, names another file or takes more memory than any table.

    Raises
    ------
    SkyclassError
        Without a place; also where the document is no XML.
    """
    parser = expat.ParserCreate()
    checks = _Checks(len(data))
    parser.StartDoctypeDeclHandler = checks.doctype
    parser.StartElementHandler = checks.start
    parser.EndElementHandler = checks.end
    try:
        parser.Parse(data, True)
    except (expat.ExpatError, ValueError, LookupError) as error:  # the last two of encodings that Python has not
        raise SkyclassError(f"unreadable table ({one_line(error)[:200]})", fix=_MEND) from None


def _local(name: str) -> str:
    return name.rpartition(":")[2].lower()
