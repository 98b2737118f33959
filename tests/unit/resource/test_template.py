from collections.abc import Sequence
from difflib import get_close_matches
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbclusterref.resource.template import TemplateError, adds_lines, faults_in, fill, parse_template
from tests.support.strategies import BOUNDED, any_text


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("", ""),
        ("plain", "plain"),
        ("{host}:{port}", "h:5"),
        ("{host}{host}", "hh"),
        ("{password:url}", "a%2F%7Bhost%7D"),
        ("{password}", "a/{host}"),
        ("{{host}}", "{host}"),
        ("{{{host}}}", "{h}"),
        ("{{}}", "{}"),
        ("{empty}", ""),
        ("{unknown}", None),
        ("{host}{unknown:url}", None),
    ],
)
def test_a_template_is_filled(template: str, expected: str | None) -> None:
    assert fill(template, {"host": "h", "port": "5", "password": "a/{host}", "empty": ""}) == expected


@pytest.mark.parametrize(("template", "where"), [("{", 1), ("a}", 2), ("{host", 1), ("ok {host!r}", 4), ("{{{", 3), ("{1}", 1)])
def test_a_stray_brace_is_refused_with_its_place(template: str, where: int) -> None:
    with pytest.raises(TemplateError, match=f"stray [{{}}] at character {where}:"):
        parse_template(template)
    with pytest.raises(TemplateError):
        fill(template, {"host": "h"})


@pytest.mark.parametrize("template", ["{host:base64}", "{host:}", "{host:url:}", "{host:URL}"])
def test_an_unknown_encoding_is_refused_with_those_there_are(template: str) -> None:
    with pytest.raises(TemplateError, match="the encodings are url, quoted, properties"):
        parse_template(template)


def test_two_encodings_may_follow_one_another_and_no_more() -> None:
    assert fill("{host:quoted:properties}", {"host": '"'}) == r"\u005c" + '"'
    with pytest.raises(TemplateError, match="3 encodings of placeholder host: the maximum is 2"):
        parse_template("{host:quoted:quoted:quoted}")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("{host}{PORT}", "unknown placeholder PORT (did you mean `{port}`?)"),
        ("{standby_uri}", "unknown placeholder standby_uri (did you mean `{standby-uri}`?)"),
        ("{zzz}", "unknown placeholder zzz"),
        ("{zzz}{passwrd}", "unknown placeholder zzz, unknown placeholder passwrd (did you mean `{password}`?)"),
        ("{host}", ""),
    ],
)
def test_unknown_placeholders_are_named_with_what_was_meant(text: str, fault: str) -> None:
    assert faults_in(text) == fault


def test_a_long_template_is_not_kept_parsed() -> None:
    assert parse_template("x" * 512) is parse_template("x" * 512)
    assert parse_template("x" * 513) is not parse_template("x" * 513)


@BOUNDED
@given(
    st.lists(st.sampled_from(["{a}", "{b:url}", "{a:quoted}", "{b:properties}", "{a:quoted:properties}", "{b:url:quoted}",
                              "{a:quoted:quoted}", "{b:properties:properties}", "{{", "é", "x"]), max_size=6),
    st.text(), st.text(),
)  # fmt: skip
def test_the_size_is_known_before_anything_is_built(parts: list[str], a: str, b: str) -> None:
    template, values = parse_template("".join(parts)), {"a": a, "b": b}
    filled = template.fill(values)
    assert filled is not None
    assert template.size(values) == len(filled.encode())


def test_what_cannot_be_filled_has_no_size() -> None:
    assert parse_template("long {unknown}").size({}) == 0


@pytest.mark.parametrize("value", ["a\nb", "a\rb", "a\x0bb", "a\x85b", "a\u2028b", "a\0b", "\n"])
def test_a_value_that_brings_a_line_of_its_own_is_found_out(value: str) -> None:
    assert adds_lines("host={host}\nport=1\n", f"host={value}\nport=1\n")
    assert not adds_lines("host={host}\nport=1\n", "host=a b\nport=1\n")


def test_placeholders_are_named_once_and_without_their_encoding() -> None:
    assert parse_template("{host}{host:url}{{user}}{ca-file}").names == {"host", "ca-file"}


@BOUNDED
@given(st.text())
def test_doubled_braces_give_any_text_back(text: str) -> None:
    assert fill(text.replace("{", "{{").replace("}", "}}"), {}) == text


@BOUNDED
@given(any_text, any_text)
def test_a_value_is_put_in_as_it_is_or_encoded_so_that_it_can_be_read_back(password: str, host: str) -> None:
    values = {"password": password, "host": host}
    assert fill("<{password}>", values) == f"<{password}>"
    encoded = fill("{password:url}", values)
    assert encoded is not None
    assert unquote(encoded) == password
    assert not set(encoded) & set("@:/?#&+ []\"'{}")


def test_every_fault_of_a_template_is_named_at_once_in_its_order() -> None:
    said = faults_in("pg://{usernam}:{passwrd:ur}@{host")
    parts = ["placeholder usernam", "placeholder passwrd", "encoding ur", "and 1 more"]
    assert [said.index(part) for part in parts] == sorted(said.index(part) for part in parts)
    assert "a stray { at character 30" in faults_in("pg://{username}:{password}@{{{host")


def test_only_what_is_shown_is_compared_with_all_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    guesses: list[str] = []

    def count(name: str, known: Sequence[str], n: int) -> list[str]:
        guesses.append(name)
        return get_close_matches(name, known, n=n)

    monkeypatch.setattr("dbclusterref.resource.template.get_close_matches", count)
    found = faults_in("".join(f"{{passwrd{number}}}" for number in range(1000)))
    assert found.endswith("unknown placeholder passwrd2 (did you mean `{password}`?), and 997 more")
    assert guesses == ["passwrd0", "passwrd1", "passwrd2"], "each takes half a millisecond, of everybody's"
