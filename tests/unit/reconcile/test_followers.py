from tests.support.bench import a_bench, change_spec
from tests.support.builders import KEY


async def test_the_next_look_is_that_of_whoever_wants_it_first() -> None:
    bench = a_bench()
    change_spec(bench, refreshInterval="24h", caConfigMap={"name": "orders-ca"})
    assert await bench.reconcile() == 720.0, "the ConfigMap's"
    bench.kubernetes.put_workload("app")
    change_spec(bench, restart=[{"kind": "Deployment", "name": "app"}])
    await bench.reconcile()
    bench.rotate("pw-2")
    body = bench.kubernetes.references[KEY]
    body["metadata"]["annotations"] = {"dbclusterref.io/refresh-requested-at": "now"}
    bench.kubernetes.put_reference(body)
    after = await bench.refresh()
    assert after is not None
    assert after <= 10.0, "the restart's debounce"


async def test_what_is_known_for_a_resource_goes_with_it() -> None:
    bench = a_bench()
    change_spec(bench, caConfigMap={"name": "orders-ca"})
    await bench.reconcile()
    bench.kubernetes.calls.clear()
    bench.kubernetes.remove_reference(KEY)
    await bench.reconcile()
    publisher = bench.reconciler._followers.ca_publisher
    assert publisher._known == {}
    assert "get_config_map" not in bench.kubernetes.calls
