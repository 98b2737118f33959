import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from dbclusterref.commands.render import KNOWN_FIELDS, MASK, render
from dbclusterref.errors import SettingsError
from tests.support.builders import PEM, cluster_body, pool_body, reference_body, replica_body

ROOT = Path(__file__).parents[3]


class Rendering:
    """A directory with what `render` reads."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.reference = reference_body()
        self.cluster = cluster_body(password="CANARY")
        self.answer: object = None

    def put(self, name: str, content: object) -> str:
        file = self.directory / name
        file.write_text(content if isinstance(content, str) else json.dumps(content))
        return str(file)

    def run(self, *flags: str) -> tuple[int, str]:
        reference = self.put("reference.yaml", yaml.safe_dump(self.reference))
        cluster = self.put("cluster.json", {"database": self.cluster} if self.answer is None else self.answer)
        given = dict(zip(flags[::2], flags[1::2], strict=True)) if "--reveal" not in flags else {}
        given |= dict(zip(flags[1::2], flags[2::2], strict=True)) if flags[:1] == ("--reveal",) else {}
        out = io.StringIO()
        status = render(
            reference=given.get("--reference", reference),
            cluster=given.get("--cluster", cluster),
            ca=given.get("--ca"),
            user=given.get("--user"),
            pool=given.get("--pool"),
            replicas=given.get("--replicas"),
            password=given.get("--password"),
            reveal="--reveal" in flags,
            out=out,
        )
        return status, out.getvalue()

    def shown(self, *flags: str) -> dict[str, Any]:
        status, text = self.run(*flags)
        assert status == 0, text
        shown: dict[str, Any] = yaml.safe_load(text)
        return shown


@pytest.fixture
def rendering(tmp_path: Path) -> Rendering:
    return Rendering(tmp_path)


def test_the_secret_is_shown_with_every_value_masked(rendering: Rendering) -> None:
    status, text = rendering.run()
    assert status == 0
    assert "CANARY" not in text
    shown = yaml.safe_load(text)
    assert (shown["kind"], shown["metadata"]["name"]) == ("Secret", "orders-db")
    data = shown["stringData"]
    assert {name for name, value in data.items() if value == MASK} >= {"password", "standby-uri", "PGPASSWORD", "DATABASE_URL"}
    assert data["host"] == rendering.cluster["private_connection"]["host"]
    assert text.startswith("# Secret values are masked; --reveal shows them.")


def test_an_owner_that_was_never_applied_is_left_out_so_that_the_secret_survives(rendering: Rendering) -> None:
    rendering.reference["metadata"] = {"name": "orders-db"}
    assert "ownerReferences" not in rendering.shown()["metadata"]


def test_doctls_list_and_the_bare_cluster_will_do_too(rendering: Rendering) -> None:
    other = rendering.cluster | {"id": "00000000-0000-4000-8000-000000000001"}
    for answer in ([other, rendering.cluster], {"databases": [other, rendering.cluster]}, rendering.cluster):
        rendering.answer = answer
        assert rendering.shown()["stringData"]["host"] == rendering.cluster["private_connection"]["host"]


def test_another_clusters_answer_is_refused(rendering: Rendering) -> None:
    rendering.cluster["id"] = "00000000-0000-4000-8000-000000000001"
    with pytest.raises(SettingsError, match=r"^--cluster: .* holds cluster 00000000-.*1, not .* \(spec.clusterUUID\)"):
        rendering.run()
    rendering.answer = []
    with pytest.raises(SettingsError, match="holds 0 other clusters"):
        rendering.run()


def test_another_kind_is_refused(rendering: Rendering) -> None:
    rendering.reference["kind"] = "Deployment"
    with pytest.raises(SettingsError, match=r"is a Deployment of .*; give a DatabaseClusterRef"):
        rendering.run()


def test_unknown_fields_are_named_with_their_lines(rendering: Rendering) -> None:
    file = rendering.put(
        "typo.yaml",
        f"kind: DatabaseClusterRef\nmetadata: {{name: x}}\nspec:\n  clusterUUID: {rendering.cluster['id']}\n"
        "  refreshIntervall: 1m\n  secret:\n    nmae: x\n",
    )
    with pytest.raises(SettingsError, match=r"unknown field spec\.refreshIntervall \(line 5\), spec\.secret\.nmae \(line 7\)"):
        rendering.run("--reference", file)


def test_standard_input_is_read_once(rendering: Rendering, monkeypatch: pytest.MonkeyPatch) -> None:
    text = json.dumps([rendering.cluster]).encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
    assert rendering.run("--cluster", "-")[0] == 0
    with pytest.raises(SettingsError, match="only one option may read standard input"):
        rendering.run("--cluster", "-", "--user", "-")


def test_the_known_fields_are_those_of_the_schema() -> None:
    crd = yaml.safe_load((ROOT / "crds" / "dbclusterref.io_databaseclusterrefs.yaml").read_text())
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]

    def tree(node: dict[str, Any]) -> Any:
        below = node.get("properties")
        return {name: tree(one) for name, one in below.items()} if below else None

    assert tree(schema["properties"]["spec"]) == KNOWN_FIELDS["spec"]


def test_reveal_shows_the_values_ready_to_apply(rendering: Rendering) -> None:
    shown = rendering.shown("--reveal", "--ca", rendering.put("ca.pem", PEM.decode()))
    assert shown["stringData"]["password"] == "CANARY"
    assert shown["stringData"]["ca.crt"] == PEM.decode()
    assert "data" not in shown


def test_a_resource_that_was_never_applied_will_do(rendering: Rendering) -> None:
    rendering.reference["metadata"] = {"name": "orders-db"}
    assert rendering.shown()["metadata"]["namespace"] == "default"


def test_where_there_would_be_no_secret_the_reason_is_shown_and_the_exit_status_is_1(rendering: Rendering) -> None:
    rendering.cluster = cluster_body(password="")
    status, text = rendering.run()
    assert status == 1
    assert text.startswith("# no Secret: MissingScope: ")


def test_a_wrong_resource_says_which_field(rendering: Rendering) -> None:
    rendering.reference["spec"]["refreshInterval"] = "1s"
    status, text = rendering.run()
    assert status == 1
    assert "InvalidSpec: spec.refreshInterval" in text


def test_a_user_that_the_cluster_lists_needs_no_answer_of_its_own(rendering: Rendering) -> None:
    rendering.reference["spec"]["user"] = "app"
    assert rendering.shown("--reveal")["stringData"]["username"] == "app"


def test_another_user_or_pool_comes_from_its_own_answer(rendering: Rendering) -> None:
    rendering.reference["spec"]["user"] = "late"
    user = rendering.put("user.json", {"user": {"name": "late", "password": "x"}})
    assert rendering.shown("--reveal", "--user", user)["stringData"]["username"] == "late"
    rendering.reference["spec"] |= {"user": "", "pool": "p"}
    pool = rendering.put("pool.json", {"pool": pool_body("p", password="x")})
    assert rendering.shown("--reveal", "--pool", pool)["stringData"]["host"] == "pool-orders.db.example.com"


@pytest.mark.parametrize("bare", [False, True])
def test_read_only_replicas_come_from_their_own_answer(rendering: Rendering, *, bare: bool) -> None:
    rendering.reference["spec"] |= {"secret": {"endpoints": ["Private", "Replicas"]}}
    with pytest.raises(SettingsError, match=r"^--replicas: .*read-only replicas"):
        rendering.run()
    found = [replica_body("read-2"), replica_body("read-1")]
    replicas = rendering.put("replicas.json", found if bare else {"replicas": found})
    data = rendering.shown("--replicas", replicas)["stringData"]
    assert data["replica-host"] == "private-read-1-orders.db.example.com"
    assert data["replica-uri"] == MASK
    rendering.cluster["engine"] = "valkey"
    assert "replica-host" not in rendering.shown()["stringData"], "which need no answer"


def test_without_the_users_or_pools_answer_no_other_one_is_shown_in_its_place(rendering: Rendering) -> None:
    rendering.reference["spec"]["user"] = "late"
    with pytest.raises(SettingsError, match=r"^--user: .*late"):
        rendering.run()
    rendering.reference["spec"] |= {"user": "", "pool": "p"}
    with pytest.raises(SettingsError, match=r"^--pool: .*pool p"):
        rendering.run()


def test_a_file_that_cannot_be_read_is_named(rendering: Rendering) -> None:
    with pytest.raises(SettingsError, match=r"missing\.pem cannot be read"):
        rendering.run("--ca", str(rendering.directory / "missing.pem"))
    with pytest.raises(SettingsError, match=r"missing\.json cannot be read: it does not exist"):
        rendering.run("--user", str(rendering.directory / "missing.json"))
    with pytest.raises(SettingsError, match=r"bad\.json cannot be read"):
        rendering.run("--user", rendering.put("bad.json", "a: b: CANARY"))
    with pytest.raises(SettingsError, match=r"list\.json holds no object"):
        rendering.run("--user", rendering.put("list.json", []))


def test_a_resource_without_a_name_is_refused(rendering: Rendering) -> None:
    rendering.reference = {"spec": {}}
    with pytest.raises(SettingsError, match=r"--reference: .* has no metadata.name"):
        rendering.run()


@pytest.fixture
def without_password(rendering: Rendering) -> Rendering:
    """A MongoDB, whose password is in no answer, and a resource that names a Secret with it."""
    rendering.cluster = cluster_body(engine="mongodb", password="")
    rendering.reference["spec"]["passwordSecretRef"] = {"name": "orders-password"}
    return rendering


def test_a_supplied_password_completes_the_secret_and_is_masked(without_password: Rendering) -> None:
    file = without_password.put("password", "CANARY\n")
    assert without_password.shown("--reveal", "--password", file)["stringData"]["password"] == "CANARY"
    status, text = without_password.run("--password", file)
    assert (status, yaml.safe_load(text)["stringData"]["password"]) == (0, MASK)
    assert "CANARY" not in text


def test_a_password_comes_from_standard_input(without_password: Rendering, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"sesame\n")))
    assert without_password.shown("--reveal", "--password", "-")["stringData"]["password"] == "sesame"


def test_a_password_that_is_needed_is_asked_for(without_password: Rendering) -> None:
    with pytest.raises(SettingsError, match=r"--password: .* names Secret orders-password for it \(spec\.passwordSecretRef\)"):
        without_password.run()


@pytest.mark.parametrize("content", ["", "\n", "CANARY\nevil=1", "CANARY\0"])
def test_what_is_no_password_is_refused_and_not_shown(without_password: Rendering, content: str) -> None:
    with pytest.raises(SettingsError, match="must hold the password, one line of text") as raised:
        without_password.run("--password", without_password.put("password", content))
    assert "CANARY" not in str(raised.value)


def test_a_password_that_the_operator_would_not_use_is_refused(rendering: Rendering) -> None:
    with pytest.raises(SettingsError, match=r"add spec\.passwordSecretRef"):
        rendering.run("--password", rendering.put("password", "sesame"))


def test_a_secret_of_a_type_of_its_own_is_shown(rendering: Rendering) -> None:
    rendering.reference["spec"]["secret"] = {
        "type": "Opaque", "keySets": ["Env"], "endpoints": ["Standby"], "missingStandby": "UsePrimary", "tls": "Encrypt",
        "deletionPolicy": "Retain",
    }  # fmt: skip
    assert rendering.shown()["type"] == "Opaque"


def test_the_one_reference_among_several_documents_is_taken(rendering: Rendering) -> None:
    several = "kind: Deployment\napiVersion: apps/v1\n---\n" + yaml.safe_dump(rendering.reference) + "---\n"
    assert rendering.shown("--reference", rendering.put("several.yaml", several))["metadata"]["name"] == "orders-db"
    rendering.reference["spec"]["wrong"] = 1
    several = "kind: Deployment\napiVersion: apps/v1\n---\n" + yaml.safe_dump(rendering.reference)
    line = several.splitlines().index("  wrong: 1") + 1
    with pytest.raises(SettingsError, match=rf"unknown field spec\.wrong \(line {line}\)"):
        rendering.run("--reference", rendering.put("several.yaml", several))


def test_the_reference_of_the_sample_application_is_taken(rendering: Rendering) -> None:
    sample = ROOT / "deploy" / "samples" / "application.yaml"
    assert rendering.shown("--reference", str(sample))["metadata"]["name"] == "orders-env"


def test_several_references_or_none_are_refused(rendering: Rendering) -> None:
    text = yaml.safe_dump(rendering.reference)
    with pytest.raises(SettingsError, match=r"^--reference: .* holds 2 DatabaseClusterRefs; give a file with one"):
        rendering.run("--reference", rendering.put("two.yaml", f"{text}---\n{text}"))
    with pytest.raises(SettingsError, match=r"^--reference: .* holds 2 documents and no DatabaseClusterRef"):
        rendering.run("--reference", rendering.put("none.yaml", "kind: Pod\n---\nkind: Service\n"))
    with pytest.raises(SettingsError, match=r"c\.yaml holds several documents; give a file with one"):
        rendering.run("--cluster", rendering.put("c.yaml", "a: 1\n---\nb: 1\n"))


def test_what_the_missing_ca_would_change_is_said(rendering: Rendering) -> None:
    _, text = rendering.run()
    assert "# Without --ca these keys are missing: ca.crt, certificates" in text
    rendering.reference["spec"]["secret"] = {"mountPath": "/bindings/orders-db"}
    _, text = rendering.run()
    (line,) = [line for line in text.splitlines() if line.startswith("# Without --ca")]
    assert "missing: " in line
    assert "ca.crt, certificates, sslrootcert" in line
    assert "differ: " in line
    assert "# Without --ca" not in rendering.run("--ca", rendering.put("ca.pem", PEM.decode()))[1]


def test_what_ready_would_note_is_said(rendering: Rendering) -> None:
    rendering.reference["spec"]["secret"] = {"template": {"URL": "{replica-uri}"}}
    assert "# Left out, because spec.secret.endpoints does not contain Replicas: URL.\n" in rendering.run()[1]


def test_the_flag_that_was_given_is_the_one_that_is_named(rendering: Rendering) -> None:
    rendering.reference["spec"]["user"] = "reporting"
    with pytest.raises(SettingsError, match=r"^--user: .*cluster\.json, of --cluster, lists no user reporting \(spec\.user\)"):
        rendering.run()
