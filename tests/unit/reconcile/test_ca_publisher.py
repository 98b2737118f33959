"""`spec.caConfigMap`: the CA beside the Secret, for trust bundles."""

import copy
from collections.abc import Mapping
from typing import Any

import pytest

from dbclusterref.digitalocean.snapshot import pack_cluster
from dbclusterref.errors import KubernetesError
from dbclusterref.resource.objects import ObjectKey
from dbclusterref.resource.status import ConditionType
from dbclusterref.timing import Timing
from tests.support.bench import Bench, a_bench, change_spec, request_refresh
from tests.support.builders import KEY, PEM, UUID, Body, a_cluster
from tests.support.fake_digitalocean import FakeUpstream
from tests.support.fake_time import settle

BUNDLE = ObjectKey("shop", "orders-ca")
OTHER = ObjectKey("shop", "other-ca")
CALLS = {"get_config_map", "apply_config_map", "delete_config_map"}
DENIED = (
    'configmaps "orders-ca" is forbidden: User "system:serviceaccount:dbclusterref-system:dbclusterref" cannot get resource '
    '"configmaps" in API group "" in the namespace "shop"'
)
QUOTA = 'configmaps "orders-ca" is forbidden: exceeded quota: few, requested: configmaps=1, limited: configmaps=5'
POLICY = "configmaps \"orders-ca\" is forbidden: ValidatingAdmissionPolicy 'no-config-maps' denied request: User may not"
NEW_CA = b"-----BEGIN CERTIFICATE-----\nb3RoZXI=\n-----END CERTIFICATE-----\n"


@pytest.fixture
async def bench() -> Bench:
    made = a_bench()
    change_spec(made, caConfigMap={"name": "orders-ca"})
    return made


def state(bench: Bench) -> str:
    found = bench.status().ca_config_map
    return f"{found.name} {found.state}" if found else ""


def message(bench: Bench) -> str:
    return bench.status().conditions[ConditionType.READY].message


def calls(bench: Bench) -> list[str]:
    made = [call for call in bench.kubernetes.calls if call in CALLS]
    bench.kubernetes.calls.clear()
    return made


async def after_the_next_look(bench: Bench) -> None:
    bench.clock.advance(Timing().resync + 60)
    await bench.reconcile()


def foreign(**metadata: Any) -> Body:
    return {"metadata": {"name": "orders-ca", "namespace": "shop", "uid": "theirs", **metadata}, "data": {"ca.crt": "theirs"}}


async def test_the_ca_is_written_with_the_secrets_labels_and_its_owner_and_nothing_secret(bench: Bench) -> None:
    change_spec(bench, secret={"labels": {"team": "shop"}, "annotations": {"example.com/a": "b"}})
    await bench.reconcile()
    made, secret = bench.kubernetes.config_maps[BUNDLE], bench.kubernetes.secrets[KEY]
    assert made["data"] == {"ca.crt": PEM.decode()}
    assert made["metadata"]["labels"] == secret["metadata"]["labels"]
    assert made["metadata"]["ownerReferences"] == secret["metadata"]["ownerReferences"]
    ours = ("reference", "reference-uid", "cluster-uuid")
    assert made["metadata"]["annotations"] == {
        f"dbclusterref.io/{name}": secret["metadata"]["annotations"][f"dbclusterref.io/{name}"] for name in ours
    }
    assert (state(bench), bench.ready) == ("orders-ca Current", (True, "Synced"))
    assert "ConfigMapCreated" in bench.event_reasons


async def test_an_idle_hour_writes_nothing_and_reads_as_rarely_as_the_full_listings(bench: Bench) -> None:
    await bench.reconcile()
    bench.forget_writes()
    calls(bench)
    for _ in range(11):
        await bench.refresh()
    assert calls(bench) == []
    for _ in range(49):
        await bench.refresh()
    assert set(calls(bench)) == {"get_config_map"}
    assert [write for write in bench.kubernetes.writes if "ConfigMap" in write] == []


