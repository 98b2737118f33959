"""What a message tells a person to run works as it stands: each command is pasted into a shell beside a real API server."""

import ast
import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import yaml

from dbclusterref.commands.reasons import REASONS
from dbclusterref.digitalocean.tokens import OperatorToken, Tokens
from dbclusterref.errors import Cause, PasswordSecretForbidden, TokenSecretForbidden
from dbclusterref.kube.client import KubernetesApi
from dbclusterref.kube.config import load_configuration
from dbclusterref.reconcile.passwords import Passwords
from dbclusterref.resource.objects import ObjectKey
from dbclusterref.resource.reference import Reference
from sandbox.controlplane.kubeconfig import by_token, write_kubeconfig
from tests.e2e.cluster import ROOT, Tenant, encoded, wait_until
from tests.e2e.conftest import Served, StartOperator
from tests.e2e.sandbox import Sandbox

pytestmark = pytest.mark.e2e

COMMAND = re.compile(r"`((?:kubectl|dbclusterref) [^`]+)`|: ((?:kubectl|dbclusterref) .+?)(?=\.? *$|\. [A-Z])")
TRIED = {
    "create role", "create rolebinding", "create secret", "delete secret", "annotate secret", "get secret", "get dbref",
    "get pods", "explain dbref", "rollout status", "patch dbref", "patch secret", "delete configmap",
}  # fmt: skip
"""The kinds of commands that the tests below run."""
KIND = re.compile(r"kubectl ((?:create|delete|annotate|get|apply|patch|label|explain|wait|rollout) \w+)")
LOOKS_AGAIN = 45.0
"""Seconds: "within 30 seconds", on a busy machine."""


def commands_in(message: str) -> list[str]:
    return [quoted or plain for quoted, plain in COMMAND.findall(message)]


