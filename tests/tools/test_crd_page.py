import yaml

from tools.crd_page import CRD, PAGE, render


def test_the_page_is_what_the_schema_says() -> None:
    assert PAGE.read_text() == render(yaml.safe_load(CRD.read_text())), "run: make chart"


def test_a_field_is_described_with_its_type_default_choices_and_rules() -> None:
    page = PAGE.read_text()
    section = page.split("### spec.secret.keySets\n")[1].split("\n### ")[0]
    assert "List of strings; `Binding`, `Env`, `Files`; default `[Binding, Env]`." in section
    assert "- must not contain an item twice" in section
    assert "String, required." in page.split("### spec.clusterUUID\n")[1]
