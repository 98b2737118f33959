from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbclusterref.secret.template import TemplateError, fill, placeholders_in
from tests.support.builders import BOUNDED, any_text


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


@pytest.mark.parametrize(
    ("template", "where"),
    [("{", 1), ("a}", 2), ("{host", 1), ("{Host}", 1), ("{host:base64}", 1), ("{host.x}", 1), ("ok {host!r}", 4), ("{{{", 3)],
)
def test_a_stray_brace_is_refused_with_its_place(template: str, where: int) -> None:
    with pytest.raises(TemplateError, match=f"at character {where};"):
        placeholders_in(template)
    with pytest.raises(TemplateError):
        fill(template, {"host": "h"})


def test_placeholders_are_named_once_and_without_their_encoding() -> None:
    assert placeholders_in("{host}{host:url}{{user}}{ca-file}") == {"host", "ca-file"}


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
