from tools.metrics_page import PAGE, render


def test_the_page_is_what_the_metrics_say() -> None:
    assert PAGE.read_text() == render(), "run: python -m tools.metrics_page"