async def test_without_the_field_no_config_map_is_asked_for(bench: Bench) -> None:
    plain = a_bench()
    await plain.reconcile()
    await plain.refresh()
    assert calls(plain) == []
    assert plain.status().ca_config_map is None
    await bench.reconcile()
    assert calls(bench) == ["get_config_map", "get_config_map", "apply_config_map"], "looked at once more after the status"


async def test_a_restart_writes_nothing_where_all_is_well(bench: Bench) -> None:
    await bench.reconcile()
    bench.forget_writes()
    calls(bench)
    after = bench.restarted()
    await after.reconcile()
    assert (calls(after), after.kubernetes.writes) == (["get_config_map"], [])


@pytest.mark.parametrize("refresh", [True, False], ids=["at a requested refresh", "at the next look"])
@pytest.mark.parametrize("gone", [True, False], ids=["deleted", "edited"])
async def test_what_others_did_to_it_is_repaired(bench: Bench, *, gone: bool, refresh: bool) -> None:
    await bench.reconcile()
    bench.forget_writes()
    if gone:
        del bench.kubernetes.config_maps[BUNDLE]
    else:
        bench.kubernetes.config_maps[BUNDLE]["data"]["ca.crt"] = "theirs"
    if refresh:
        request_refresh(bench)
        await bench.reconcile()
    else:
        await after_the_next_look(bench)
    assert bench.kubernetes.config_maps[BUNDLE]["data"] == {"ca.crt": PEM.decode()}
    assert "ConfigMapRepaired" in bench.event_reasons


async def test_what_others_add_to_it_is_theirs(bench: Bench) -> None:
    await bench.reconcile()
    live = bench.kubernetes.config_maps[BUNDLE]
    live["data"]["extra.crt"] = "x"
    live["metadata"]["labels"]["example.com/x"] = "y"
    bench.forget_writes()
    await after_the_next_look(bench)
    assert [write for write in bench.kubernetes.writes if "ConfigMap" in write] == []


async def test_a_label_that_the_spec_no_longer_has_goes_also_where_it_went_while_no_operator_ran(bench: Bench) -> None:
    change_spec(bench, secret={"labels": {"team": "shop"}})
    await bench.reconcile()
    assert bench.kubernetes.config_maps[BUNDLE]["metadata"]["labels"]["team"] == "shop"
    change_spec(bench, secret={})
    await bench.restarted().reconcile()
    assert "team" not in bench.kubernetes.config_maps[BUNDLE]["metadata"]["labels"]


async def test_another_ca_is_written_at_once(bench: Bench) -> None:
    await bench.reconcile()
    bench.upstream.cas[UUID] = NEW_CA
    bench.clock.advance(60)
    request_refresh(bench)
    await bench.reconcile()
    assert bench.kubernetes.config_maps[BUNDLE]["data"] == {"ca.crt": NEW_CA.decode()}
    assert "ConfigMapUpdated" in bench.event_reasons


@pytest.mark.parametrize(
    "theirs",
    [
        foreign(),
        foreign(annotations={"dbclusterref.io/reference": "orders-db"}),
        foreign(annotations={"dbclusterref.io/reference-uid": "another"}),
        foreign(labels={"app.kubernetes.io/managed-by": "dbclusterref"}),
    ],
)
async def test_one_that_is_not_ours_is_never_changed(bench: Bench, theirs: Body) -> None:
    bench.kubernetes.config_maps[BUNDLE] = copy.deepcopy(theirs)
    await bench.reconcile()
    await after_the_next_look(bench)
    assert bench.kubernetes.config_maps[BUNDLE] == theirs
    assert (state(bench), bench.ready) == ("orders-ca Conflict", (True, "Synced"))
    assert "ConfigMap orders-ca already exists and is not managed by this resource; it was not changed." in message(bench)
    assert "if nothing reads that ConfigMap, delete it" in message(bench)
    assert bench.event_reasons.count("ConfigMapConflict") == 1
    del bench.kubernetes.config_maps[BUNDLE]
    await bench.refresh()
    assert state(bench) == "orders-ca Current"
    assert "orders-ca" not in message(bench)
    assert [reason for reason in bench.event_reasons if reason in {"ConfigMapCreated", "ConfigMapRepaired"}] == [
        "ConfigMapCreated"
    ]