class Shell:
    """A person's terminal: the administrator's kubeconfig, and both programs in the path."""

    def __init__(self, sandbox: Sandbox, folder: Path) -> None:
        program = folder / "dbclusterref"
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -P -m dbclusterref "$@"\n')
        program.chmod(0o755)
        self._environ = {
            "PATH": f"{folder}:{sandbox.assets}:{os.environ['PATH']}",
            "KUBECONFIG": str(sandbox.kubeconfig),
            "KUBECACHEDIR": str(sandbox.kubeconfig.parent / "kubectl"),
        }

    def paste(self, command: str, *, given: str = "") -> str:
        done = subprocess.run(
            ["sh", "-c", command], env=self._environ, input=given, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout


@pytest.fixture
def shell(served: Served, tmp_path: Path) -> Shell:
    return Shell(served.sandbox, tmp_path)


@pytest.fixture
def reference(tenant: Tenant) -> Reference:
    spec = {
        "clusterUUID": "9cc10173-e9ea-4176-9dbc-a4cee4c4ff30",
        "apiTokenSecretRef": {"name": "do-token"},
        "passwordSecretRef": {"name": "orders-password"},
    }
    return Reference.from_body({"metadata": {"name": "orders-db", "namespace": tenant.namespace, "uid": "u"}, "spec": spec})


class Account:
    """A ServiceAccount without any right, looking for tokens and passwords as the operator does."""

    def __init__(self, served: Served, tenant: Tenant, folder: Path) -> None:
        sandbox = served.sandbox
        sandbox.kubectl("-n", tenant.namespace, "create", "serviceaccount", "least")
        token = sandbox.kubectl("-n", tenant.namespace, "create", "token", "least").stdout.strip()
        self._kubeconfig = write_kubeconfig(
            folder / "least", url=sandbox.admin.server, ca=sandbox.admin.ca, user=by_token(token), namespace=tenant.namespace
        )

    def token(self, reference: Reference) -> str:
        return self._ask(
            lambda api: Tokens(api, own=OperatorToken(), allowed=(), clock=lambda: 0.0).find(reference, fresh=True)
        )

    def password(self, reference: Reference) -> str:
        return self._ask(lambda api: Passwords(api).find(reference))

    def _ask(self, question: Callable[[KubernetesApi], Awaitable[str]]) -> str:
        async def ask() -> str:
            api = KubernetesApi(await load_configuration({"KUBECONFIG": str(self._kubeconfig)}), user_agent="test")
            try:
                return await question(api)
            finally:
                await api.close()

        return asyncio.run(ask())


@pytest.fixture
def account(served: Served, tenant: Tenant, tmp_path: Path) -> Account:
    return Account(served, tenant, tmp_path)


def answered(question: Callable[[Reference], str], reference: Reference) -> str | None:
    """None while a cause stands in the way."""
    try:
        return question(reference)
    except Cause:
        return None


def test_a_secret_that_may_not_be_read_is_named_with_commands_that_grant_it(
    tenant: Tenant, account: Account, reference: Reference, shell: Shell
) -> None:
    tenant.create_secret("orders-password", data={"password": encoded("sesame")})
    tenant.create_secret("another", data={"token": encoded("x")})
    asked = ((account.token, TokenSecretForbidden, tenant.token), (account.password, PasswordSecretForbidden, "sesame"))
    for question, cause, answer in asked:
        with pytest.raises(cause) as raised:
            question(reference)
        (command,) = commands_in(raised.value.message)
        shell.paste(command)
        assert wait_until(lambda ask=question: answered(ask, reference), what=command) == answer  # type: ignore[misc]
    user = f"system:serviceaccount:{tenant.namespace}:least"
    listed = shell.paste(f"kubectl auth can-i get secret/another -n {tenant.namespace} --as={user} || true")
    assert listed.strip() == "no", "it was granted more than it asked for"


def test_a_secret_that_is_missing_is_created_by_the_command_of_the_message(tenant: Tenant, shell: Shell) -> None:
    tenant.admin.delete(tenant.secret_path("do-token"))
    cluster = tenant.control.create_cluster(engine="mongodb")["id"]
    tenant.refer(cluster, passwordSecretRef={"name": "orders-password"})
    for reason, given in (("TokenSecretMissing", tenant.token), ("PasswordMissing", "sesame")):
        conditions = tenant.wait_for(reason)["status"]["conditions"]
        (command,) = {one for condition in conditions for one in commands_in(condition["message"])}
        shell.paste(command, given=f"{given}\n")
    tenant.wait_for("Synced")


def test_a_password_that_is_never_shown_is_put_where_the_command_of_the_message_says(tenant: Tenant, shell: Shell) -> None:
    tenant.refer(tenant.control.create_cluster(engine="mongodb")["id"])
    message = tenant.wait_for("PasswordMissing")["status"]["conditions"][0]["message"]
    (command,) = commands_in(message)
    shell.paste(command, given="sesame\n")
    tenant.wait_for("Synced")
    assert "name that Secret in spec.passwordSecretRef" in message


def test_a_credential_is_put_into_the_very_secret_by_the_command_of_the_message(tenant: Tenant, shell: Shell) -> None:
    """Each fault of its Secret in turn; what else is in that Secret stays, and no annotation repeats the credential."""
    cluster = tenant.control.create_cluster(engine="mongodb")["id"]
    path = tenant.secret_path("credentials")
    tenant.create_secret("credentials", data={"api": encoded("unknown"), "pw": encoded("two\nlines"), "other": encoded("kept")})
    owner = tenant.admin.get(tenant.secret_path("do-token"))["metadata"]["uid"]
    owners = [{"apiVersion": "v1", "kind": "Secret", "name": "do-token", "uid": owner}]
    tenant.admin.patch(path, {"metadata": {"labels": {"team": "orders"}, "ownerReferences": owners}})
    reference = {"name": "credentials", "key": "api"}
    tenant.refer(cluster, apiTokenSecretRef=reference, passwordSecretRef={"name": "credentials", "key": "pw"})
    for reason, given, next_data in (
        ("TokenInvalid", tenant.token, {"api": encoded("")}),
        ("TokenSecretMissing", tenant.token, {"api": None}),
        ("TokenSecretMissing", tenant.token, {"api": encoded("not a token")}),
        ("TokenInvalid", tenant.token, None),
        ("PasswordMissing", "sesame", {"pw": None}),
        ("PasswordMissing", "sesame", None),
    ):
        message = tenant.wait_for(reason, kind="Stalled", within=LOOKS_AGAIN)["status"]["conditions"]
        (command,) = {one for condition in message for one in commands_in(condition["message"])}
        shell.paste(command, given=f"{given}\n")
        found = tenant.admin.get(path)
        assert found["data"]["other"] == encoded("kept")
        assert (found["metadata"]["labels"], found["metadata"]["ownerReferences"]) == ({"team": "orders"}, owners)
        assert "annotations" not in found["metadata"]
        if next_data:
            tenant.wait_for("PasswordMissing" if "api" in next_data else "Synced", within=LOOKS_AGAIN)
            tenant.admin.patch(path, {"data": next_data})
            tenant.ask_for_refresh()
    tenant.wait_for("Synced", within=LOOKS_AGAIN)


def test_the_operators_own_token_is_replaced_by_the_command_of_the_message(
    lone: Tenant, start_operator: StartOperator, sandbox: Sandbox, tmp_path: Path
) -> None:
    """Nobody mounts the Secret here, so that its token is copied into the operator's file."""
    file = tmp_path / "token"
    file.write_text("unknown")
    lone.create_secret("own", data={"token": encoded("unknown"), "other": encoded("kept")})
    flags = (f"--token-file={file}", "--token-secret=own", "--token-namespaces=*")
    start_operator(*flags, environ={"POD_NAMESPACE": lone.namespace})
    lone.refer(lone.control.create_cluster(tags=lone.grant)["id"], own_token=False)
    message = lone.wait_for("TokenInvalid")["status"]["conditions"][0]["message"]
    (command,) = commands_in(message)
    Shell(sandbox, tmp_path).paste(command, given=lone.token)
    secret = lone.secret("own")
    assert secret
    assert secret["data"] == {"token": encoded(lone.token), "other": encoded("kept")}
    file.write_text(lone.token)
    lone.wait_for("Synced", within=LOOKS_AGAIN)


def test_a_secret_that_is_in_the_way_is_adopted_or_deleted_by_the_commands_of_the_message(tenant: Tenant, shell: Shell) -> None:
    cluster = tenant.control.create_cluster()["id"]
    config_maps = f"/api/v1/namespaces/{tenant.namespace}/configmaps"
    uid = tenant.admin.create(config_maps, {"metadata": {"name": "owner"}})["metadata"]["uid"]
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": uid, "controller": True}
    for name, type_ in (("adopted", "Opaque"), ("deleted", "example.com/other"), ("owned", "Opaque")):
        tenant.create_secret(name, data={"x": encoded("y")}, type_=type_)
        if name == "owned":
            tenant.admin.patch(tenant.secret_path(name), {"metadata": {"ownerReferences": [owner]}})
        tenant.refer(cluster, name=name)
    for name in ("adopted", "deleted", "owned"):
        message = tenant.wait_for("SecretConflict", name=name)["status"]["conditions"][0]["message"]
        # One of a type that can never change is for a person to look at first: no command deletes it.
        (command,) = commands_in(message) or [f"kubectl delete secret -n {tenant.namespace} deleted"]
        assert ("once the present one has been deleted" in message) == (name == "deleted")
        shell.paste(command)
    for name in ("adopted", "deleted", "owned"):
        tenant.wait_for("Synced", name=name, within=LOOKS_AGAIN)
    # As the message about a ConfigMap in the way has it, for which the operator here has no flag.
    shell.paste(f"kubectl delete configmap -n {tenant.namespace} owner")
    assert tenant.admin.find(f"{config_maps}/owner") is None


def test_the_field_managers_of_a_contested_secret_are_shown_by_the_command_of_the_message(tenant: Tenant, shell: Shell) -> None:
    tenant.ready(tenant.control.create_cluster()["id"])

    def overwrite() -> bool:
        secret = tenant.secret()
        if secret and secret["data"]["password"] != encoded("mine"):
            tenant.admin.patch(f"{tenant.secret_path()}?fieldManager=rival", {"data": {"password": encoded("mine")}})
        return bool(tenant.condition("Stalled")["reason"] == "SecretContested")

    wait_until(overwrite, what="a contested Secret")
    (command,) = commands_in(tenant.condition("Stalled")["message"])
    assert "rival" in shell.paste(command)


def test_each_command_that_explain_prints_works(tenant: Tenant, shell: Shell) -> None:
    tenant.ready(tenant.control.create_cluster()["id"])
    tried = set()
    for reason, explanation in REASONS.items():
        for command in commands_in(explanation.to_do(ObjectKey(tenant.namespace, "orders-db"), secret="orders-db")):
            shell.paste(command)
            tried.add(reason)
    assert {"Pending", "Suspended", "SecretContested"} <= tried


def test_each_command_in_the_resources_documentation_works(tenant: Tenant, shell: Shell) -> None:
    cluster = tenant.control.create_cluster()["id"]
    tenant.admin.delete(tenant.secret_path("do-token"))
    tenant.refer(cluster)
    crd = yaml.safe_load((ROOT / "crds" / "dbclusterref.io_databaseclusterrefs.yaml").read_text())
    commands = {command for text in texts_of(crd) for command in commands_in(text)}
    assert len(commands) >= 4
    names = {"NAMESPACE": tenant.namespace, "NAME": "orders-db", "UUID": cluster}
    # The Secrets come first: the resource is waited for.
    for command in sorted(commands):
        filled = re.sub(r"\b[A-Z]{4,}\b", lambda match: names[match[0]], command)
        assert "-n NAMESPACE" in command or " -A " in command, command
        shown = shell.paste(filled, given=tenant.token)
        assert shown, command


def texts_of(tree: object) -> Iterator[str]:
    """Every description and message in a schema."""
    if isinstance(tree, dict):
        yield from (tree[name] for name in ("description", "message") if isinstance(tree.get(name), str))
        for value in tree.values():
            yield from texts_of(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from texts_of(value)


def test_a_rollout_is_shown_by_the_command_of_the_message(tenant: Tenant, shell: Shell) -> None:
    """The message itself comes after minutes; its unit test has the same command."""
    labels = {"app": "app"}
    pod = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "app", "image": "app"}]}}
    body = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "app"},
        "spec": {"replicas": 0, "selector": {"matchLabels": labels}, "template": pod},
    }
    path = f"/apis/apps/v1/namespaces/{tenant.namespace}/deployments"
    generation = tenant.admin.create(path, body)["metadata"]["generation"]
    # As its controller would, which the sandbox does not run.
    tenant.admin.patch(f"{path}/app/status", {"status": {"observedGeneration": generation}})
    assert "successfully rolled out" in shell.paste(f"kubectl rollout status -n {tenant.namespace} deployment/app")


def test_no_kind_of_command_in_a_message_is_left_untried(shell: Shell) -> None:
    found, whole = set(), set()
    for file in (ROOT / "operator").rglob("*.py"):
        tree = ast.parse(file.read_text())
        docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
                found |= set(KIND.findall(node.value))
                whole |= set(re.findall(r"`(kubectl \w+ [^`{]+)`", node.value))
    assert found == TRIED
    named = {"kubectl explain dbref.spec", "kubectl get dbref", "kubectl apply"}
    assert {command.partition(" -")[0] for command in whole} == named
    for command in whole:
        shell.paste(command)
