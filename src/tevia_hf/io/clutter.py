"""Files beside the data that are no data: what systems and office programs leave behind."""

from pathlib import Path

_OF_SYSTEMS = ("thumbs.db", "desktop.ini", "__macosx")


def is_clutter(path: str | Path) -> bool:
    """Whether a path is no data: hidden (".DS_Store", "._a.png"), a lock file ("~$t.xlsx", ".~lock.t.csv#"),
    "Thumbs.db", "desktop.ini", or inside "__MACOSX".
    """
    path = Path(path)
    return path.name.startswith((".", "~$")) or path.name.lower() in _OF_SYSTEMS or "__MACOSX" in path.parts
