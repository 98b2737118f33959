from pathlib import Path

import pytest

from tools.site import CONFIG, OUTSIDE, ROOT, SiteError, build, rewrite_links

REPOSITORY = "https://example.com/project"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A checkout of two pages."""
    folder = tmp_path / "checkout"
    (folder / "docs").mkdir(parents=True)
    (folder / "deploy").mkdir()
    for name in OUTSIDE:
        (folder / name).write_text(f"# {name}\n")
    (folder / "README.md").write_text("# Home\n\n[keys](docs/keys.md#the-keys)\n")
    (folder / "docs" / "keys.md").write_text("# Keys\n\n## The keys\n\n<a id='row'></a>[samples](../deploy)\n")
    return folder


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "zensical.toml"
    pages = ", ".join(f'"{page}"' for page in [*OUTSIDE.values(), "keys.md"])
    text = CONFIG.read_text()
    head, tail = text.split("nav = [")[0], text.split("\n]\n", 1)[1]
    path.write_text(f"{head}nav = [{pages}]\n{tail}")
    return path


def test_the_site_is_built_and_every_page_of_docs_is_in_it(tmp_path: Path) -> None:
    first = build(tmp_path)
    assert "keeps a Secret in sync" in first.read_text()
    pages = {path.relative_to(ROOT / "docs").with_suffix(".html") for path in (ROOT / "docs").rglob("*.md")}
    built = {path.relative_to(first.parent) for path in first.parent.rglob("*.html")}
    assert pages <= built


def test_a_site_of_two_pages_is_built(root: Path, config: Path, tmp_path: Path) -> None:
    first = build(tmp_path, root=root, config=config)
    assert 'href="keys.html#the-keys"' in first.read_text()


@pytest.mark.parametrize(
    ("mistake", "said"),
    [
        (("README.md", "[x](docs/gone.md)"), "README.md: the link docs/gone.md leads nowhere"),
        (("docs/keys.md", "[x](../deploy/gone.yaml)"), "docs/keys.md: the link ../deploy/gone.yaml leads nowhere"),
        (("README.md", "[x](docs/keys.md#gone)"), "anchor does not exist"),
        (("docs/more.md", "# More"), "docs/more.md: is not in the navigation"),
    ],
)
def test_what_is_wrong_is_named(root: Path, config: Path, tmp_path: Path, mistake: tuple[str, str], said: str) -> None:
    page, text = mistake
    path = root / page
    path.write_text(f"{path.read_text() if path.exists() else ''}\n{text}\n")
    with pytest.raises(SiteError, match=said):
        build(tmp_path, root=root, config=config)


def test_a_page_that_does_not_exist_cannot_be_in_the_navigation(root: Path, config: Path, tmp_path: Path) -> None:
    (root / "docs" / "keys.md").unlink()
    (root / "README.md").write_text("# Home\n")
    with pytest.raises(SiteError, match=r"names keys\.md, which does not exist"):
        build(tmp_path, root=root, config=config)


@pytest.mark.parametrize(
    ("source", "page", "link", "target"),
    [
        ("README.md", "index.md", "docs/keys.md#row", "keys.md#row"),
        ("README.md", "index.md", "ARCHITECTURE.md", "architecture.md"),
        ("README.md", "index.md", "deploy", f"{REPOSITORY}/tree/main/deploy"),
        ("docs/keys.md", "keys.md", "../CHANGELOG.md#x", "changelog.md#x"),
        ("docs/deep/page.md", "deep/page.md", "../keys.md", "../keys.md"),
        ("docs/deep/page.md", "deep/page.md", "../../README.md", "../index.md"),
        ("docs/keys.md", "keys.md", "https://example.org/a", "https://example.org/a"),
        ("docs/keys.md", "keys.md", "#row", "#row"),
    ],
)
def test_a_link_leads_where_it_leads_on_github(root: Path, source: str, page: str, link: str, target: str) -> None:
    text, broken = rewrite_links(f"[x]({link})", source=source, page=page, repository=REPOSITORY, root=root)
    assert (text, broken) == (f"[x]({target})", [])


def test_code_stays_as_it_is(root: Path) -> None:
    text = "```sh\n[x](docs/gone.md)\n```\n"
    assert rewrite_links(text, source="README.md", page="index.md", repository=REPOSITORY, root=root) == (text, [])