@pytest.mark.parametrize("ours", [True, False])
async def test_the_one_by_which_pods_trust_the_kubernetes_api_is_never_written(bench: Bench, *, ours: bool) -> None:
    """Also where it is missing, as in a namespace that was made just now, and where somebody gave it our annotation."""
    key, uid = ObjectKey("shop", "kube-root-ca.crt"), bench.entry().identity.uid
    change_spec(bench, caConfigMap={"name": key.name})
    annotated = foreign(name=key.name, annotations={"dbclusterref.io/reference-uid": uid})
    before = bench.kubernetes.config_maps = {key: annotated} if ours else {}
    await bench.reconcile()
    await after_the_next_look(bench)
    assert bench.kubernetes.config_maps == before
    assert [write for write in bench.kubernetes.writes if "ConfigMap" in write] == []
    assert state(bench) == "kube-root-ca.crt Conflict"
    assert "Set another spec.caConfigMap.name." in message(bench)
    assert "kubectl delete" not in message(bench)


async def test_one_that_comes_between_the_look_and_the_write_is_not_overwritten(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = bench.kubernetes.get_config_map

    async def too_early(key: ObjectKey) -> Body | None:
        found = await original(key)
        bench.kubernetes.config_maps.setdefault(BUNDLE, foreign())
        return found

    monkeypatch.setattr(bench.kubernetes, "get_config_map", too_early)
    await bench.reconcile()
    assert bench.kubernetes.config_maps[BUNDLE] == foreign()
    await bench.refresh()
    assert state(bench) == "orders-ca Conflict"


async def test_two_resources_that_name_one_config_map_do_not_share_it(bench: Bench) -> None:
    await bench.reconcile()
    other = copy.deepcopy(bench.kubernetes.references[KEY])
    other["metadata"] |= {"name": "second", "uid": "second-uid"}
    other.pop("status")
    bench.kubernetes.put_reference(other)
    second = ObjectKey("shop", "second")
    before = copy.deepcopy(bench.kubernetes.config_maps[BUNDLE])
    await bench.reconcile(second)
    assert bench.kubernetes.config_maps[BUNDLE] == before
    found = bench.status(second).ca_config_map
    assert found
    assert found.state == "Conflict"


async def test_a_new_name_is_written_before_the_former_one_is_removed(bench: Bench) -> None:
    await bench.reconcile()
    bench.forget_writes()
    change_spec(bench, caConfigMap={"name": "other-ca"})
    await bench.reconcile()
    writes = [write for write in bench.kubernetes.writes if "ConfigMap" in write]
    assert writes == ["ConfigMap shop/orders-ca", "ConfigMap shop/other-ca", "ConfigMap shop/orders-ca deleted"]
    assert (state(bench), set(bench.kubernetes.config_maps)) == ("other-ca Current", {OTHER})
    assert "ConfigMapRemoved" in bench.event_reasons


@pytest.mark.parametrize(("wanted", "left"), [({"name": "other-ca"}, {OTHER}), (None, set())])
async def test_one_whose_name_changes_during_its_write_is_removed_although_no_status_names_it(
    bench: Bench, wanted: dict[str, str] | None, left: set[ObjectKey]
) -> None:
    apply = bench.kubernetes.apply_config_map

    async def apply_late(manifest: Mapping[str, object]) -> Body:
        answer = await apply(manifest)
        bench.kubernetes.apply_config_map = apply  # type: ignore[method-assign]
        change_spec(bench, caConfigMap=wanted)
        await settle()
        return answer

    bench.kubernetes.apply_config_map = apply_late  # type: ignore[method-assign]
    await bench.bring_in_line(KEY)
    await bench.bring_in_line(KEY)  # the watch has not told of the former spec's status yet
    assert bench.kubernetes.config_maps.keys() == left


async def test_the_former_one_stays_while_the_new_name_is_taken(bench: Bench) -> None:
    await bench.reconcile()
    bench.kubernetes.config_maps[OTHER] = foreign(name="other-ca")
    change_spec(bench, caConfigMap={"name": "other-ca"})
    await bench.reconcile()
    assert state(bench) == "orders-ca Conflict"
    assert BUNDLE in bench.kubernetes.config_maps
    del bench.kubernetes.config_maps[OTHER]
    await bench.refresh()
    assert (state(bench), set(bench.kubernetes.config_maps)) == ("other-ca Current", {OTHER})


async def test_without_the_name_the_config_map_is_removed_unless_it_is_somebody_elses(bench: Bench) -> None:
    await bench.reconcile()
    change_spec(bench, caConfigMap=None)
    await bench.reconcile()
    assert (state(bench), bench.kubernetes.config_maps) == ("", {})
    change_spec(bench, caConfigMap={"name": "orders-ca"})
    await bench.reconcile()
    bench.kubernetes.config_maps[BUNDLE] = foreign()
    change_spec(bench, caConfigMap=None)
    await bench.reconcile()
    assert (state(bench), bench.kubernetes.config_maps) == ("", {BUNDLE: foreign()})


async def test_a_removal_that_fails_is_tried_again(bench: Bench) -> None:
    await bench.reconcile()
    change_spec(bench, caConfigMap={"name": "other-ca"})
    bench.kubernetes.trouble["delete_config_map"] = KubernetesError("out of order", status=500)
    await bench.reconcile()
    assert state(bench) == "orders-ca Failed"
    bench.kubernetes.trouble.clear()
    await bench.refresh()
    assert (state(bench), set(bench.kubernetes.config_maps)) == ("other-ca Current", {OTHER})


async def test_with_retain_it_has_no_owner_and_a_later_resource_takes_it_back(bench: Bench) -> None:
    change_spec(bench, secret={"deletionPolicy": "Retain"})
    await bench.reconcile()
    made = bench.kubernetes.config_maps[BUNDLE]
    assert "ownerReferences" not in made["metadata"]
    assert made["metadata"]["annotations"]["dbclusterref.io/deletion-policy"] == "Retain"
    body = copy.deepcopy(bench.kubernetes.references[KEY])
    body["metadata"]["uid"] = "recreated"
    del body["status"]
    bench.kubernetes.references[KEY] = body
    after = bench.restarted()
    await after.reconcile()
    assert state(after) == "orders-ca Current"
    assert bench.kubernetes.config_maps[BUNDLE]["metadata"]["annotations"]["dbclusterref.io/reference-uid"] == "recreated"


async def test_without_the_flag_the_status_says_what_to_do_and_nothing_is_asked_for(bench: Bench) -> None:
    off = bench.restarted(ca_config_maps=False)
    await off.reconcile()
    assert (state(off), calls(off)) == ("orders-ca Disabled", [])
    assert "the operator runs without --ca-config-maps. Add deploy/components/ca-config-maps" in message(off)
    assert off.event_reasons.count("ConfigMapDisabled") == 1
    on = off.restarted()
    await on.reconcile()
    assert state(on) == "orders-ca Current"
    assert "--ca-config-maps" not in message(on)


@pytest.mark.parametrize("call", ["get_config_map", "apply_config_map"])
async def test_without_the_right_the_status_says_what_to_grant_and_it_is_written_once_granted(bench: Bench, call: str) -> None:
    bench.kubernetes.trouble[call] = KubernetesError(DENIED, status=403)
    await bench.reconcile()
    assert (state(bench), bench.ready) == ("orders-ca Forbidden", (True, "Synced"))
    assert "Grant its ServiceAccount get, create, patch and delete on ConfigMaps" in message(bench)
    for _ in range(3):
        await bench.refresh()
    assert bench.event_reasons.count("ConfigMapForbidden") == 1
    bench.kubernetes.trouble.clear()
    await bench.refresh()
    assert state(bench) == "orders-ca Current"


@pytest.mark.parametrize("said", [QUOTA, POLICY])
async def test_what_a_quota_or_a_policy_refuses_is_no_missing_right(bench: Bench, said: str) -> None:
    bench.kubernetes.trouble["apply_config_map"] = KubernetesError(said, status=403)
    await bench.reconcile()
    assert state(bench) == "orders-ca Failed"
    assert said in message(bench)
    assert "Grant" not in message(bench)


async def test_without_the_right_and_without_the_name_nothing_is_said(bench: Bench) -> None:
    bench.kubernetes.trouble["get_config_map"] = KubernetesError(DENIED, status=403)
    await bench.reconcile()
    change_spec(bench, caConfigMap=None)
    await bench.reconcile()
    assert state(bench) == ""
    assert "ConfigMap" not in message(bench)


@pytest.mark.parametrize("before", ["", "Disabled", "Current"])
async def test_while_the_ca_is_still_to_come_the_status_says_so_and_what_was_written_stays(bench: Bench, before: str) -> None:
    if before:
        await bench.restarted(ca_config_maps=before == "Current").reconcile()
        assert state(bench) == f"orders-ca {before}"
    written = copy.deepcopy(bench.kubernetes.config_maps)
    bench.kubernetes.remove_secret(KEY) if before else None  # else the CA is taken from there
    after = bench.restarted()
    after.account._cache.put(UUID, pack_cluster(a_cluster()), now=after.clock())
    after.account._reader.ca_schedule.plan(UUID, at=after.clock() + 1)
    await after.reconcile()
    assert after.status().ca_config_map is not None
    assert state(after) == ("orders-ca Current" if before == "Current" else "orders-ca Pending")
    assert bench.kubernetes.config_maps == written


async def test_a_refused_write_is_said_once_whatever_words_the_api_server_finds(bench: Bench) -> None:
    for word in ("first", "second", "third"):
        bench.kubernetes.trouble["apply_config_map"] = KubernetesError(f"quota: {word}", status=422)
        await bench.refresh()
        assert state(bench) == "orders-ca Failed"
        assert "ConfigMap orders-ca could not be written (422); retrying automatically. quota: first" in message(bench)
    assert bench.event_reasons.count("ConfigMapFailed") == 1
    assert bench.metrics.writes.labels(kind="ConfigMap", result="failed")._value.get() == 3


async def test_a_cluster_without_a_ca_has_no_config_map() -> None:
    bench = a_bench()
    bench.upstream = FakeUpstream(clusters={UUID: a_cluster()})
    bench = Bench(bench.kubernetes, bench.upstream, bench.clock)
    bench.upstream.cas[UUID] = b""
    change_spec(bench, caConfigMap={"name": "orders-ca"})
    await bench.reconcile()
    assert (state(bench), bench.kubernetes.config_maps) == ("orders-ca NoCA", {})
    assert bench.ready == (True, "Synced")


async def test_nothing_happens_while_suspended(bench: Bench) -> None:
    await bench.reconcile()
    change_spec(bench, suspend=True)
    del bench.kubernetes.config_maps[BUNDLE]
    await after_the_next_look(bench)
    assert bench.kubernetes.config_maps == {}
    assert state(bench) == "orders-ca Current", "as it was last seen"
    change_spec(bench, suspend=False)
    await bench.reconcile()
    assert BUNDLE in bench.kubernetes.config_maps


# --- a process that ends between the ConfigMap and the status --------------------------------------------------------------

THIRD = ObjectKey("shop", "third-ca")


async def killed_after_its_write(bench: Bench) -> Bench:
    """The process ends once the ConfigMap is written; returns the next process."""
    apply, killed = bench.kubernetes.apply_config_map, KubernetesError("killed", status=0)

    async def apply_at_last(manifest: Mapping[str, object]) -> Body:
        answer = await apply(manifest)
        bench.kubernetes.trouble["*"] = killed
        return answer

    bench.kubernetes.apply_config_map = apply_at_last  # type: ignore[method-assign]
    with pytest.raises(KubernetesError):
        await bench.reconcile()
    bench.kubernetes.apply_config_map = apply  # type: ignore[method-assign]
    bench.kubernetes.trouble.clear()
    return bench.restarted()


@pytest.mark.parametrize("wanted", [{"name": "other-ca"}, None], ids=["renamed", "without a name"])
async def test_the_first_one_is_removed_although_its_process_did_not_live_to_call_it_current(
    bench: Bench, wanted: dict[str, str] | None
) -> None:
    after = await killed_after_its_write(bench)
    assert BUNDLE in after.kubernetes.config_maps
    change_spec(after, caConfigMap=wanted)
    await after.refresh()
    assert set(after.kubernetes.config_maps) == ({OTHER} if wanted else set())


@pytest.mark.parametrize("then", [BUNDLE, OTHER, THIRD, None], ids=["back", "the same", "another", "none"])
async def test_the_one_of_a_new_name_is_removed_although_the_status_has_the_former_still(
    bench: Bench, then: ObjectKey | None
) -> None:
    await bench.reconcile()
    change_spec(bench, caConfigMap={"name": OTHER.name})
    bench.kubernetes.trouble["delete_config_map"] = KubernetesError("out of order", status=500)
    await bench.reconcile()
    bench.kubernetes.trouble.clear()
    assert (state(bench), set(bench.kubernetes.config_maps)) == ("orders-ca Failed", {BUNDLE, OTHER})
    change_spec(bench, caConfigMap={"name": then.name} if then else None)
    after = bench.restarted()
    await after.refresh()
    assert set(after.kubernetes.config_maps) == ({then} if then else set())
    if then:
        assert "dbclusterref.io/next-config-map" not in after.kubernetes.config_maps[then]["metadata"]["annotations"]
        assert state(after) == f"{then.name} Current"


async def test_one_that_somebody_else_has_under_the_next_name_stays(bench: Bench) -> None:
    await bench.reconcile()
    change_spec(bench, caConfigMap={"name": OTHER.name})
    bench.kubernetes.trouble["delete_config_map"] = KubernetesError("out of order", status=500)
    await bench.reconcile()
    bench.kubernetes.trouble.clear()
    bench.kubernetes.config_maps[OTHER] = foreign(name="other-ca")
    change_spec(bench, caConfigMap={"name": THIRD.name})
    after = bench.restarted()
    await after.refresh()
    assert set(after.kubernetes.config_maps) == {OTHER, THIRD}


@pytest.mark.parametrize("name", ["../../other/configmaps/x", "../../../secrets", "..", "x?limit=1", "x/y", "x" * 254])
async def test_a_next_name_that_names_no_config_map_leads_to_no_request(bench: Bench, name: str) -> None:
    await bench.reconcile()
    bench.kubernetes.config_maps[BUNDLE]["metadata"]["annotations"]["dbclusterref.io/next-config-map"] = name
    asked, get = list[ObjectKey](), bench.kubernetes.get_config_map

    async def get_noted(key: ObjectKey) -> Body | None:
        asked.append(key)
        return await get(key)

    bench.kubernetes.get_config_map = get_noted  # type: ignore[method-assign]
    await after_the_next_look(bench)
    change_spec(bench, caConfigMap={"name": "other-ca"})
    await bench.refresh()
    assert set(asked) == {BUNDLE, OTHER}
    assert set(bench.kubernetes.config_maps) == {OTHER}


async def test_a_name_is_in_the_status_before_its_config_map_is_there(bench: Bench) -> None:
    bench.kubernetes.writes.clear()
    await bench.reconcile()
    written = [write.partition(" ")[0] for write in bench.kubernetes.writes]
    assert written == ["Secret", "Status", "ConfigMap", "Status"]
