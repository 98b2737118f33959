import json
import re
from pathlib import Path

from tools.recording import CAST, PAGE, record, render_page, transcript

ROOT = Path(__file__).parents[2]


def test_the_page_shows_the_recording() -> None:
    assert PAGE.read_text() == render_page(CAST.read_text()), "run: make recording"


def test_the_recording_shows_each_step_of_the_demo_as_it_is_now() -> None:
    seen = transcript(CAST.read_text())
    sources = [path.read_text() for path in sorted((ROOT / "sandbox" / "demo").glob("*.py"))]
    steps = [title for text in sources for title in re.findall(r"\bstep\(\s*\"([^\"]+)\"", text)]
    assert len(steps) > 8
    assert [title for title in steps if title not in seen] == [], "the demo has changed; run: make recording"


def test_the_recording_is_an_asciicast_of_a_demo_that_ended_well_and_names_no_folder_of_the_machine() -> None:
    header, *events = map(json.loads, CAST.read_text().splitlines())
    assert header["version"] == 2
    times = [time for time, kind, _ in events if kind == "o"]
    assert times == sorted(times)
    seen = transcript(CAST.read_text())
    assert "That was the main job" in seen.splitlines()[-1]
    assert "Left out" not in seen
    assert not re.search(r"/(root|home|tmp|work|Users)\b", seen)
    assert CAST.stat().st_size < 200_000


def test_a_program_is_recorded_on_a_terminal_with_its_status(tmp_path: Path) -> None:
    status, cast = record(
        ["sh", "-c", "test -t 1 && printf '1 of 2\\r\\033[K2 of 2 \\342\\200\\246\\n' && exit 3"], cwd=tmp_path
    )
    assert status == 3
    assert transcript(cast) == "2 of 2 …"
