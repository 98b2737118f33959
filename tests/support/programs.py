"""Programs that tests play: a shell script under any name."""

from pathlib import Path

WORKS = "#!/bin/sh\nexit 0\n"


def write_program(path: Path, text: str = WORKS) -> None:
    """Write it and make it executable."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
