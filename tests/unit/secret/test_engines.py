import dataclasses

import pytest

from dbclusterref.resource.template import PLACEHOLDERS, parse_template
from dbclusterref.secret.engines import COMMON, ENGINES, WITHOUT_DATABASE, Engine, engine_of

DOCUMENTED = {"pg", "mysql", "redis", "valkey", "mongodb", "kafka", "opensearch", "advanced_pg", "advanced_mysql"}
# Of one endpoint, and of no use to a user's own template.
INTERNAL = {"uri-path", "uri-query", "given-uri"}

engines = pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES.keys())


def templates(engine: Engine) -> dict[str, str]:
    return {**COMMON, **engine.binding, **engine.env}


def test_every_documented_engine_has_a_table() -> None:
    assert set(ENGINES) == DOCUMENTED


@pytest.mark.parametrize(("before", "after"), [("redis", "valkey"), ("pg", "advanced_pg"), ("mysql", "advanced_mysql")])
def test_engines_that_convert_into_each_other_share_the_type_that_can_never_change(before: str, after: str) -> None:
    assert engine_of(before).type == engine_of(after).type


@engines
def test_tables_use_only_placeholders_that_are_computed(engine: Engine) -> None:
    used = {name for template in templates(engine).values() for name in parse_template(template).names}
    assert used <= PLACEHOLDERS
    assert parse_template(engine.uri).names | parse_template(engine.jdbc).names <= PLACEHOLDERS | INTERNAL
    assert set(engine.needs) <= PLACEHOLDERS


@engines
def test_no_secret_is_written_without_a_host_and_a_password(engine: Engine) -> None:
    assert {"host", "password"} <= set(engine.needs)
    assert {"host", "password"} <= set(engine_of("scylla").needs)


@engines
def test_the_two_key_sets_are_told_apart_by_their_case(engine: Engine) -> None:
    assert [key for key in engine.env if key != key.upper()] == []
    assert [key for key in {**COMMON, **engine.binding} if key == key.upper()] == []


@engines
def test_an_engines_binding_adds_to_the_common_keys_and_replaces_none(engine: Engine) -> None:
    assert not set(engine.binding) & set(COMMON)


@engines
def test_credentials_are_in_no_jdbc_url_and_no_key_is_called_ssl(engine: Engine) -> None:
    assert not parse_template(engine.jdbc).names & {"username", "password", "userinfo"}
    assert "ssl" not in templates(engine)


@engines
def test_only_what_drivers_understand_stands_before_the_colon(engine: Engine) -> None:
    # SQLAlchemy refuses postgres://; everything else here is TLS by its name.
    scheme = engine.uri.partition("://")[0]
    assert scheme in {"postgresql", "mysql", "rediss", "mongodb+srv", "https", ""}


def test_an_engine_nobody_has_heard_of_gets_its_own_type_and_its_uri_as_given() -> None:
    assert engine_of("scylla").type == "scylla"
    assert engine_of("scylla").uri == "{given-uri}"


def test_kafka_and_opensearch_have_no_databases() -> None:
    assert sorted(WITHOUT_DATABASE) == ["kafka", "opensearch"]


def test_a_table_cannot_be_changed_at_run_time() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        engine_of("pg").type = "x"  # type: ignore[misc]
