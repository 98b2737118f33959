"""What msgspec makes of JSON, and what we make of that; see test_model and test_client for the replies themselves."""

import json
import traceback
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw
from msgspec.json import Decoder

from dbclusterref.digitalocean import wire
from dbclusterref.errors import UpstreamUnavailable
from tests.support.builders import CANARY
from tests.support.strategies import BOUNDED

TEXT = Decoder(str | None)
NUMBER = Decoder(int | None)
NESTED = Decoder(dict[str, list[int]])


@pytest.mark.parametrize(
    ("decoder", "content", "said"),
    [
        (TEXT, b"7", "user.name is not a string"),
        (TEXT, b"{}", "user.name is not a string"),
        (NUMBER, b'"CANARY-4f1d"', "user.name is not an integer"),
        (NUMBER, b"true", "user.name is not an integer"),
        (NUMBER, b"1.0", "user.name is not an integer"),
        (NUMBER, b"9" * 5000, "user.name is not a valid value"),
        (Decoder(bool), b'"CANARY-4f1d"', "user.name is not true or false"),
        (Decoder(list[int]), b"{}", "user.name is not a list"),
        (Decoder(wire.UserShape), b"[]", "user.name is not an object"),
        (Decoder(float), b'"CANARY-4f1d"', "user.name is not a valid value"),
        (NESTED, b'{"a": [1, "CANARY-4f1d"]}', "user.name[...][1] is not an integer"),
        (TEXT, b'"\xff"', "user.name is not valid JSON"),
        (TEXT, b'"CANARY-4f1d', "user.name is not valid JSON"),
        (TEXT, b"", "user.name is not valid JSON"),
        (Decoder(object), b"[" * 100_000, "user.name is not valid JSON"),
    ],
)
def test_a_value_of_the_wrong_type_is_named_by_its_path_and_the_expected_type(
    decoder: Decoder[Any], content: bytes, said: str
) -> None:
    with pytest.raises(UpstreamUnavailable) as caught:
        wire.decode(decoder, content, path="user.name")
    assert said in caught.value.message
    assert CANARY not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b"<html>", b"[" * 100_000, b'{"a": 1} x', b'{"ca": {"certificate": "\xff"}}']
)
def test_a_body_that_is_not_one_object_is_called_the_body(content: bytes) -> None:
    with pytest.raises(UpstreamUnavailable, match=r"the body is not (valid JSON|an object)"):
        wire.read_reply(content)


@pytest.mark.parametrize(("commas", "refused"), [(wire.MAX_VALUES, False), (wire.MAX_VALUES + 1, True)])
def test_a_body_of_more_values_than_any_reply_has_is_not_decoded(commas: int, refused: bool) -> None:  # noqa: FBT001
    content = b'{"databases": [' + b"1," * commas + b"1]}"
    if refused:
        with pytest.raises(UpstreamUnavailable, match="too many values"):
            wire.read_reply(content)
    else:
        assert len(wire.read_reply(content).databases or ()) == commas + 1


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        (rb'"\ud800"', rb'"\u0000"'),
        (rb'"\uDFFFx"', rb'"\u0000x"'),
        (rb'"\ud800\ud800\udc00"', rb'"\u0000\ud800\udc00"'),
        (rb'"\udc00\ud800"', rb'"\u0000\u0000"'),
        (rb'"\\ud800"', rb'"\\ud800"'),
        (rb'"\\\ud800"', rb'"\\\u0000"'),
        (rb'"\ud83d\ude00"', rb'"\ud83d\ude00"'),
        (rb'"\u00e9\n"', rb'"\u00e9\n"'),
    ],
)
def test_half_a_character_alone_is_replaced(sent: bytes, kept: bytes) -> None:
    assert bytes(wire.read_reply(b'{"user": ' + sent + b', "x": "\\ud800"}').user) == kept


@BOUNDED
@given(st.text(st.characters(exclude_categories=()), max_size=12))
def test_text_without_half_characters_comes_back_as_it_was_and_any_other_has_a_control_character(text: str) -> None:
    read = TEXT.decode(wire.encode(text))
    assert read is not None
    halves = sum("\ud800" <= character <= "\udfff" for character in json.loads(json.dumps(text)))
    if halves:
        assert read.count("\0") == halves + text.count("\0")
    else:
        assert read == text


@BOUNDED
@given(st.binary(max_size=40))
def test_what_is_only_shown_costs_nothing_whatever_it_is(content: bytes) -> None:
    shown = wire.shown(Raw(content))
    assert shown.isprintable()
    assert len(shown) <= 256
    assert wire.attempt(NUMBER, Raw(content)) is None or content.strip().lstrip(b"-").isdigit()
