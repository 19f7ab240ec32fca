"""Cut a small Inter out of the wheel that ships it, so that a page loads 40 KB of letters instead of 230.

Latin, Latin Extended-A and the signs we use stay, with kerning and tabular figures. What is cut is cached in the data
folder and never committed; where this has not run, the system's own font serves. Inter is under the OFL 1.1, whose text
is served beside it.
"""

from __future__ import annotations

import importlib.util
import logging
from io import BytesIO
from pathlib import Path
from typing import Any

from django.conf import settings

WEIGHTS = {400: "Inter-Regular.woff2", 600: "Inter-SemiBold.woff2"}
KEPT = [*range(0x20, 0x7F), *range(0xA0, 0x180), 0x2013, 0x2014, 0x2018, 0x2019, 0x201C, 0x201D, 0x2022, 0x2026, 0x2030,
        0x20AC, 0x2190, 0x2192, 0x2212, 0x2264, 0x2265, 0x25CF, 0x00D7, 0x00B7]  # fmt: skip
FEATURES = ["kern", "liga", "ccmp", "locl", "mark", "mkmk", "tnum"]
FACE = (
    "@font-face{{font-family:Inter;font-style:normal;font-weight:{weight};font-display:swap;"
    'src:url("/fonts/inter-{weight}.woff2") format("woff2")}}\n'
)


SERVED = {"inter.css": "text/css", "inter-license.txt": "text/plain", **{
    f"inter-{weight}.woff2": "font/woff2" for weight in WEIGHTS
}}  # fmt: skip


def find_font_file(name: str) -> Path | None:
    """Return a served file of the cut font, or None: unknown, or not cut yet."""
    path = _folder() / name
    return path if name in SERVED and path.is_file() else None


def is_cut() -> bool:
    """Say whether pages can use the cut font: the style sheet is written last."""
    return find_font_file("inter.css") is not None


def _folder() -> Path:
    return Path(settings.DATA_DIR) / "fonts"


def cut_fonts() -> list[Path]:
    """Write the cut font, its style sheet and its licence, unless they stand. Returns what is there.

    A file appears whole or not at all, so a killed run leaves nothing half written.
    """
    target = _folder()
    source = _folder_of_inter()
    if source is None:
        return []
    target.mkdir(parents=True, exist_ok=True)
    for weight, name in WEIGHTS.items():
        path = target / f"inter-{weight}.woff2"
        if not path.exists():
            _write_whole(path, _subset(source / name))
    _write_whole(target / "inter-license.txt", (source / "LICENSE").read_bytes())
    _write_whole(target / "inter.css", "".join(FACE.format(weight=weight) for weight in WEIGHTS).encode())
    return sorted(target.iterdir())


def _folder_of_inter() -> Path | None:
    found = importlib.util.find_spec("unfold")
    if found is None or not found.submodule_search_locations:
        return None
    folder = Path(found.submodule_search_locations[0]) / "static" / "unfold" / "fonts" / "inter"
    return folder if all((folder / name).exists() for name in (*WEIGHTS.values(), "LICENSE")) else None


def _subset(path: Path) -> bytes:
    from fontTools import subset
    from fontTools.ttLib import TTFont

    logging.getLogger("fontTools").setLevel(logging.WARNING)  # it tells of each table it prunes
    options = subset.Options(flavor="woff2", layout_features=FEATURES, hinting=False, desubroutinize=True)
    options.name_IDs = [0, 1, 2, 13, 14]
    font = TTFont(path)
    cutter = subset.Subsetter(options)
    cutter.populate(unicodes=KEPT)
    cutter.subset(font)
    _keep_words_proportional(font)
    font.flavor = "woff2"
    body = BytesIO()
    font.save(body)
    return body.getvalue()


def _keep_words_proportional(font: Any) -> None:
    """Let tabular figures change digits only: Inter widens hyphens and brackets too, which tears words apart."""
    gsub = font["GSUB"].table
    tabular = {i for r in gsub.FeatureList.FeatureRecord if r.FeatureTag == "tnum" for i in r.Feature.LookupListIndex}
    for number in tabular:
        for table in gsub.LookupList.Lookup[number].SubTable:
            inner = getattr(table, "ExtSubTable", table)
            mapping = getattr(inner, "mapping", {})
            for name in [n for n in mapping if n.startswith(("hyphen", "space", "paren", "slash"))]:
                del mapping[name]


def _write_whole(path: Path, body: bytes) -> None:
    draft = path.with_name(f".{path.name}")
    draft.write_bytes(body)
    draft.replace(path)
